"""The composition root on doubles: it starts, serves, stops in reverse, and refuses what cannot be."""

import asyncio
import json
import os
import signal
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path

import pytest

from lab.speed import patience, within
from lab.unixhttp import UnixConnection
from macvlan_global.admin.metrics_server import CONNECTIONS_MOST
from macvlan_global.cluster.heartbeat import TTL_SECONDS
from macvlan_global.config import Config
from macvlan_global.daemon import STEP_SECONDS, Daemon, driver_settings, serve
from macvlan_global.errors import Conflict, Unavailable
from macvlan_global.libnetwork.handlers import NAME_KEY
from macvlan_global.listening import plugin_socket
from macvlan_global.scope_label import ASK_SECONDS
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import ClusterStore
from macvlan_global.store.state_folder import locked_folder
from testkit.faults import Faults, FaultyStore
from testkit.rig import Rig
from tests.unit.running import LAN, SPACE, Running, free_address, running, with_networks


async def test_a_start_and_a_stop_leave_no_sockets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both sockets are there while it serves, for root only, and gone after it."""
    async with running(tmp_path, capsys) as daemon:
        assert await daemon.call("Plugin.Activate") == {"Implements": ["NetworkDriver", "IpamDriver"]}
        assert Path(daemon.config.socket).stat().st_mode & 0o777 == 0o600
    assert not Path(daemon.config.socket).exists()
    assert not Path(daemon.config.admin_socket).exists()


async def test_the_state_outlives_the_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Networks, addresses and the host's id are what they were after a restart."""
    async with running(tmp_path, capsys) as daemon:
        await with_networks(daemon)
        before = (await daemon.cli("addresses", "--json")).json
        host = (await daemon.cli("status", "--json")).json["host_id"]
    async with running(tmp_path, capsys) as daemon:
        after = (await daemon.cli("addresses", "--json")).json
        assert [each["address"] for each in after] == [each["address"] for each in before]
        assert (await daemon.cli("status", "--json")).json["host_id"] == host


async def test_two_daemons_do_not_share_a_state_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second is refused, and the first serves on."""
    async with running(tmp_path, capsys) as daemon:
        with pytest.raises(Unavailable, match="another macvlan-global uses the state folder"):
            async with running(tmp_path, capsys, socket=str(tmp_path / "other.sock")):
                pass
        assert (await daemon.cli("status")).code == 0


async def test_two_daemons_do_not_share_a_state_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which may be elsewhere than their state folders: the second is refused, however it names that file."""
    (tmp_path / "link").symlink_to("data")
    url = f"sqlite://{tmp_path}/data/lan.db"
    async with running(tmp_path, capsys, store=url) as daemon:
        for again in (url, f"sqlite://{tmp_path}/link/lan.db"):
            with pytest.raises(
                Unavailable, match=f"another macvlan-global uses the state file {tmp_path}/data/lan.db; stop it"
            ):
                async with running(tmp_path, capsys, name="berta", store=again):
                    pass
        async with running(tmp_path, capsys, name="berta", store=f"sqlite://{tmp_path}/data/other.db"):
            pass  # another file in that folder is another's
        assert (await daemon.cli("status")).code == 0
    async with running(tmp_path, capsys, name="berta", store=url):
        pass


async def test_a_state_file_may_be_where_a_lock_of_others_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """/var/lock is a folder, say. One in the state folder itself, by whichever name of that, is locked once."""
    (tmp_path / "data/lock").mkdir(parents=True)
    (tmp_path / "link").symlink_to("anna-state")
    for folder in ("data", "anna-state", "link"):
        async with running(tmp_path, capsys, store=f"sqlite://{tmp_path}/{folder}/lan.db"):
            pass


async def test_a_state_folder_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in its place is named."""
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"the state folder .*file/state cannot be used"):
        async with running(tmp_path, capsys, state_dir=str(tmp_path / "file/state")):
            pass
    with pytest.raises(Unavailable, match=r"the state file .*file/data/lan.db cannot be used"):
        async with running(tmp_path, capsys, store=f"sqlite://{tmp_path}/file/data/lan.db"):
            pass
    with pytest.raises(Unavailable, match=r"the state file .* cannot be opened: embedded null byte"):
        async with running(tmp_path, capsys, store=f"sqlite://{tmp_path}/nul\0/lan.db"):
            pass


async def test_a_start_that_fails_late_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The admin socket cannot be made: the plugin socket is gone, and the folder is free for the next start."""
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"the admin socket .*file/admin.sock cannot be used"):
        async with running(tmp_path, capsys, admin_socket=str(tmp_path / "file/admin.sock")):
            pass
    assert not (tmp_path / "anna.sock").exists()
    async with running(tmp_path, capsys) as daemon:
        assert (await daemon.cli("status")).code == 0


