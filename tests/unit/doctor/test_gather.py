"""Facts that the doctor gathers: from the engine's API, from files below a root, and from a state file."""

import asyncio
import re
from pathlib import Path

import pytest

from macvlan_global.config import load_config
from macvlan_global.daemon import Daemon
from macvlan_global.doctor.engine import ask_engine
from macvlan_global.doctor.facts import ManagerFacts, NetworkFacts, PluginFacts, SwarmNetwork, SwarmNode, SwarmService
from macvlan_global.doctor.gather import gather
from macvlan_global.errors import Invalid
from macvlan_global.store.records import LinkRecord, NetworkRecord, SubnetRecord
from macvlan_global.store.sqlite import open_sqlite
from macvlan_global.store.table import Tables
from testkit.fake_docker_api import FakeDockerApi
from testkit.fake_http import HttpServer
from testkit.fake_kernel import FakeKernel


async def test_an_engine_outside_of_a_swarm() -> None:
    """Version, system and plugins; there are no facts of a swarm."""
    api = FakeDockerApi()
    async with HttpServer(api.answer) as server:
        facts, swarm = await asyncio.to_thread(ask_engine, f"tcp://{server.address}")
    assert (facts.version, facts.system, facts.problem) == ("28.5.2", "Debian", "")
    assert facts.plugins == ("bridge", "macvlan-global")
    assert (facts.swarm, facts.rootless, facts.plugin, swarm) == (False, False, None, None)


async def test_networks_of_dockers_own_macvlan_driver_are_seen() -> None:
    """With their parents and subnets, if the engine itself gives the addresses."""
    api = FakeDockerApi()
    pool = {"Config": [{"Subnet": "10.0.0.0/24"}], "Driver": "default"}
    api.found["/networks"] = [
        {"Name": "old", "Driver": "macvlan", "Options": {"parent": "eth1"}, "IPAM": pool},
        {
            "Name": "ours",
            "Driver": "macvlan",
            "Options": {"parent": "eth1"},
            "IPAM": pool | {"Driver": "macvlan-global"},
        },
        {"Name": "none", "Driver": "macvlan", "Options": None, "IPAM": {"Driver": "default", "Config": None}},
        {"Name": "bridge", "Driver": "bridge", "Options": {}, "IPAM": pool},
    ]
    async with HttpServer(api.answer) as server:
        facts, _ = await asyncio.to_thread(ask_engine, f"tcp://{server.address}")
    assert facts.neighbours == (
        NetworkFacts("old", "eth1", subnets=(("", "10.0.0.0/24"),)),
        NetworkFacts("none", ""),
    )


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
    assert facts.networks == (NetworkFacts("lan", "eth1", 1400, ipv6=True, subnets=(("", "fd65::/64"),)),)
    assert (facts.state.exists, facts.state.problem, facts.config_problem) == (True, "", "")
    assert facts.engine.problem == f"no such file or directory ({tmp_path}/none.sock)"
    assert facts.driver.problem == f"the driver is not running here (no socket {tmp_path}/none.sock)"
    assert facts.driver.spec_files == (str(tmp_path / "etc/docker/plugins/macvlan-global.spec"),)
    assert facts.driver.unit is False
    config.write_text("sokcet = 1")
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/system/macvlan-global.service").touch()
    facts = await asyncio.to_thread(gather, config, str(tmp_path / "none.sock"), {}, tmp_path)
    assert "unknown key 'sokcet'" in facts.config_problem
    assert facts.driver.unit is True  # of the package


NO_START = {
    'store = "etcds://10.0.0.1:2379"': "--store 'etcds' is not a kind of store; use sqlite",
    'store = "Consul://10.0.0.1:8500"': "or for several hosts consul://HOST:PORT or etcd://HOST:PORT",
    'store = "consul://10.0.0.1:85000"': "names no store at '10.0.0.1:85000'",
    'store = "consul://10.0.0.1"\n[store_access]\ntoken_file = "/none/a"': "token_file = '/none/a' cannot be read",
    'store = "consul://10.0.0.1"\n[store_access]\nca = "/none/ca"': "certificates are given for a store without TLS",
    'store = "etcd+https://10.0.0.1"\n[store_access]\nca = "/none/ca"': "[store_access] ca /none/ca cannot be used",
    'docker_host = "ssh://host"': "--docker-host 'ssh://host' is neither unix:///path nor tcp://host:port",
}
"""Texts of configurations with which the driver does not start, and its words."""


