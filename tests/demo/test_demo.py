"""`make run` and `make stop`, on a host of the lab: the machine itself is not touched."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from demo.wire import SUBNETS, choose_subnet
from lab import ENGINES, Host, engine
from lab.leftovers import processes
from lab.paths import ROOT
from lab.process import Completed, wait_until
from lab.site import links

# Whatever the demo makes in a file system is below one of these.
FOLDERS = ("/run", "/run/docker", "/run/netns", "/var/lib", "/etc", "/opt")
CGROUPS = Path("/sys/fs/cgroup")


class Machine:
    """A host of the lab where an engine is installed and none runs, nor systemd."""

    def __init__(self, host: Host, version: str) -> None:
        """`version` is the label of the engine on the PATH."""
        self.host = host
        self._env = {"PATH": engine(version).search_path, "PYTHONPATH": str(ROOT)}

    def demo(self, action: str, *, check: bool = True) -> Completed:
        """What `make ACTION` runs."""
        return self.run(sys.executable, "-m", "demo", action, check=check)

    def run(self, *command: str, check: bool = True) -> Completed:
        """Run a command."""
        return self.host.run(command, env=self._env, check=check)

    def sh(self, line: str) -> str:
        """What a shell printed."""
        return self.run("sh", "-c", line).stdout.strip()

    def traces(self) -> dict[str, object]:
        """All that a demo could leave behind."""
        files = {folder: sorted(self.run("ls", "-A", folder, check=False).stdout.split()) for folder in FOLDERS}
        network = self.sh("stat -Lc %i /proc/self/ns/net")
        cgroups = [str(path) for path in CGROUPS.glob(f"**/macvlan-global-demo-{network}")]
        forwarding = self.sh("cat /proc/sys/net/ipv4/ip_forward")
        return {"files": files, "links": sorted(links(self.host)), "cgroups": cgroups, "forwarding": forwarding}

    def wait_for_only(self, expected: set[int]) -> None:
        """Return once these processes, and no others, run on the host."""
        wait_until(lambda: set(processes(self.host.namespace)) == expected, "end of all that was started")


@pytest.fixture(params=ENGINES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """One for each engine."""
    with Host("demo") as host:
        host.run(["mkdir", "-p", "/run/netns"])
        made = Machine(host, request.param)
        yield made
        made.demo("stop")


def test_run_twice_and_stop(machine: Machine) -> None:
    """Each run ends with two containers that reached each other, and what is proposed next works; a stop clears all."""
    before, running = machine.traces(), set(processes(machine.host.namespace))
    for _ in range(2):
        shown = machine.demo("run").stdout
        assert shown.count("1 packets received") == 4
        assert "--subnet=192.168.1.0/24 --gateway=192.168.1.254 -o parent=mg-demo0 -o macvlan_mode=bridge" in shown
        assert machine.sh("docker ps --format '{{.Names}}' | sort").split() == ["mac-one", "mac-two"]
    next_steps = re.findall(r"\$ (.*)", shown.partition("Try next:")[2])
    assert len(next_steps) == 4
    assert next_steps.pop() == "make stop"
    for line in next_steps:
        assert machine.sh(f"cd {ROOT} && {line}")
    machine.demo("stop")
    assert machine.traces() == before
    machine.wait_for_only(running)


def test_stop_and_run_again(machine: Machine) -> None:
    """A stop with nothing to stop is no error, and a run after a stop is like the first."""
    assert "nothing to take away" in machine.demo("stop").stdout
    for _ in range(2):
        machine.demo("run")
        assert "is gone" in machine.demo("stop").stdout


@pytest.mark.parametrize("machine", ["newest"], indirect=True)
@pytest.mark.parametrize("victim", ["driver", "dockerd"])
def test_stop_when_half_of_it_is_gone(machine: Machine, victim: str) -> None:
    """Without its driver or its engine, and without its wire, the demo is cleared all the same."""
    before, running = machine.traces(), set(processes(machine.host.namespace))
    machine.demo("run")
    pid = int(machine.sh(f"cut -d' ' -f1 /run/macvlan-global-demo/{victim}.pid"))
    os.kill(pid, signal.SIGKILL)
    machine.sh("ip link delete mg-demo0")
    machine.demo("stop")
    assert machine.traces() == before
    machine.wait_for_only(running)


@pytest.mark.parametrize("machine", ["newest"], indirect=True)
def test_run_repairs_what_is_gone(machine: Machine) -> None:
    """A run after its driver was killed and its wire removed ends as any other."""
    machine.demo("run")
    os.kill(int(machine.sh("cut -d' ' -f1 /run/macvlan-global-demo/driver.pid")), signal.SIGKILL)
    machine.sh("ip link delete mg-demo0")
    assert machine.demo("run").stdout.count("1 packets received") == 4


@pytest.mark.parametrize("machine", ["newest"], indirect=True)
def test_another_subnet_where_the_seeds_is_routed(machine: Machine) -> None:
    """A machine that lives in 192.168.1.0/24 keeps its routes, and is told which subnet is used instead."""
    machine.sh(
        "ip link add lan0 type veth peer name lan1; ip address add 192.168.1.77/24 dev lan0; ip link set lan0 up"
    )
    shown = machine.demo("run").stdout
    assert "192.168.201.0/24 is used instead" in shown
    assert shown.count("1 packets received") == 4


@pytest.mark.parametrize("machine", ["newest"], indirect=True)
def test_a_failure_is_one_line_and_leaves_nothing(machine: Machine) -> None:
    """With something in the way, the run says what and where the logs are, and takes back what it had made."""
    machine.sh("mkdir -p /run/macvlan-global/admin.sock/in-the-way")
    before, running = machine.traces(), set(processes(machine.host.namespace))
    failed = machine.demo("run", check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("demo: driver ended at once; it said: ")
    assert failed.stderr.count("\n") == 1
    assert "logs: build/run/*.log" in failed.stderr
    assert machine.traces() == before
    machine.wait_for_only(running)


@pytest.mark.parametrize("machine", ["newest"], indirect=True)
def test_what_is_not_the_demos_is_not_touched(machine: Machine) -> None:
    """A container of the user's with a name of the demo's is in the way, and stays."""
    machine.host.start_engine()
    machine.host.docker("run", "-d", "--init", "--network=none", "--name=mac-one", "alpine", "sleep", "600")
    failed = machine.demo("run", check=False)
    assert "container 'mac-one' that is not the demo's" in failed.stderr
    assert machine.host.docker("ps", "--format", "{{.Names}}").split() == ["mac-one"]
    assert machine.host.docker("network", "ls", "-q", "--filter", "type=custom") == ""


def test_choice_of_a_subnet() -> None:
    """The seed's subnet unless the machine goes there, by however wide a route."""
    assert choose_subnet([]) == SUBNETS[0]
    assert choose_subnet([IPv4Network("192.168.0.0/16")]) == SUBNETS[2]
    assert choose_subnet([IPv4Network("192.168.1.128/25"), IPv4Network("10.0.0.0/8")]) == SUBNETS[1]
