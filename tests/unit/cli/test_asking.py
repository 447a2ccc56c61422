"""Commands that ask a running driver: tables, JSON, errors and exit codes."""

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from macvlan_global import __version__
from macvlan_global.engine.ports import EngineNetwork
from macvlan_global.errors import A_BUG
from macvlan_global.kernel.ports import MacvlanSpec
from macvlan_global.libnetwork.handlers import NAME_KEY
from macvlan_global.store.memory import MemoryStore
from testkit.fake_engine import OUR_IPAM
from tests.unit.running import ENDPOINT, ISOLATED, LAN, SPACE, Running, command, free_address, running, with_networks


@pytest.fixture
async def daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Running]:
    """A driver in local scope with two networks and an endpoint."""
    async with running(tmp_path, capsys) as made:
        await with_networks(made)
        yield made


async def test_status(daemon: Running) -> None:
    """The driver, the engine's version and the counts; JSON has them as numbers."""
    text = (await daemon.cli("status")).text
    assert f"Driver:     macvlan-global {__version__}, pid " in text
    assert re.search(r"^Host: +anna$", text, re.MULTILINE)
    assert re.search(r"^Scope: +local$", text, re.MULTILINE)
    assert re.search(r"^Engine: +Docker 28.5.2$", text, re.MULTILINE)
    found = (await daemon.cli("status", "--json")).json
    assert (found["networks"], found["endpoints"], found["addresses"], found["engine"]) == (2, 1, 4, "28.5.2")
    assert found["engine_sees_plugin"] is True


async def test_a_parent_that_is_renamed_under_containers_is_a_problem(daemon: Running) -> None:
    """Of the network that has some, until it has its name again."""
    for name in ("eth1", "eth2"):
        daemon.kernel.rename(name, f"{name}-old")
    (problem,) = (await daemon.cli("status", "--json")).json["problems"]
    shown = f"(lan|{LAN[:12]})"  # its name is learnt from the engine, which may take a moment
    assert re.match(f"the parent eth1 of network {shown} is not there, and 1 of its containers run: ", problem)
    assert "; name it eth1 again (ip link set NAME name eth1)" in problem
    daemon.kernel.rename("eth1-old", "eth1")
    assert (await daemon.cli("status", "--json")).json["problems"] == []


async def test_a_bug_is_told_as_one(daemon: Running, caplog: pytest.LogCaptureFixture) -> None:
    """The kernel says what nobody expected; the log has it, the command line has a sentence."""
    faults = daemon.kernel.faults
    faults.error, faults.refused = ArithmeticError("a link of minus one byte"), "link"
    done = await daemon.cli("parents", "lan")
    assert (done.code, done.error) == (1, A_BUG)
    assert "minus one byte" in caplog.text
    faults.refused = ""
    assert (await daemon.cli("parents", "lan")).code == 0


async def test_networks(daemon: Running) -> None:
    """A line for each subnet; the parent's state is told, and JSON has the options and the use."""
    table = [re.split(r" {3,}", line) for line in (await daemon.cli("networks")).text.splitlines()]
    assert table == [
        ["NETWORK ID", "NAME", "PARENT", "STATE", "MODE", "ENDPOINTS", "SUBNET", "GATEWAY", "USED"],
        [ISOLATED[:12], "isolated", "eth2", "down", "private", "0", "10.66.0.0/24", "10.66.0.1", "1 of 254"],
        [LAN[:12], "lan", "eth1", "up", "bridge", "1", "10.65.0.0/24", "10.65.0.1", "2 of 254"],
        ["", "fd65::/64", "fd65::1", "1 of 2^64"],
    ]
    found = {each["name"]: each for each in (await daemon.cli("networks", "--json")).json}
    first, second = found["lan"], found["isolated"]
    assert first["options"] == {"parent": "eth7, eth1"}
    assert [(each["used"], each["size"]) for each in first["subnets"]] == [(2, 254), (1, 2**64 - 1)]
    assert (second["parent_state"], second["parent_made"]) == ("down", False)


