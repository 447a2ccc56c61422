"""Consul's and etcd's clients on doubles in this process: the contracts of stores, and failures of a member."""

import asyncio
import contextlib
import dataclasses
import json
import random
import re
from collections.abc import AsyncIterator

import pytest

from macvlan_global.errors import Unavailable
from macvlan_global.store.access import StoreAccess
from macvlan_global.store.follow import PrefixFollower
from macvlan_global.store.open import open_cluster_store
from macvlan_global.store.ports import Batch, ClusterStore
from macvlan_global.store.remote.members import LOST, REFUSAL
from testkit import cluster_contract, store_contract, watch_contract
from testkit.fake_consul import FakeConsul
from testkit.fake_etcd import FakeEtcd
from testkit.fake_http import HttpCall, HttpReply, HttpServer

pytestmark = pytest.mark.virtual_time

Clients = tuple[ClusterStore, ClusterStore]
RIGHT, WRONG = "secret", "guessed"


@pytest.fixture(params=["consul", "etcd"])
async def clients(request: pytest.FixtureRequest) -> AsyncIterator[Clients]:
    """Two clients of an empty store of each kind."""
    double = FakeConsul() if request.param == "consul" else FakeEtcd()
    async with HttpServer(double.answer) as server:
        url = f"{request.param}://{server.address}/test"
        one, two = open_cluster_store(url, StoreAccess()), open_cluster_store(url, StoreAccess())
        yield one, two
        for client in (one, two):
            await client.close()


@pytest.mark.parametrize("check", store_contract.STORE_CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: store_contract.Check, clients: Clients) -> None:
    """One promise of every store; each says in its docstring what it is."""
    await check(clients[0])


@pytest.mark.parametrize(
    "check",
    [*cluster_contract.CLUSTER_CONTRACT, *cluster_contract.LAPSE_CONTRACT, *watch_contract.WATCH_CONTRACT],
    ids=lambda check: check.__name__,
)
async def test_cluster_contract(check: cluster_contract.Check, clients: Clients) -> None:
    """One promise of every cluster store; each says in its docstring what it is."""
    await check(*clients)


async def test_a_consul_without_a_leader_is_away_and_comes_back() -> None:
    """Its 500 is told in the error; a watch goes on once it has a leader again."""
    consul = FakeConsul()
    async with HttpServer(consul.answer) as server:
        store = open_cluster_store(f"consul://{server.address}/test", StoreAccess())
        async with cluster_contract.Mirror(store, "", persistent=True) as mirror:
            consul.failing = 500
            with pytest.raises(Unavailable, match="No cluster leader"):
                await store.create("a", b"1")
            consul.failing = 0
            await asyncio.sleep(REFUSAL)
            assert await store.get("a") is None
            assert await store.create("a", b"2") is not None
            await mirror.until(lambda: mirror.known == {"a": b"2"})
        await store.close()


async def test_a_consul_that_refuses_says_why() -> None:
    """Permission denied is an error with Consul's words, at once."""
    consul = FakeConsul()
    async with HttpServer(consul.answer) as server:
        store = open_cluster_store(f"consul://{server.address}/test", StoreAccess(token=WRONG))
        consul.failing = 403
        with pytest.raises(Unavailable, match=r"Consul refuses \(403\)"):
            await store.scan("")
        await store.close()


