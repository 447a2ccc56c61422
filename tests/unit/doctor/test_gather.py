"""Facts that the doctor gathers: from the engine's API, from files below a root, and from a state file."""

import asyncio
from pathlib import Path

from macvlan_global.doctor.engine import ask_engine
from macvlan_global.doctor.facts import NetworkFacts, PluginFacts, SwarmNetwork, SwarmNode, SwarmService
from macvlan_global.doctor.gather import gather
from macvlan_global.store.records import NetworkRecord, SubnetRecord
from macvlan_global.store.sqlite import open_sqlite
from macvlan_global.store.table import Tables
from testkit.fake_docker_api import FakeDockerApi
from testkit.fake_http import HttpServer


async def test_an_engine_outside_of_a_swarm() -> None:
    """Version, system and plugins; there are no facts of a swarm."""
    api = FakeDockerApi()
    async with HttpServer(api.answer) as server:
        facts, swarm = await asyncio.to_thread(ask_engine, f"tcp://{server.address}")
    assert (facts.version, facts.system, facts.problem) == ("28.5.2", "Debian", "")
    assert facts.plugins == ("bridge", "macvlan-global")
    assert (facts.swarm, facts.rootless, facts.plugin, swarm) == (False, False, None, None)


async def test_a_manager_of_a_swarm() -> None:
    """Networks of ours and those never finished, services with virtual addresses, nodes that are ready."""
    api = FakeDockerApi()
    api.found["/info"] = api.found["/info"] | {"Swarm": {"LocalNodeState": "active", "ControlAvailable": True}}
    ours = "macvlan-global:latest"
    api.found["/networks"] = [
        {"Id": "n1", "Name": "lan", "Driver": ours, "Scope": "swarm", "EnableIPv6": True},
        {"Id": "n2", "Name": "half", "Driver": "", "Scope": "swarm"},
        {"Id": "n3", "Name": "ingress", "Driver": "overlay", "Scope": "swarm"},
        {"Id": "n4", "Name": "local", "Driver": ours, "Scope": "local"},
    ]
    api.found["/services"] = [{"Spec": {"Name": "web"}, "Endpoint": {"VirtualIPs": [{"NetworkID": "n1"}]}}]
    plugins = [{"Type": "Network", "Name": ours}, {"Type": "Log", "Name": "journald"}]
    api.found["/nodes"] = [
        {"Description": {"Hostname": "one", "Engine": {"Plugins": plugins}}, "Status": {"State": "ready"}},
        {"Description": {"Hostname": "two"}, "Status": {"State": "down"}},
    ]
    async with HttpServer(api.answer) as server:
        facts, swarm = await asyncio.to_thread(ask_engine, f"tcp://{server.address}")
    assert facts.swarm
    assert swarm is not None
    assert swarm.networks == (SwarmNetwork("n1", "lan", ours, ipv6=True), SwarmNetwork("n2", "half", "", ipv6=False))
    assert swarm.services == (SwarmService("web", frozenset({"n1"})),)
    assert swarm.nodes == (SwarmNode("one", frozenset({ours})),)


async def test_a_swarm_without_a_leader_says_so() -> None:
    """The engine's words without the wrapping of its remote calls; what the engine itself is stays known."""
    api = FakeDockerApi()
    api.found["/info"] = api.found["/info"] | {"Swarm": {"LocalNodeState": "active", "ControlAvailable": True}}
    api.found["/services"] = 500, {"message": "rpc error: code = Unknown desc = The swarm does not have a leader"}
    async with HttpServer(api.answer) as server:
        facts, swarm = await asyncio.to_thread(ask_engine, f"tcp://{server.address}")
    assert facts.version == "28.5.2"
    assert swarm is not None
    assert swarm.problem == "the swarm does not have a leader"


async def test_a_managed_plugin_is_known_by_its_entry_point() -> None:
    """Whatever it is called; the enabled one of several, with the socket of its settings."""
    api = FakeDockerApi()
    config = {"Entrypoint": ["python", "-m", "macvlan_global"]}
    settings = {"Env": ["MACVLAN_GLOBAL_ADMIN_SOCKET=/run/x/admin.sock"]}
    api.found["/plugins"] = [
        {"Name": "other", "Id": "p0", "Config": {"Entrypoint": ["/other"]}},
        {"Name": "old", "Id": "p1", "Enabled": False, "Config": config},
        {"Name": "new", "Id": "p2", "Enabled": True, "Config": config, "Settings": settings},
    ]
    async with HttpServer(api.answer) as server:
        facts, _ = await asyncio.to_thread(ask_engine, f"tcp://{server.address}")
    assert facts.plugin == PluginFacts("new", "p2", True, "/run/x/admin.sock")


async def test_a_host_from_its_files(tmp_path: Path) -> None:
    """The state is read without a driver, a mistake in the configuration is a fact, and nothing raises."""
    (tmp_path / "state").mkdir()
    store = open_sqlite(tmp_path / "state/state.db")
    tables = Tables(store, store)
    subnets = [SubnetRecord(space="", subnet="fd65::/64")]
    record = NetworkRecord(id="n" * 64, name="lan", given={"mtu": "1400"}, parent="eth1", at=0, subnets=subnets)
    await tables.networks.put(record, record.id)
    await store.close()
    config = tmp_path / "config.toml"
    config.write_text(f'state_dir = "{tmp_path}/state"\ndocker_host = "unix://{tmp_path}/none.sock"\n')
    (tmp_path / "etc/docker/plugins").mkdir(parents=True)
    (tmp_path / "etc/docker/plugins/macvlan-global.spec").touch()
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    facts = await asyncio.to_thread(gather, config, str(tmp_path / "none.sock"), {}, tmp_path)
    assert facts.networks == (NetworkFacts("lan", "eth1", 1400, ipv6=True),)
    assert (facts.state.exists, facts.state.problem, facts.config_problem) == (True, "", "")
    assert facts.engine.problem == f"no such file or directory ({tmp_path}/none.sock)"
    assert facts.driver.problem == f"the driver is not running here (no socket {tmp_path}/none.sock)"
    assert facts.driver.spec_files == (str(tmp_path / "etc/docker/plugins/macvlan-global.spec"),)
    assert facts.driver.unit is False
    config.write_text("sokcet = 1")
    facts = await asyncio.to_thread(gather, config, str(tmp_path / "none.sock"), {}, tmp_path)
    assert "unknown key 'sokcet'" in facts.config_problem


async def test_a_damaged_state_file_is_a_problem(tmp_path: Path) -> None:
    """The file is named, and stays as it is."""
    (tmp_path / "state.db").write_bytes(b"x" * 9000)
    (tmp_path / "proc").mkdir()
    environment = {"MACVLAN_GLOBAL_STATE_DIR": str(tmp_path), "MACVLAN_GLOBAL_DOCKER_HOST": "unix:///none.sock"}
    facts = await asyncio.to_thread(gather, None, str(tmp_path / "none.sock"), environment, tmp_path)
    assert f"the state file {tmp_path}/state.db is damaged" in facts.state.problem
    assert (tmp_path / "state.db").read_bytes() == b"x" * 9000