async def test_addresses(daemon: Running) -> None:
    """By network, in the order of their numbers; of one network if it is named, by name or by id."""
    found = (await daemon.cli("addresses", "--json")).json
    holders = {each["address"]: (each["kind"], each["network"], each["holder"], each["host"]) for each in found}
    assert holders == {
        "10.65.0.1": ("gateway", "lan", "", "anna"),
        "10.65.0.9": ("endpoint", "lan", ENDPOINT[:12], "anna"),
        "fd65::1": ("gateway", "lan", "", "anna"),
        "10.66.0.1": ("gateway", "isolated", "", "anna"),
    }
    table = (await daemon.cli("addresses")).text.splitlines()
    assert [line.split()[0] for line in table[1:]] == ["10.66.0.1", "10.65.0.1", "10.65.0.9", "fd65::1"]
    for name in ("isolated", ISOLATED, "2b"):
        assert [each["address"] for each in (await daemon.cli("addresses", name, "--json")).json] == ["10.66.0.1"]


async def test_remembered_addresses(daemon: Running) -> None:
    """They are listed on request, the longest unused first, and one is forgotten on request, unless somebody has it."""
    pool = f"{SPACE}/10.65.0.0/24"
    for number, name in enumerate(("web", "db")):
        got = await daemon.call("IpamDriver.RequestAddress", PoolID=pool, Address="", Options={NAME_KEY: name})
        endpoint = {"NetworkID": LAN, "EndpointID": f"{number}d" * 32}
        await daemon.call("NetworkDriver.CreateEndpoint", **endpoint, Interface={"Address": got["Address"]})
        if name == "web":
            await daemon.call("NetworkDriver.DeleteEndpoint", **endpoint)
            await daemon.call("IpamDriver.ReleaseAddress", PoolID=pool, Address=got["Address"])
    table = (await daemon.cli("addresses", "--remembered")).rows
    assert [row[0] for row in table] == ["ADDRESS", "10.65.0.2", "10.65.0.3"]
    found = (await daemon.cli("addresses", "lan", "--remembered", "--json")).json
    told = [(each["address"], each["network"], each["name"], each["host"], each["in_use"]) for each in found]
    assert told == [("10.65.0.2", "lan", "web", "anna", False), ("10.65.0.3", "lan", "db", "anna", True)]
    assert (await daemon.cli("addresses", "isolated", "--remembered", "--json")).json == []
    done = await daemon.cli("addresses", "forget", "10.65.0.2")
    assert done.text == "Address 10.65.0.2, of container web on network lan, is forgotten.\n"
    again = await daemon.cli("addresses", "forget", "10.65.0.2", "--json")
    assert (again.code, again.text) == (1, "") and "10.65.0.2 is not remembered" in again.error
    assert "is in use" in (await daemon.cli("addresses", "forget", "10.65.0.3")).error
    assert "is in use" in (await daemon.cli("addresses", "--remembered", "--json", "forget", "10.65.0.3")).error
    assert "'zz' is not an IP address" in (await daemon.cli("addresses", "forget", "zz")).error


async def test_parents(daemon: Running) -> None:
    """Each entry has a verdict with its reason; a network without a usable one is told so."""
    text = (await daemon.cli("parents", "lan")).text
    assert re.search(r"^Asked for: +parent=eth7, eth1$", text, re.MULTILINE)
    assert re.search(r"^eth7 +passed over +no such interface$", text, re.MULTILINE)
    assert re.search(r"^eth1 +chosen +exists", text, re.MULTILINE)
    assert "eth2; no entry is usable now" in (await daemon.cli("parents", "isolated")).text
    found = (await daemon.cli("parents", "isolated", "--json")).json
    assert (found["current"], found["chosen"]) == ("eth2", "")


async def test_repair(daemon: Running) -> None:
    """A dry run changes nothing; then the same correction is done, and nothing is left to correct."""
    daemon.engine.learn(EngineNetwork("n9", "late", OUR_IPAM, options={"parent": "eth1"}))
    planned = (await daemon.cli("repair", "--dry-run")).text
    why = "the engine has it, and the state does not"
    assert re.search(rf"^AdoptNetwork +to do +network late +{why}$", planned, re.MULTILINE)
    assert (await daemon.cli("status", "--json")).json["networks"] == 2
    done = (await daemon.cli("repair", "--json")).json
    adopted = [each for each in done["corrections"] if each["action"] == "AdoptNetwork"]
    assert [each["subject"] for each in adopted] == ["network late"]
    assert (await daemon.cli("status", "--json")).json["networks"] == 3


