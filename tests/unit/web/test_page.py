"""The page of a running daemon on doubles, asked as a browser asks it: data, gate, bounds, and live changes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.speed import within
from macvlan_global.doctor.findings import Finding
from macvlan_global.errors import Unavailable
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import AddressRecord, HostAddressesRecord, HostRecord, NameRecord, ReportRecord
from macvlan_global.store.table import Tables
from macvlan_global.web.api import AT_ONCE, EVENTS, ROUTES, encode, openapi
from macvlan_global.web.feed import BACKLOG, VIEWERS_MOST, Viewer
from macvlan_global.web.server import CONNECTIONS_MOST, HEADERS
from testkit.faults import Faults, FaultyStore
from tests.unit.running import ENDPOINT, LAN, SPACE, Running, free_address, running, with_networks
from tests.unit.web.browser import Events, events, get

ROOT = Path(__file__).parents[3]
NOTE = Finding("note", "kernel", "seen", "do")
COMMANDS = {
    "/api/networks": ["networks"],
    "/api/addresses": ["addresses"],
    "/api/addresses?network=lan": ["addresses", "lan"],
    "/api/addresses/remembered": ["addresses", "--remembered"],
    "/api/parents?network=isolated": ["parents", "isolated"],
    "/api/conflicts": ["conflicts"],
}


async def test_the_data_are_those_of_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each path answers what its command prints with --json."""
    async with running(tmp_path, capsys, page=free_address(), findings=[NOTE]) as daemon:
        await with_networks(daemon)
        for path, words in COMMANDS.items():
            answer = await get(daemon.config.page, path)
            assert (answer.status, answer.json) == (200, (await daemon.cli(*words, "--json")).json), path
        status = (await get(daemon.config.page, "/api/status")).json
        told = (await daemon.cli("status", "--json")).json
        assert {**status, "up_seconds": 0} == {**told, "up_seconds": 0}
        doctor = (await get(daemon.config.page, "/api/doctor")).json
        assert doctor == {
            "worst": "note",
            "findings": [{"level": "note", "check": "kernel", "seen": "seen", "do": "do"}],
        }


async def test_a_refusal_is_that_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Kind and text; hosts are those of a cluster only."""
    async with running(tmp_path, capsys, page=free_address()) as daemon:
        for path, words, status in (
            ("/api/addresses?network=none", ("addresses", "none"), 404),
            ("/api/hosts", ("hosts",), 400),
        ):
            answer = await get(daemon.config.page, path)
            assert (answer.status, answer.json["message"]) == (status, (await daemon.cli(*words)).error)


async def test_long_lists_are_whole() -> None:
    """Rows that are encoded in pieces are one list of JSON."""
    for count in (0, 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE):
        rows = [{"row": number} for number in range(count)]
        assert json.loads(await encode(rows)) == rows


async def test_long_answers_are_compressed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a browser that takes that, and no other."""
    async with running(tmp_path, capsys, page=free_address()) as daemon:
        await with_networks(daemon)
        for _ in range(40):
            await daemon.call("IpamDriver.RequestAddress", PoolID=f"{SPACE}/10.65.0.0/24", Address="", Options={})
        for takes, encoding in (("gzip, br", "gzip"), ("identity", None)):
            answer = await get(daemon.config.page, "/api/addresses", Accept_Encoding=takes)
            assert (answer.headers.get("Content-Encoding"), len(answer.json)) == (encoding, 44)


# ---------------------------------------------------------------- OpenAPI


def test_the_openapi_document_is_the_one_in_docs() -> None:
    """docs/openapi.json is what /api/openapi.json answers; this is how to write it anew:

    python -c 'import json; from macvlan_global.web.api import openapi; print(json.dumps(openapi(), indent=1))'
    """
    assert json.loads((ROOT / "docs/openapi.json").read_text()) == openapi()