@pytest.mark.parametrize("what", ["metrics", "page"])
async def test_an_address_that_is_not_there_yet_keeps_no_driver_from_its_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """`status` has the reason. 192.0.2.1 is an address of documentation, and of no host."""
    metrics, page = ("192.0.2.1:9153" if what == each else "" for each in ("metrics", "page"))
    async with running(tmp_path, capsys, metrics=metrics, page=page) as daemon:
        assert await daemon.call("Plugin.Activate") == {"Implements": ["NetworkDriver", "IpamDriver"]}
        (problem,) = (await daemon.cli("status", "--json")).json["problems"]
        assert problem.startswith(f"{'the ' if what == 'page' else ''}{what} cannot be served on 192.0.2.1:9153: ")


async def test_metrics_are_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The counts of networks, endpoints and addresses are there, and those of addresses that are remembered."""
    async with running(tmp_path, capsys, metrics=free_address()) as daemon:
        await with_networks(daemon)
        named = {NAME_KEY: "web"}
        await daemon.call("IpamDriver.RequestAddress", PoolID=f"{SPACE}/10.65.0.0/24", Address="", Options=named)
        taken = {"Address": "10.65.0.2/24", "AddressIPv6": "", "MacAddress": ""}
        ids = {"NetworkID": LAN, "EndpointID": "e5" * 32}
        await daemon.call("NetworkDriver.CreateEndpoint", **ids, Interface=taken, Options={})
        text = await daemon.metrics()
    for what, count in (("networks", 2), ("endpoints", 2), ("addresses", 5)):
        assert f'macvlan_global_held{{what="{what}"}} {count}.0' in text
    for by, count in (("name", 1), ("ip", 0)):
        assert f'macvlan_global_remembered_addresses{{by="{by}"}} {count}.0' in text


async def test_connections_for_metrics_are_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They say nothing. One more is closed; the plugin's socket is served all the same, and so is the next scrape."""
    async with running(tmp_path, capsys, metrics=free_address()) as daemon, within(60):
        host, _, port = daemon.config.metrics.rpartition(":")
        writers = [(await asyncio.open_connection(host, int(port)))[1] for _ in range(CONNECTIONS_MOST)]
        reader, one_more = await asyncio.open_connection(host, int(port))
        assert await reader.read() == b""
        await daemon.call("Plugin.Activate")
        for each in (*writers, one_more):
            each.close()
            await each.wait_closed()
        assert "macvlan_global_held" in await daemon.metrics()


async def test_sigterm_stops_it(tmp_path: Path) -> None:
    """`serve` returns, and the socket is gone."""
    rig = await Rig.build("eth1")
    config = Config(
        socket=str(tmp_path / "a.sock"), admin_socket=str(tmp_path / "b.sock"), state_dir=str(tmp_path), dns=""
    )
    serving = asyncio.ensure_future(serve(Daemon(config, kernel=rig.kernel, engine=rig.engine)))
    async with asyncio.timeout(20):
        while not Path(config.admin_socket).exists():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
    assert not Path(config.socket).exists()


async def test_a_request_that_came_before_the_driver_is_answered(tmp_path: Path) -> None:
    """A client that connects to the socket that the daemon is given waits in it until the daemon serves."""
    rig = await Rig.build("eth1")
    path = tmp_path / "a.sock"
    config = Config(socket=str(path), admin_socket=str(tmp_path / "b.sock"), state_dir=str(tmp_path), dns="")
    with locked_folder(tmp_path), plugin_socket(path, {}) as listener:
        early = UnixConnection(path, timeout=20)
        early.request("POST", "/Plugin.Activate", "{}")
        async with Daemon(config, listener=listener, kernel=rig.kernel, engine=rig.engine):
            answer = await asyncio.to_thread(lambda: early.getresponse().read())
        assert path.is_socket()
        early.close()
    assert json.loads(answer) == {"Implements": ["NetworkDriver", "IpamDriver"]}
    assert not path.exists()