async def test_repair_leaves_a_link_alone_that_it_has_just_seen(daemon: Running) -> None:
    """Another driver on this host may have made it a moment ago."""
    await daemon.kernel.add_macvlan(_stray())
    assert "DeleteStray" not in (await daemon.cli("repair")).text
    assert "mg-0123456789ab" in daemon.kernel.hosted


async def test_local_scope_has_no_other_hosts(daemon: Running) -> None:
    """Neither to list nor to remove."""
    for words in (["hosts"], ["hosts", "remove", "bert"]):
        done = await daemon.cli(*words)
        assert (done.code, done.text) == (1, "")
        assert "this driver runs in local scope and knows no other hosts" in done.error


@pytest.mark.parametrize("words", [("hosts", "remove", "bert"), ("addresses", "forget", "10.65.0.9")])
async def test_options_before_a_subcommand_are_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, str, str]
) -> None:
    """It must not take addresses away at another driver than the one that was named; one behind it counts more."""
    group, *rest = words
    config = tmp_path / "config.toml"
    config.write_text(f'admin_socket = "{tmp_path}/named.sock"\n')
    away = "the driver is not running here (no socket {})"
    for options in (["--config", str(config)], [f"--config={config}"], ["--admin-socket", f"{tmp_path}/named.sock"]):
        done = command(capsys, group, *options, "--json", *rest)
        assert (done.code, done.error.partition(";")[0]) == (1, away.format(tmp_path / "named.sock"))
    behind = ["--admin-socket", f"{tmp_path}/behind.sock"]
    assert away.format(tmp_path / "behind.sock") in command(capsys, group, *options, *rest, *behind).error


@pytest.mark.parametrize("words", [("parents", "zz"), ("addresses", "zz")])
async def test_a_network_that_is_not_there(daemon: Running, words: tuple[str, ...]) -> None:
    """The error names those that are."""
    done = await daemon.cli(*words)
    assert (done.code, done.text) == (1, "")
    assert done.error == "there is no network 'zz' of macvlan-global on this host; there is: isolated, lan"


async def test_doctor(daemon: Running, tmp_path: Path) -> None:
    """Parents and state of the running driver are seen; the exit code says that there is an error."""
    _host_files(tmp_path)
    config = tmp_path / "config.toml"
    config.write_text(f'state_dir = "{daemon.config.state_dir}"\ndocker_host = "unix://{tmp_path}/none.sock"\n')
    words = ("doctor", "--config", str(config), "--root", str(tmp_path))
    done = await daemon.cli(*words, "--json")
    assert done.code == 1
    found = {each["check"]: each for each in done.json["findings"]}
    assert found["state"]["level"] == "ok"
    assert (
        found["engine"]["seen"]
        == f"the Docker Engine does not answer: no such file or directory ({tmp_path}/none.sock)"
    )
    assert found["kernel"]["seen"] == "the kernel has no IPv6, but lan need it"
    table = (await daemon.cli(*words)).text
    assert "→ start it (systemctl start docker)" in table
    assert re.search(r"^\d+ errors?, .*\d+ ok\.$", table, re.MULTILINE)