async def test_a_consul_that_refuses_the_names_of_keys_is_not_away() -> None:
    """As 1.21.5 does, with a 500: no other member is asked, nobody waits, and the error says what to set there."""
    consul = FakeConsul()
    asked: list[str] = []

    async def answer(call: HttpCall) -> HttpReply:
        asked.append(call.path)
        if call.path.startswith("/v1/kv/") and not re.fullmatch(r"[a-zA-Z0-9,_./\-?&=]+", call.path):
            return HttpReply(500, b'invalid key name, keys should respect the "^[a-zA-Z0-9,_./\\\\-?&=]+$" format.')
        return await consul.answer(call)

    async with HttpServer(answer) as one, HttpServer(answer) as two:
        store = open_cluster_store(f"consul://{one.address},{two.address}/test", StoreAccess())
        begun = asyncio.get_running_loop().time()
        for key in ("pools/s/fd65::_64", "pools/s/10.8.0.0_24~10.8.0.128_25", "definitions/a%2Fb"):
            assert await store.create(key, b"1"), "a transaction has its keys elsewhere"
            asked.clear()
            with pytest.raises(
                Unavailable, match=r"Consul refuses \(500\): invalid key name, .* format; this release of"
            ) as told:
                await store.get(key)
            assert "disable_http_unprintable_char_filter = true" in str(told.value)
            assert len(asked) == 1
        assert await store.get("pools/s/10.8.0.0_24") is None
        assert asyncio.get_running_loop().time() - begun < 0.5
        await store.close()


async def test_a_404_of_a_proxy_is_no_missing_key_and_no_lease_that_ended() -> None:
    """It has lost its Consul, or has another route: nothing is known, and each operation says so."""
    consul, lost = FakeConsul(), False

    async def answer(call: HttpCall) -> HttpReply:
        return HttpReply(404, b"<html>404 Not Found</html>") if lost else await consul.answer(call)

    async with HttpServer(answer) as server:
        store = open_cluster_store(f"consul://{server.address}/test", StoreAccess())
        assert await store.create("a", b"1")
        assert await store.get("b") is None
        lease, ended = await store.lease(10), await store.lease(10)
        await ended.end()
        assert not await ended.renew()
        watch = store.watch("names/n/")
        assert (await anext(watch)).whole
        lost = True
        for ask in (store.get("a"), store.scan(""), anext(store.watch("a")), anext(watch)):
            with pytest.raises(Unavailable, match="no X-Consul-Index; a proxy in front of it must pass this header on"):
                await ask
        with pytest.raises(Unavailable, match=r"Consul refuses \(404\): .*404 Not Found"):
            await lease.renew()
        lost = False
        assert await lease.renew()
        await store.close()


async def test_a_consul_that_lets_nobody_ring_is_told_so_at_once() -> None:
    """A token that may read, or may not write bells: each transaction is refused with 409, like one that came too late.
    It is no lost race, as nobody has rung: few questions are asked, and the error has Consul's words."""
    consul = FakeConsul()
    asked: list[str] = []

    async def answer(call: HttpCall) -> HttpReply:
        asked.append(call.path)
        operations = json.loads(call.body) if call.path == "/v1/txn" else []
        bells = [number for number, each in enumerate(operations) if "/bell/" in each["KV"]["Key"]]
        if bells:
            errors = [{"OpIndex": number, "What": "Permission denied"} for number in bells]
            return HttpReply(409, json.dumps({"Results": None, "Errors": errors}).encode())
        return await consul.answer(call)

    async with HttpServer(answer) as server:
        store = open_cluster_store(f"consul://{server.address}/test", StoreAccess())
        begun = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable, match=r"Consul refuses \(409\).*Permission denied"):
            await store.create("names/n/h/e", b"1")
        with pytest.raises(Unavailable, match=r"Consul refuses \(409\).*Permission denied"):
            await anext(store.watch("names/n/"))
        assert asyncio.get_running_loop().time() - begun < 0.1
        assert len(asked) < 20
        await store.close()


async def test_hosts_that_ring_one_bell_at_once_all_write() -> None:
    """Answers take their time, and those of watches come later than what others have rung since: a ring that is too
    late is repeated, however old the bells are that such an answer shows."""
    consul, lots = FakeConsul(), random.Random(1)  # noqa: S311 - it delays answers

    async def answer(call: HttpCall) -> HttpReply:
        reply = await consul.answer(call)
        await asyncio.sleep(lots.uniform(0, 0.01))
        return reply

    async with HttpServer(answer) as server, contextlib.AsyncExitStack() as stack:
        stores = [open_cluster_store(f"consul://{server.address}/test", StoreAccess()) for _ in range(20)]
        mirrors = [await stack.enter_async_context(cluster_contract.Mirror(each, "names/n/")) for each in stores]

        async def write(host: int, store: ClusterStore) -> None:
            for number in range(10):
                assert await store.create(f"names/n/h{host}/{number}", b"1")

        await asyncio.gather(*(write(*each) for each in enumerate(stores)))
        for mirror in mirrors:
            await mirror.until(lambda known=mirror.known: len(known) == 200)  # type: ignore[misc]  # its own
        await stack.aclose()
        for store in stores:
            await store.close()