async def test_two_hosts_of_a_cluster_see_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are in the list of hosts, and an address of one is seen by the other with its host."""
    store = MemoryStore()
    async with (
        running(tmp_path, capsys, name="anna", shared=store.client()) as anna,
        running(tmp_path, capsys, name="bert", shared=store.client()) as bert,
    ):
        await with_networks(anna)
        await _until_hosts(bert, {"anna", "bert"})
        table = (await bert.cli("hosts")).text
        assert [line.split()[:2] for line in table.splitlines()[1:]] == [["anna", "up"], ["bert", "up"]]
        found = (await bert.cli("addresses", "--json")).json
        assert ("10.65.0.9", "anna") in {(each["address"], each["host"]) for each in found}
        status = await anna.cli("status")
        assert "Scope:      global" in status.text
        assert "Hosts:      anna, bert" in status.text
        assert [each["cluster"] for each in (await anna.cli("networks", "--json")).json if each["id"] == LAN] != [""]


async def test_a_living_host_is_not_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused by name; one that stopped is forgotten with its addresses."""
    store = MemoryStore()
    async with running(tmp_path, capsys, name="anna", shared=store.client()) as anna:
        async with running(tmp_path, capsys, name="bert", shared=store.client()) as bert:
            await with_networks(bert)
            await _until_hosts(anna, {"anna", "bert"})
            refused = await anna.cli("hosts", "remove", "bert")
            assert refused.code == 1
            assert "bert" in refused.error
        await _until_hosts(anna, {"anna"})
        removed = (await anna.cli("hosts", "remove", "bert", "--force", "--json")).json
        assert removed["given_back"] == ["10.65.0.9"]
        assert (await anna.cli("hosts", "remove", "nobody")).code == 1


async def test_a_name_that_a_living_host_has_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second host with it does not start."""
    store = MemoryStore()
    async with running(tmp_path, capsys, name="anna", shared=store.client()):
        with pytest.raises(Conflict, match="anna"):
            async with running(tmp_path, capsys, name="other", shared=store.client(), host_name="anna"):
                pass


async def _until_hosts(daemon: Running, names: set[str]) -> None:
    async with asyncio.timeout(20):
        while set((await daemon.cli("status", "--json")).json["hosts"]) != names:  # noqa: ASYNC110 - each look is a command
            await asyncio.sleep(0)


async def test_a_store_that_hangs_delays_a_start_for_seconds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each step that reads it is given up; the engine is answered meanwhile, and a stop takes no longer."""
    rig, faults = await Rig.build("eth1"), Faults()
    faults.hangs = True
    config = Config(
        socket=str(tmp_path / "a.sock"),
        admin_socket=str(tmp_path / "b.sock"),
        state_dir=str(tmp_path / "state"),
        store="consul://127.0.0.1:8500",
        dns="",
    )

    def hung(_url: str, _access: object, _crowd: object) -> ClusterStore:
        return FaultyStore(MemoryStore(), faults)

    async with within(20), Daemon(config, kernel=rig.kernel, engine=rig.engine, open_cluster_store=hung, step=0.05):
        connection = UnixConnection(tmp_path / "a.sock", timeout=patience(10))
        await asyncio.to_thread(connection.request, "POST", "/Plugin.Activate", "{}")
        assert (await asyncio.to_thread(connection.getresponse)).status == 200
        connection.close()
    assert [each for each in caplog.messages if "takes longer than" in each] == [
        f"{what} takes longer than 0.05 s; the driver serves meanwhile"
        for what in ("entering the cluster", "reading pools and addresses", "the first repair")
    ]


def test_the_service_waits_for_the_worst_start() -> None:
    """An earlier lease, three steps that read the store, the question to the engine, and half as much for all else."""
    unit = files("macvlan_global.cli").joinpath("units/macvlan-global.service").read_text()
    seconds = next(line.partition("=")[2] for line in unit.splitlines() if line.startswith("TimeoutStartSec="))
    assert float(seconds) >= 1.5 * (2 * TTL_SECONDS + 5 + 3 * STEP_SECONDS + ASK_SECONDS)


def test_the_drivers_settings_are_those_of_the_configuration() -> None:
    """Each that the driver has; the addresses of this host as addresses."""
    config = Config(host_access=True, host_access_addresses="10.8.0.250, fd08::250", probe=True, attach="direct")
    settings = driver_settings(config)
    assert (settings.host_access, settings.probe, settings.attach) == (True, True, "direct")
    assert settings.access_addresses == (ip_address("10.8.0.250"), ip_address("fd08::250"))