@pytest.mark.parametrize("text", NO_START)
async def test_a_configuration_with_which_the_driver_does_not_start(tmp_path: Path, text: str) -> None:
    """It is a problem, in the driver's own words; nothing is opened for it."""
    (tmp_path / "proc").mkdir()
    file, away = tmp_path / "config.toml", "" if "docker_host" in text else 'docker_host = "unix:///none.sock"\n'
    own = f'state_dir = "{tmp_path}/state"\nsocket = "{tmp_path}/a.sock"\nadmin_socket = "{tmp_path}/b.sock"\n'
    file.write_text(f"{own}{away}{text}\n")
    facts = await asyncio.to_thread(gather, file, str(tmp_path / "none.sock"), {}, tmp_path)
    assert NO_START[text] in facts.config_problem
    with pytest.raises(Invalid, match=re.escape(NO_START[text])):
        async with Daemon(load_config(file, {}, {}), kernel=FakeKernel()):
            pass


async def test_a_store_that_the_engines_label_leaves_unused_is_not_checked(tmp_path: Path) -> None:
    """In local scope the driver starts whatever its URL is; a label asks for that scope as the configuration does."""
    api = FakeDockerApi()
    api.found["/info"] = api.found["/info"] | {"Labels": ["macvlan-global.scope=local"]}
    (tmp_path / "proc").mkdir()
    file = tmp_path / "config.toml"
    async with HttpServer(api.answer) as server:
        file.write_text(f'docker_host = "tcp://{server.address}"\nstore = "consul://10.0.0.1:85000"\n')
        facts = await asyncio.to_thread(gather, file, str(tmp_path / "none.sock"), {}, tmp_path)
    assert (facts.config_problem, facts.engine.scope) == ("", "local")


async def test_a_damaged_state_file_is_a_problem(tmp_path: Path) -> None:
    """The file is named, and stays as it is."""
    (tmp_path / "state.db").write_bytes(b"x" * 9000)
    (tmp_path / "proc").mkdir()
    environment = {"MACVLAN_GLOBAL_STATE_DIR": str(tmp_path), "MACVLAN_GLOBAL_DOCKER_HOST": "unix:///none.sock"}
    facts = await asyncio.to_thread(gather, None, str(tmp_path / "none.sock"), environment, tmp_path)
    assert f"the state file {tmp_path}/state.db is damaged" in facts.state.problem
    assert (tmp_path / "state.db").read_bytes() == b"x" * 9000


async def test_what_networks_lack_and_what_we_made(tmp_path: Path) -> None:
    """No IPv4 gateway, unless none is meant; and files of networkd that match links of ours."""
    store = open_sqlite(tmp_path / "state.db")
    tables = Tables(store, store)
    for name, subnet, changed in (
        ("without", SubnetRecord(space="a", subnet="10.1.0.0/24"), {"parent": "eth0.65"}),
        ("with", SubnetRecord(space="a", subnet="10.2.0.0/24", gateway="10.2.0.1"), {"parent": "eth0.65"}),
        ("internal", SubnetRecord(space="a", subnet="10.3.0.0/24"), {"parent": "eth0.65", "internal": True}),
        ("isolated", SubnetRecord(space="a", subnet="10.4.0.0/24"), {"parent": "dm-0"}),
        ("six", SubnetRecord(space="a", subnet="fd05::/64"), {"parent": "eth0.65"}),
        ("none", SubnetRecord(space="", subnet="0.0.0.0/0"), {"parent": "eth0.65"}),
    ):
        record = NetworkRecord(id=name, name=name, given={}, at=0, subnets=[subnet], **changed)
        await tables.networks.put(record, record.id)
    vlan = LinkRecord(name="eth0.65", kind="vlan", master="eth0", vlan_id=65, at=0)
    await tables.links.put(vlan, "eth0.65")
    await tables.links.put(LinkRecord(name="dm-0", kind="dummy", at=0), "dm-0")
    await store.close()
    for folder in ("proc/self", "run/systemd/netif", "run/NetworkManager", "etc/systemd/network"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/systemd/network/10-all.network").write_text("[Match]\nName=eth*\n[Network]\nDHCP=yes\n")
    environment = {"MACVLAN_GLOBAL_STATE_DIR": str(tmp_path), "MACVLAN_GLOBAL_DOCKER_HOST": "unix:///none.sock"}
    facts = await asyncio.to_thread(gather, None, str(tmp_path / "none.sock"), environment, tmp_path)
    assert [each.name for each in facts.networks if not each.gateway] == ["without"]
    wildcard = ("/etc/systemd/network/10-all.network", "eth0.65")
    assert facts.managers == ManagerFacts((wildcard,), unguarded=True)