async def test_a_watch_asks_a_consul_that_is_asked_too_much_no_more_than_before() -> None:
    """It ends with the first 429, and who follows begins again later: what is too much does not become more."""
    consul, asked, busy = FakeConsul(), 0, False

    async def answer(call: HttpCall) -> HttpReply:
        nonlocal asked
        asked += 1
        return HttpReply(429, b"rate limit exceeded") if busy else await consul.answer(call)

    async with HttpServer(answer) as server, contextlib.AsyncExitStack() as stack:
        store = open_cluster_store(f"consul://{server.address}/test", StoreAccess())
        for number in range(10):
            mirror = cluster_contract.Mirror(store, f"names/{number}/", persistent=True)
            await stack.enter_async_context(mirror)
        busy, asked = True, 0
        for number in range(10):
            operations = [{"KV": {"Verb": "cas", "Key": f"test/names/{number}/h/e", "Value": "", "Index": 0}}]
            await consul.answer(HttpCall("PUT", "/v1/txn", {}, {}, json.dumps(operations).encode()))
        await asyncio.sleep(6)
        assert asked < 10 * 6 * 12
        await stack.aclose()
        await store.close()


async def test_a_consul_that_is_asked_too_much_did_nothing() -> None:
    """429, as its limits of requests have it: another member is asked, or the same one a moment later."""
    consul, busy = FakeConsul(), 3

    async def answer(call: HttpCall) -> HttpReply:
        nonlocal busy
        if busy:
            busy -= 1
            return HttpReply(429, b"rate limit exceeded, try again later or against a different server")
        return await consul.answer(call)

    async with HttpServer(answer) as server:
        store = open_cluster_store(f"consul://{server.address}/test", StoreAccess())
        assert await store.create("a", b"1")
        busy = 1000
        with pytest.raises(Unavailable, match="it answered 429 rate limit exceeded"):
            await store.get("a")
        await store.close()


async def test_a_watch_of_what_rarely_changes_survives_the_end_of_old_history() -> None:
    """Others write elsewhere, and etcd compacts; it told before that there was nothing here up to then. After an
    interruption nothing is read again."""
    etcd = FakeEtcd()
    async with HttpServer(etcd.answer) as server:
        store = open_cluster_store(f"etcd://{server.address}/test", StoreAccess())
        await store.create("quiet/a", b"1")
        async with cluster_contract.Mirror(store, "quiet/") as mirror:
            for number in range(5):
                await store.create(f"busy/{number}", b"1")
            etcd.tell_progress()
            await asyncio.sleep(1)
            etcd.compact()
            etcd.end_watches()
            await asyncio.sleep(1)
            await store.create("quiet/b", b"2")
            await mirror.until(lambda: "quiet/b" in mirror.known)
            assert sum(each.whole for each in mirror.batches) == 1
            for number in range(5, 9):
                await store.create(f"busy/{number}", b"1")
            etcd.compact()  # and where it did not tell, all is read
            etcd.end_watches()
            await mirror.until(lambda: sum(each.whole for each in mirror.batches) == 2)
        await store.close()