async def test_a_cluster_store_that_is_not_used_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In local scope `status` names the store that is used, and `doctor` warns; the configuration is not at fault."""
    _host_files(tmp_path)
    config = tmp_path / "config.toml"
    config.write_text(f'docker_host = "unix://{tmp_path}/none.sock"\n')
    async with running(tmp_path, capsys, scope="local", store="consul://10.0.0.1:8500") as daemon:
        text = (await daemon.cli("status")).text
        assert re.search(r"^Store: +sqlite, state in ", text, re.MULTILINE)
        assert re.search(r"^Unused: +consul://10.0.0.1:8500, in scope local$", text, re.MULTILINE)
        found = (await daemon.cli("status", "--json")).json
        assert (found["store"], found["unused_store"]) == ("sqlite", "consul://10.0.0.1:8500")
        looked = await daemon.cli("doctor", "--config", str(config), "--root", str(tmp_path), "--json")
        told = [each for each in looked.json["findings"] if "consul://10.0.0.1:8500 is not used" in each["seen"]]
        assert [(each["level"], each["check"]) for each in told] == [("warning", "driver")]


async def test_doctor_warns_of_network_manager_before_it_replaces_resolv_conf(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file that `dns install` made of a link of systemd-resolved names the resolver, and would not for long."""
    _host_files(tmp_path)
    for folder in ("etc", "run/systemd/resolve", "run/NetworkManager"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "run/systemd/resolve/stub-resolv.conf").write_text("nameserver 127.0.0.53\n")
    (tmp_path / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    installed = command(capsys, "dns", "install", "--root", str(tmp_path))
    assert "warning: NetworkManager replaces this file by one of its own" in installed.text
    config = tmp_path / "config.toml"
    config.write_text(f'docker_host = "unix://{tmp_path}/none.sock"\n')
    async with running(tmp_path, capsys, shared=MemoryStore(), dns=free_address()) as daemon:
        looked = await daemon.cli("doctor", "--config", str(config), "--root", str(tmp_path), "--json")
    told = [each for each in looked.json["findings"] if each["check"] == "names" and "NetworkManager" in each["seen"]]
    assert [(each["level"], each["do"].partition(" below ")[0]) for each in told] == [
        ("warning", "dns=systemd-resolved")
    ]
    removed = command(capsys, "dns", "remove", "--root", str(tmp_path))
    assert (removed.code, "warning" in removed.text) == (0, False)
    assert [each.name for each in (tmp_path / "etc").iterdir()] == ["resolv.conf"]


async def test_a_store_that_was_configured_after_the_start_is_told(daemon: Running, tmp_path: Path) -> None:
    """The driver knows nothing of it until it is restarted; its flags and its environment are its configuration too."""
    _host_files(tmp_path)
    config, process = tmp_path / "config.toml", tmp_path / "proc" / str(os.getpid())
    process.mkdir()
    first = f'state_dir = "{daemon.config.state_dir}"\ndocker_host = "unix://{tmp_path}/none.sock"\n'
    store = "consul://10.0.0.1:8500"
    said = f"the driver runs with store sqlite, and its configuration has {store} by now"

    async def told(words: str, environment: str, text: str) -> list[str]:
        (process / "cmdline").write_text(f"python\0macvlan-global\0serve\0{words}\0")
        (process / "environ").write_text(f"A=b\0{environment}\0")
        config.write_text(first + text)
        words_of = ("doctor", "--config", str(config), "--root", str(tmp_path), "--json")
        found = [each for each in (await daemon.cli(*words_of)).json["findings"] if each["check"] == "config"]
        assert all("restart the driver (" in each["do"] for each in found if each["level"] == "warning")
        return [each["seen"] for each in found]

    assert await told("", "", f'store = "{store}"\n') == [said]
    assert await told("", f"MACVLAN_GLOBAL_STORE={store}", "") == [said]
    right = [f"{config} is valid"]
    assert await told("--store\0sqlite", "", f'store = "{store}"\n') == right
    assert await told("", "MACVLAN_GLOBAL_STORE=sqlite", f'store = "{store}"\n') == right
    assert await told("", "", "") == right


async def test_doctor_knows_the_flags_of_the_driver(daemon: Running, tmp_path: Path) -> None:
    """Host access may be on by a flag of `serve` alone."""
    _host_files(tmp_path)
    config = tmp_path / "config.toml"
    config.write_text(f'state_dir = "{daemon.config.state_dir}"\ndocker_host = "unix://{tmp_path}/none.sock"\n')
    (tmp_path / "sys/class/net/eth1").mkdir(parents=True, exist_ok=True)
    process = tmp_path / "proc" / str(os.getpid())
    process.mkdir()
    for words, told in (("--host-access=true", True), ("--host-access\0true", True), ("--log-level\0debug", False)):
        (process / "cmdline").write_text(f"python\0macvlan-global\0serve\0{words}\0")
        done = await daemon.cli("doctor", "--config", str(config), "--root", str(tmp_path), "--json")
        seen = [each["seen"] for each in done.json["findings"] if each["check"] == "host"]
        assert any("it has no mgh- link on eth1" in each for each in seen) == told


def _stray() -> MacvlanSpec:
    return MacvlanSpec(name="mg-0123456789ab", parent="eth1", mode="bridge", mac="")


def _host_files(root: Path) -> None:
    """What the kernel shows of a host with macvlan loaded, and eth1."""
    texts = {"proc/modules": "macvlan 1 0 -\n8021q 1 0 -\ndummy 1 0 -\n", "proc/sys/kernel/osrelease": "6.1-x\n"}
    texts |= {"sys/class/net/eth1/flags": "0x1003\n", "sys/class/net/eth1/mtu": "1500\n"}
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
