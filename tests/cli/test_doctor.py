"""The doctor on real hosts: links of a real kernel, and the command beside a running driver."""

import json
import sys

import msgspec

from lab import Host, Wire
from lab.driver import Driver
from macvlan_global.doctor.findings import Finding

PYTHON = (sys.executable,)


def test_links_of_a_real_kernel() -> None:
    """Up, down, a bridge, its port, a link on another: as sysfs of a real host shows them."""
    with Host("doctor") as host:
        for line in (
            "link add eth1 type veth peer name eth2",
            "link add br0 type bridge",
            "link set eth2 master br0",
            "link set br0 up mtu 1400",
            "link set eth1 up mtu 9000",
            "link add mv0 link eth1 type macvlan",
        ):
            host.run(["ip", *line.split()])
        script = "from macvlan_global.doctor.kernel import *; import msgspec; from pathlib import Path; "
        script += "print(msgspec.json.encode(read_links(Path('/'))).decode())"
        links = json.loads(host.run([*PYTHON, "-c", script]).stdout)
    assert {name: link["up"] for name, link in links.items()} == {
        "lo": True,
        "eth1": True,
        "eth2": False,
        "br0": True,
        "mv0": False,
    }
    assert (links["eth2"]["port_of"], links["br0"]["bridge"], links["eth1"]["port_of"]) == ("br0", True, "")
    assert (links["eth1"]["mtu"], links["eth1"]["carrier"], links["mv0"]["carrier"]) == (9000, False, None)
    assert links["mv0"]["below"] == ["eth1"]


def test_firewalls_and_routes_of_a_real_kernel() -> None:
    """What nft and iptables set up in a host is read there: its chains, and routes of one address."""
    with Host("doctor") as host:
        for line in (
            "ip link add eth1 type veth peer name eth2",
            "ip link set eth1 up",
            "ip address add 10.8.0.2/24 dev eth1",
            "ip link add mgh-eth1 link eth1 type macvlan",
            "ip link set mgh-eth1 up",
            "ip route add 10.8.0.50/32 dev mgh-eth1 src 10.8.0.2",
            "nft add table inet filter",
            "nft add chain inet filter input { type filter hook input priority 0; policy drop; }",
            "nft add rule inet filter input iifname eth1 tcp dport 22 accept",
            "iptables-legacy -P INPUT DROP",
            "iptables-legacy -A INPUT -i eth1 -j ACCEPT",
        ):
            host.run(line.split())
        script = (
            "from macvlan_global.doctor.kernel import *; import msgspec; from pathlib import Path; root = Path('/'); "
        )
        script += "print(msgspec.json.encode([read_filters(root), read_links(root)['mgh-eth1']]).decode())"
        chains, link = json.loads(host.run([*PYTHON, "-c", script]).stdout)
    found = {(each["table"], each["name"]): each for each in chains if each["hook"] == "input"}
    assert found.keys() == {("inet filter", "input"), ("filter", "INPUT")}
    assert all(each["drops"] for each in found.values())
    rules = [each["rules"][0] for each in found.values()]
    assert [(each["links"], each["conditional"]) for each in rules] == [(["eth1"], True), (["eth1"], False)]
    assert (link["leads_to"], link["asks"]) == (["10.8.0.50"], True)


def test_the_command_against_a_running_driver(driver: Driver) -> None:
    """Without an engine it ends with 1 and says how to start one; state, driver and parents are seen for real."""
    done = driver.cli("doctor", check=False)
    assert done.returncode == 1
    assert "the Docker Engine does not answer: no such file or directory (/var/run/docker.sock)" in done.stdout
    assert "→ start it (systemctl start docker)" in done.stdout
    found = json.loads(driver.cli("doctor", "--json", check=False).stdout)
    assert found["worst"] == "error"
    by_check: dict[str, list[Finding]] = {}
    for each in msgspec.convert(found["findings"], list[Finding]):
        by_check.setdefault(each.check, []).append(each)
    assert [each.level for each in by_check["state"] + by_check["rights"] + by_check["socket"]] == ["ok"] * 3
    assert [each.level for each in by_check["parents"]] == ["ok", "error"]
    assert "eth2 (network 2b2b2b2b2b2b) is down" in by_check["parents"][1].seen
    assert f"(pid {driver.pid})" in by_check["rights"][0].seen


def test_a_driver_that_is_away_and_a_damaged_state(host: Host) -> None:
    """The doctor works without a driver, and opens a broken file without changing it."""
    host.run(["sh", "-c", "mkdir -p /run/sick; head -c 9000 /dev/zero | tr '\\0' x > /run/sick/state.db"])
    before = (host.run_folder / "sick/state.db").read_bytes()
    away = {"MACVLAN_GLOBAL_STATE_DIR": "/run/sick", "MACVLAN_GLOBAL_ADMIN_SOCKET": "/run/sick/admin.sock"}
    done = host.run([*PYTHON, "-m", "macvlan_global", "doctor"], check=False, env=away)
    assert done.returncode == 1
    assert "the state file /run/sick/state.db is damaged" in done.stdout
    assert "the driver is not running here (no socket /run/sick/admin.sock)" in done.stdout
    assert (host.run_folder / "sick/state.db").read_bytes() == before
    assert sorted(each.name for each in (host.run_folder / "sick").iterdir()) == ["state.db"]


def test_a_mistake_in_the_configuration_is_a_finding(host: Host) -> None:
    """The doctor does not stop at what would stop the driver."""
    host.run(["sh", "-c", "echo 'sokcet = 1' > /run/wrong.toml"])
    done = host.run([*PYTHON, "-m", "macvlan_global", "doctor", "--config", "/run/wrong.toml"], check=False)
    assert "unknown key 'sokcet' in /run/wrong.toml; did you mean 'socket'?" in done.stdout


def test_with_an_engine_that_uses_the_plugin_all_is_well() -> None:
    """A real engine with a network of ours: no error, exit code 0, and the engine's version and plugin are seen."""
    with Wire() as wire, Host("well") as host:
        wire.plug(host)
        driver = Driver(host)
        driver.start()
        host.start_engine("oldest", image=False)
        ours = ("network", "create", "-d", "macvlan-global", "--ipam-driver", "macvlan-global")
        host.docker(*ours, "--subnet=10.65.0.0/24", "-o", "parent=eth1", "lan")
        text = driver.cli("doctor").stdout
        assert "Docker 20.10.24" in text
        assert "is for root only; the engine uses it" in text
        assert "eth1 (network lan) is up, MTU 1500" in text
        host.docker("network", "rm", "lan")
        driver.stop()