async def test_the_openapi_document_is_true(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every path that it has answers, with the fields that it names, and every reference leads somewhere."""
    async with running(tmp_path, capsys, page=free_address(), findings=[NOTE], shared=MemoryStore()) as daemon:
        await with_networks(daemon)
        document = (await get(daemon.config.page, "/api/openapi.json")).json
        assert document == openapi()
        for path, operations in document["paths"].items():
            if path == "/api/events":
                assert all(name in operations["get"]["summary"] for name in EVENTS)
                continue
            answer = await get(daemon.config.page, path + ("?network=lan" if path == "/api/parents" else ""))
            assert answer.status == 200, path
            schema = operations["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            _check(answer.json, schema, document, path)
        assert set(document["paths"]) == {f"/api/{route.path}" for route in ROUTES} | {"/api/events"}


def _check(value: Any, schema: dict[str, Any], document: dict[str, Any], where: str) -> None:
    """Compare a value with its schema: fields, lists, and plain types."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for options in (schema.get("anyOf", []),):
        if options:
            chosen = next(each for each in options if (each.get("type") == "null") == (value is None))
            _check(value, chosen, document, where)
            return
    kind = schema.get("type")
    if kind == "array":
        assert isinstance(value, list), where
        for each in value:
            _check(each, schema["items"], document, where)
    elif kind == "object" and "properties" in schema:
        assert set(value) == set(schema["properties"]), where
        for name, each in value.items():
            _check(each, schema["properties"][name], document, f"{where} {name}")
    elif kind:
        types: dict[str, type | tuple[type, ...]] = {
            "string": str,
            "integer": int,
            "number": (int, float),
            "boolean": bool,
            "null": type(None),
            "object": dict,
        }
        assert isinstance(value, types[kind]), where


# --------------------------------------------------------------- the gate


async def test_a_foreign_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """DNS rebinding: neither the files nor the data are given to it."""
    async with running(tmp_path, capsys, page=free_address()) as daemon:
        for path in ("/", "/api/addresses", "/api/events"):
            assert (await get(daemon.config.page, path, Host="evil.example")).status == 421
        assert (await get(daemon.config.page, "/", Host="localhost:1")).status == 200


async def test_each_answer_is_under_the_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing inline, nothing from elsewhere, no cookies; refusals too."""
    async with running(tmp_path, capsys, page=free_address()) as daemon:
        for path in ("/", "/api/networks", "/nothing", "/api/parents?network=none"):
            answer = await get(daemon.config.page, path)
            assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
            assert "Set-Cookie" not in answer.headers
            assert "Access-Control-Allow-Origin" not in answer.headers
        policy = HEADERS["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_it_is_read_only(tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str) -> None:
    """Every other method is refused."""
    async with running(tmp_path, capsys, page=free_address()) as daemon:
        answer = await get(daemon.config.page, "/api/addresses", method=method)
        assert (answer.status, answer.json["message"]) == (405, "the page is read only: GET and HEAD")


async def test_an_address_beyond_loopback_needs_the_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The data ask for it, the files do not; the command shows it, and JSON of it too."""
    port = free_address().rpartition(":")[2]
    async with running(tmp_path, capsys, page=f"0.0.0.0:{port}") as daemon:
        address = f"127.0.0.1:{port}"
        assert (await get(address, "/")).status == 200
        for path in ("/api/networks", "/api/events", "/api/openapi.json"):
            assert (await get(address, path)).status == 401
        assert (await get(address, "/api/networks", Authorization="Bearer wrong")).status == 401
        found = (await daemon.cli("page", "--json")).json
        assert found == {"address": f"0.0.0.0:{port}", "host": "anna", "token": found["token"]}
        assert (await get(address, "/api/networks", Authorization=f"Bearer {found['token']}")).status == 200
        assert (await daemon.cli("page")).text == f"http://0.0.0.0:{port}/#token={found['token']}\n"
        assert found["token"] not in (await get(address, "/")).text


async def test_the_command_prints_the_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And with --open the tunnel; loopback has no token. Without a page it says how to turn it on."""
    async with running(tmp_path, capsys, page=free_address()) as daemon:
        address = daemon.config.page
        assert (await daemon.cli("page")).text == f"http://{address}/\n"
        assert (
            f"ssh -N -L {address.rpartition(':')[2]}:{address} root@anna" in (await daemon.cli("page", "--open")).text
        )
    async with running(tmp_path, capsys) as daemon:
        refused = await daemon.cli("page")
        assert (refused.code, 'add page = "127.0.0.1:8153"' in refused.error) == (1, True)


async def test_an_address_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The driver serves, and says why its page is not there; of two hosts on one machine the first has it."""
    async with (
        running(tmp_path, capsys, page=free_address()) as daemon,
        running(tmp_path, capsys, name="bert", page=daemon.config.page) as other,
    ):
        (problem,) = (await other.cli("status", "--json")).json["problems"]
        assert f"the page cannot be served on {daemon.config.page}: " in problem


async def test_files_are_asked_for_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A browser that has a file is told that it is still the same."""
    async with running(tmp_path, capsys, page=free_address()) as daemon:
        first = await get(daemon.config.page, "/")
        assert first.headers["Content-Type"] == "text/html; charset=utf-8"
        assert (await get(daemon.config.page, "/", If_None_Match=first.headers["Etag"])).status == 304


async def test_clients_are_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One browser more than may look is refused with the reason, one connection more is closed, and all pass again."""
    async with running(tmp_path, capsys, page=free_address()) as daemon:
        host, _, port = daemon.config.page.rpartition(":")
        async with AsyncExitStack() as stack:
            for _ in range(VIEWERS_MOST):
                await (await stack.enter_async_context(events(daemon.config.page))).next("hello")
            answer = await get(daemon.config.page, "/api/events")
            assert (answer.status, answer.json["kind"]) == (503, "Unavailable")
            assert (await get(daemon.config.page, "/api/networks")).status == 200
        async with within(30):
            writers = [(await asyncio.open_connection(host, int(port)))[1] for _ in range(CONNECTIONS_MOST)]
            reader, one_more = await asyncio.open_connection(host, int(port))
            assert await reader.read() == b""
        for each in (*writers, one_more):
            each.close()


async def test_a_viewer_that_is_too_slow_is_let_go_of() -> None:
    """Its stream ends; its browser comes back and reads all anew."""
    viewer = Viewer()
    for number in range(BACKLOG + 1):
        viewer.put(("changed", str(number).encode()))
    assert viewer.lost
    assert await viewer.get() is None


# ------------------------------------------------------------ live changes


async def test_a_change_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A container that comes, with its address as the command has it; its network; a parent that goes down; its end."""
    async with running(tmp_path, capsys, page=free_address()) as daemon, events(daemon.config.page) as stream:
        assert (await stream.next())[1]["live"] is True
        await with_networks(daemon)
        while not (put := _put(await stream.next("addresses"), "10.65.0.9")) or put["kind"] != "endpoint":
            pass
        (shown,) = [
            each for each in (await get(daemon.config.page, "/api/addresses")).json if each["kind"] == "endpoint"
        ]
        assert put == shown | {"network": put["network"]}  # its name is learnt from the engine, at the next question
        while _state(await stream.next("report"), "eth2") != "down":
            pass
        await daemon.call("NetworkDriver.DeleteEndpoint", NetworkID=LAN, EndpointID=ENDPOINT)
        await daemon.call("IpamDriver.ReleaseAddress", PoolID="macvlan-global/10.65.0.0/24", Address="10.65.0.9")
        while {"space": "macvlan-global", "address": "10.65.0.9"} not in (await stream.next("addresses"))[1]["gone"]:
            pass


async def test_a_change_of_another_host_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its address, its report, and that it went; on a host that has a page, by one that has none."""
    store = MemoryStore()
    async with (
        running(tmp_path, capsys, name="anna", shared=store.client(), page=free_address()) as anna,
        events(anna.config.page) as stream,
    ):
        while not (await stream.next("hello"))[1]["live"]:
            pass
        async with running(tmp_path, capsys, name="bert", shared=store.client(), findings=[NOTE]) as bert:
            await with_networks(bert)
            while not (put := _put(await stream.next("addresses"), "10.65.0.9")) or put["kind"] != "endpoint":
                pass
            assert put["host"] == "bert"
            while (report := (await stream.next("report"))[1])["name"] != "bert" or not report["networks"]:
                pass
            reports = (await get(anna.config.page, "/api/reports")).json
            assert [each["name"] for each in reports] == ["anna", "bert"]
            assert "page" not in bert.config.page
        while "hosts" not in (await stream.next("changed"))[1]["changed"]:
            pass
        assert [(each["name"], each["state"]) for each in (await get(anna.config.page, "/api/hosts")).json] == [
            ("anna", "up"),
            ("bert", "down"),
        ]


async def test_a_host_that_is_removed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its report goes before its row does: whoever looks is told of hosts when the row is gone, and not before. So it
    is with a host that never had a report."""
    store = MemoryStore()
    tables = Tables(store, store)
    async with (
        running(tmp_path, capsys, shared=store.client(), page=free_address()) as daemon,
        events(daemon.config.page) as stream,
    ):
        while not (await stream.next("hello"))[1]["live"]:
            pass
        await tables.hosts.create(HostRecord(id="bert", name="bert", seen=0), "bert")
        await tables.reports.create(
            ReportRecord(id="bert", report={"id": "bert", "name": "bert", "version": ""}, at=0), "bert"
        )
        while (await stream.next("report"))[1]["name"] != "bert":
            pass
        await tables.reports.drop("bert")
        while "reports" not in (told := (await stream.next("changed"))[1]["changed"]):
            pass
        assert "hosts" not in told
        assert [each["name"] for each in (await get(daemon.config.page, "/api/reports")).json] == ["anna"]
        await tables.hosts.drop("bert")
        while "hosts" not in (await stream.next("changed"))[1]["changed"]:
            pass
        assert [each["name"] for each in (await get(daemon.config.page, "/api/hosts")).json] == ["anna"]
        await tables.hosts.create(HostRecord(id="carl", name="carl", seen=0), "carl")
        await tables.host_addresses.create(HostAddressesRecord(id="carl", name="carl", addresses=[], at=0), "carl")
        while "addresses/remembered" not in (await stream.next("changed"))[1]["changed"]:
            pass
        await tables.host_addresses.drop("carl")
        await tables.hosts.drop("carl")
        while "hosts" not in (await stream.next("changed"))[1]["changed"]:
            pass


@pytest.mark.parametrize(
    "value",
    [b"", b"null", b"[]", b"[" * 20_000, b'{"v":9}', b'{"v":1,"id":"evil","at":1,"report":{"id":7}}', b"\xff\xfe"],
    ids=range(7),
)
async def test_anybody_may_have_written_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: bytes
) -> None:
    """A report that cannot be read is left out, when it is read and when it comes."""
    store = MemoryStore()
    async with (
        running(tmp_path, capsys, shared=store.client(), page=free_address()) as daemon,
        events(daemon.config.page) as stream,
    ):
        while not (await stream.next("hello"))[1]["live"]:
            pass
        for prefix in ("reports", "names/evil", "addresses/evil"):
            await store.create(f"{prefix}/evil", value)
        assert [each["name"] for each in (await get(daemon.config.page, "/api/reports")).json] == ["anna"]
        assert (await get(daemon.config.page, "/api/addresses")).json == []
        await with_networks(daemon)
        while not _put(await stream.next("addresses"), "10.65.0.9"):
            pass


async def test_a_name_whose_address_has_a_prefix_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Anybody may have written it: its address is told, and what changed at the same moment."""
    store = MemoryStore()
    tables = Tables(store, store)
    async with (
        running(tmp_path, capsys, shared=store.client(), page=free_address()) as daemon,
        _live_events(daemon) as stream,
    ):
        await tables.addresses.create(_held("10.65.0.77"), SPACE, "10.65.0.77")
        while not _put(await stream.next("addresses"), "10.65.0.77"):
            pass
        await with_networks(daemon)
        await _publish(tables, "10.65.0.77/24")
        await tables.addresses.create(_held("10.65.0.79"), SPACE, "10.65.0.79")
        told: set[str] = set()
        while not told >= {"10.65.0.77", "10.65.0.79"}:
            told |= {each["address"] for each in (await stream.next("addresses"))[1]["put"]}


async def test_a_name_whose_address_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody may have written it: addresses are to be read anew, and nothing fails."""
    store = MemoryStore()
    async with (
        running(tmp_path, capsys, shared=store.client(), page=free_address()) as daemon,
        _live_events(daemon) as stream,
    ):
        await with_networks(daemon)
        while not _put(await stream.next("addresses"), "10.65.0.9"):
            pass
        await _publish(Tables(store, store), "evil")
        while "addresses" not in (await stream.next("changed"))[1]["changed"]:
            pass
        assert "telling the page of changes failed" not in caplog.text


@pytest.mark.parametrize("error", [Unavailable("away"), ValueError("a bug")], ids=["away", "bug"])
async def test_what_cannot_be_told_is_read_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    """Whatever failed: changes of that moment are not lost."""
    store, faults = MemoryStore(), Faults(error=error)
    async with (
        running(tmp_path, capsys, shared=FaultyStore(store.client(), faults), page=free_address()) as daemon,
        _live_events(daemon) as stream,
    ):
        await with_networks(daemon)
        while not _put(await stream.next("addresses"), "10.65.0.9"):
            pass
        faults.refused = "get addresses/"
        await _publish(Tables(store, store), "10.65.0.77")
        while "addresses" not in (await stream.next("changed"))[1]["changed"]:
            pass


async def _publish(tables: Tables, address: str) -> None:
    """Somebody writes a name of a container on lan."""
    record = NameRecord(
        network=LAN, network_name="lan", endpoint="e", container="c", host="evil", address=address, at=0
    )
    await tables.names.create(record, LAN, "evil", "e")


@asynccontextmanager
async def _live_events(daemon: Running) -> AsyncIterator[Events]:
    """The stream of events once the watches of the store are open."""
    async with events(daemon.config.page) as stream:
        while not (await stream.next("hello"))[1]["live"]:
            pass
        yield stream


def _held(address: str) -> AddressRecord:
    return AddressRecord(
        space=SPACE, subnet="10.65.0.0/24", address=address, kind="endpoint", host="evil", incarnation="x", at=0
    )


async def test_a_store_that_is_away_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And that it is back: whoever looks reads all anew then."""
    store = MemoryStore()
    async with (
        running(tmp_path, capsys, shared=store.client(), page=free_address()) as daemon,
        events(daemon.config.page) as stream,
    ):
        while not (await stream.next("hello"))[1]["live"]:
            pass
        store.restore(store.save())
        assert (await stream.next("hello"))[1]["live"] is True


async def test_nobody_follows_the_store_while_nobody_looks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The watches of the page end with its last viewer."""
    store = MemoryStore()
    async with running(tmp_path, capsys, shared=store.client(), page=free_address()) as daemon:
        async with events(daemon.config.page) as stream:
            while not (await stream.next("hello"))[1]["live"]:
                pass
        async with events(daemon.config.page) as stream:
            assert (await stream.next("hello"))[1]["live"] is False
            assert (await stream.next("hello"))[1]["live"] is True


def _put(event: tuple[str, Any], address: str) -> dict[str, Any] | None:
    found = [each for each in event[1]["put"] if each["address"] == address]
    return found[0] if found else None


def _state(event: tuple[str, Any], parent: str) -> str:
    return next((each["state"] for each in event[1]["networks"] if each["parent"] == parent), "")