async def test_so_does_one_that_was_given_up_in_an_outage() -> None:
    """It is longer than a watch waits for its store: the next watch goes on where the last one was told to be."""
    etcd, away = FakeEtcd(), False

    async def answer(call: HttpCall) -> HttpReply:
        return HttpReply(500, b"{}") if away else await etcd.answer(call)

    async with HttpServer(answer) as server:
        store = open_cluster_store(f"etcd://{server.address}/test", StoreAccess())
        await store.create("quiet/a", b"1")
        batches: list[Batch] = []

        async def take(batch: Batch) -> None:
            batches.append(batch)

        following = asyncio.ensure_future(PrefixFollower(store, "quiet/", take).run())
        await asyncio.sleep(1)
        await store.create("busy", b"1")
        etcd.tell_progress()
        await asyncio.sleep(1)
        away = True
        etcd.compact()
        etcd.end_watches()
        await asyncio.sleep(2 * LOST)
        away = False
        await asyncio.sleep(10)
        await store.create("quiet/b", b"2")
        await asyncio.sleep(1)
        assert [entry.key for batch in batches for entry in batch.entries] == ["quiet/a", "quiet/b"]
        assert sum(each.whole for each in batches) == 1
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await store.close()


async def test_etcd_is_asked_with_a_token_that_is_renewed() -> None:
    """One that became too old is replaced by a new one, without an error."""
    etcd = FakeEtcd("driver", RIGHT)
    async with HttpServer(etcd.answer) as server:
        store = open_cluster_store(f"etcd://{server.address}/test", StoreAccess(user="driver", password=RIGHT))
        entry = await store.create("a", b"1")
        etcd.forget_tokens()
        assert await store.get("a") == entry
        await store.close()


@pytest.mark.parametrize("user", ["", "driver"])
async def test_a_quiet_watch_on_etcd_is_one_watch(user: str) -> None:
    """With and without users: health checks need no other right than ours, and show the token of that time. One that
    was just forgotten ends no watch."""
    etcd = FakeEtcd(user, RIGHT if user else "")
    asked: list[HttpCall] = []

    async def answer(call: HttpCall) -> HttpReply:
        asked.append(call)
        return await etcd.answer(call)

    async with HttpServer(answer) as server:
        access = StoreAccess(user=user, password=RIGHT if user else "")
        store = open_cluster_store(f"etcd://{server.address}/test", access)
        async with cluster_contract.Mirror(store, "k/") as mirror:
            await asyncio.sleep(60)
            etcd.forget_tokens()
            await asyncio.sleep(60)
            assert await store.create("k/1", b"x")  # with a new token
            await mirror.until(lambda: "k/1" in mirror.known)
            await asyncio.sleep(60)
        paths = [call.path for call in asked]
        assert paths.count("/v3/watch") == 1
        assert paths.count("/v3/kv/range") > 60, "its health was checked"
        assert paths.count("/v3/auth/authenticate") == (2 if user else 0)
        assert asked[-1].headers.get("authorization") == ("token1" if user else None)
        await store.close()


@pytest.mark.parametrize("user", ["", "driver"])
async def test_a_quiet_watch_at_an_etcd_without_a_leader_is_given_up(user: str) -> None:
    """Its member cannot read, so nothing would be told there; the reason is etcd's."""
    etcd = FakeEtcd(user, RIGHT if user else "")
    async with HttpServer(etcd.answer) as server:
        access = StoreAccess(user=user, password=RIGHT if user else "")
        store = open_cluster_store(f"etcd://{server.address}/test", access)
        watch = store.watch("k/")
        assert (await anext(watch)).whole
        etcd.has_leader = False
        with pytest.raises(Unavailable, match=r"it answered 503 .*no leader"):
            async with asyncio.timeout(60):
                await anext(watch)
        await store.close()


async def test_a_wrong_password_is_told_without_the_password() -> None:
    """The user's name is in the text."""
    etcd = FakeEtcd("driver", RIGHT)
    async with HttpServer(etcd.answer) as server:
        store = open_cluster_store(f"etcd://{server.address}/test", StoreAccess(user="driver", password=WRONG))
        with pytest.raises(Unavailable, match="does not accept user 'driver' and its password") as told:
            await store.get("a")
        assert WRONG not in str(told.value)
        await store.close()


@pytest.mark.parametrize("kind", ["consul", "etcd"])
async def test_what_is_sent_is_told_to_be_json(kind: str) -> None:
    """Consul from 1.20.2 on logs a warning about each request that is told to be something else."""
    double = FakeConsul() if kind == "consul" else FakeEtcd("driver", RIGHT)
    asked: list[HttpCall] = []

    async def answer(call: HttpCall) -> HttpReply:
        asked.append(call)
        return await double.answer(call)

    async with HttpServer(answer) as server:
        access = StoreAccess(user="driver", password=RIGHT) if kind == "etcd" else StoreAccess(token=RIGHT)
        store = open_cluster_store(f"{kind}://{server.address}/test", access)
        lease = await store.lease(10)
        entry = await store.create_with(lease, "names/n/h/e", b"1")
        assert entry
        assert await store.scan("names/") == [entry]
        async with cluster_contract.Mirror(store, "names/n/"):
            await asyncio.sleep(5)  # its member's health is checked
            assert await lease.renew()
            await lease.end()
        await store.close()
    kinds = {(call.method, call.headers.get("content-type")) for call in asked}
    assert kinds == ({("POST", "application/json")} if kind == "etcd" else {("PUT", "application/json"), ("GET", None)})
    if kind == "consul":
        assert {call.headers.get("x-consul-token") for call in asked if call.method == "PUT"} == {RIGHT}


@pytest.mark.parametrize("kind", ["consul", "etcd"])
async def test_another_server_is_not_taken_for_a_store(kind: str) -> None:
    """An answer that is no message of the store's is an error that names the store."""

    async def answer(_call: HttpCall) -> HttpReply:
        return HttpReply(200, b"<html>")

    async with HttpServer(answer) as server:
        store = open_cluster_store(f"{kind}://{server.address}/test", StoreAccess())
        with pytest.raises(Unavailable, match=f"(?i){kind}'s answer cannot be parsed"):
            await store.get("a")
        await store.close()


@pytest.mark.parametrize("kind", ["consul", "etcd"])
async def test_nobody_who_listens_is_a_store_that_is_away(kind: str) -> None:
    """After the deadline, with the reason of the last attempt."""
    store = open_cluster_store(f"{kind}://127.0.0.1:1/test", StoreAccess())
    with pytest.raises(Unavailable, match="no connection: Connection refused"):
        await store.get("a")
    await store.close()


@pytest.mark.parametrize("kind", ["consul", "etcd"])
async def test_many_watches_leave_operations_their_way(kind: str) -> None:
    """As a host has them that is on many networks: each hears of its changes, and nothing waits for them."""
    double = FakeConsul() if kind == "consul" else FakeEtcd()
    async with HttpServer(double.answer) as server, contextlib.AsyncExitStack() as stack:
        store = open_cluster_store(f"{kind}://{server.address}/test", StoreAccess())
        groups = [f"names/n{number}/" for number in range(150)]
        mirrors = await asyncio.gather(
            *(stack.enter_async_context(cluster_contract.Mirror(store, group)) for group in groups)
        )
        for group in groups[::10]:
            assert await store.create(f"{group}h/e", b"x")
        for mirror in mirrors[::10]:
            await mirror.until(lambda mirror=mirror: bool(mirror.known), 60.0)  # type: ignore[misc]
        assert not any(mirror.known for mirror in mirrors[1::10])
        await store.close()


@pytest.mark.parametrize("index", [{}, {"X-Consul-Index": "no number"}])
async def test_a_consul_whose_indexes_do_not_arrive_is_not_asked_without_end(index: dict[str, str]) -> None:
    """A proxy in front of it plays this. Nobody is kept waiting for news without an index, so the watch ends with the
    reason."""
    consul = FakeConsul()
    asked: list[str] = []

    async def strip(call: HttpCall) -> HttpReply:
        asked.append(call.path)
        reply = await consul.answer(call)
        others = {name: value for name, value in reply.headers.items() if name != "X-Consul-Index"}
        return dataclasses.replace(reply, headers=others | index)

    async with HttpServer(strip) as server:
        store = open_cluster_store(f"consul://{server.address}/test", StoreAccess())
        with pytest.raises(Unavailable, match="no X-Consul-Index; a proxy in front of it must pass this header on"):
            async for _ in store.watch("k/"):
                pass
        assert len(asked) < 5
        await store.close()
