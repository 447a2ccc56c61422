"""Hosts, wires, engines: they work, and nothing of them stays."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab import (
    ENGINES,
    CommandError,
    DockerError,
    Host,
    LabError,
    Wire,
    engine,
    kernel_has,
    leftovers,
    reap_leftovers,
)
from lab.paths import PREFIX, ROOT, RUN
from lab.site import EngineHost
from lab.speed import SLOWNESS_VARIABLE

OWN_NETWORK = Path("/proc/thread-self/ns/net")
NETWORK = ("network", "create", "-d", "macvlan", "--subnet=10.65.0.0/24", "-o", "parent=eth1", "lan")
# --init: a shell or a sleep that is process 1 ignores the signal to end, and a
# stop would take ten seconds.
CONTAINER = ("run", "-d", "--init", "--network=lan")


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Host, Host]]:
    """Two hosts on one wire, with the oldest and the newest engine and one network."""
    with Wire() as wire, Host("a") as a, Host("b") as b:
        for host in (a, b):
            wire.plug(host)
        with ThreadPoolExecutor() as pool:
            list(pool.map(Host.start_engine, (a, b), ENGINES))
        for host in (a, b):
            host.docker(*NETWORK)
        yield a, b


def test_containers_reach_each_other_across_hosts(pair: tuple[Host, Host]) -> None:
    """Built-in macvlan works on both engines, and the wire joins them."""
    a, b = pair
    a.docker(*CONTAINER, "--name=one", "--ip=10.65.0.11", "alpine", "sleep", "600")
    answer = b.docker("run", "--rm", "--network=lan", "--ip=10.65.0.12", "alpine", "ping", "-c1", "-W2", "10.65.0.11")
    assert "1 packets received" in answer
    a.docker("rm", "-f", "one")


def test_each_host_has_the_engine_that_was_asked_for(pair: tuple[Host, Host]) -> None:
    """Versions differ, and so do the names by which engines know their hosts."""
    versions = [host.docker("version", "-f", "{{.Server.Version}}").split("+")[0] for host in pair]
    names = [host.docker("info", "-f", "{{.Name}}").strip() for host in pair]
    assert versions == [engine(label).version for label in ENGINES]
    assert names == ["a", "b"]


def test_a_refusal_of_docker_is_an_error_with_its_words(pair: tuple[Host, Host]) -> None:
    """Tests can assert on what the engine says."""
    with pytest.raises(DockerError) as refused:
        pair[0].docker("network", "create", "-d", "macvlan", "-o", "parent=nope0", "-o", "bad=1", "x")
    assert "nope0" in refused.value.stderr or "nope0" in str(refused.value)


def test_a_ping_without_an_answer_is_told_from_one_that_never_ran(pair: tuple[Host, Host]) -> None:
    """A test that waits for an answer hears that its container is not there, or that it ended."""
    for site in map(EngineHost, pair):
        site.start("lan", "asks")
        assert site.reaches("asks", "127.0.0.1")
        assert not site.reaches("asks", "10.65.0.99")
        assert not site.reaches("asks", "no..name")
        with pytest.raises(DockerError, match="No such container"):
            site.reaches("nobody", "127.0.0.1")
        site.docker("kill", "asks")
        with pytest.raises(DockerError, match="is not running"):
            site.reaches("asks", "127.0.0.1")
        site.docker("rm", "-f", "asks")


def test_plugin_sockets_of_hosts_are_apart(pair: tuple[Host, Host]) -> None:
    """/run, /etc and /var/lib are each host's own, and none is the machine's."""
    a, b = pair
    mark = "for d in /run/docker/plugins /etc /var/lib; do mkdir -p $d; echo $HOST > $d/lab-mark; done"
    look = ["cat", "/run/docker/plugins/lab-mark", "/etc/lab-mark", "/var/lib/lab-mark"]
    for host in pair:
        host.run(["sh", "-c", mark], env={"HOST": host.name})
    assert [host.run(look).stdout.split() for host in (a, b)] == [["a"] * 3, ["b"] * 3]
    assert not Path("/etc/lab-mark").exists()


def test_a_container_outlives_its_engine_with_live_restore() -> None:
    """Stop and crash both leave it running, and the next engine knows it again."""
    with Host("live") as host:
        host.start_engine(ENGINES[-1], live_restore=True)
        host.docker("run", "-d", "--init", "--name=stays", "--network=none", "alpine", "sleep", "600")
        begun = host.docker("inspect", "-f", "{{.State.StartedAt}}", "stays")
        host.restart_engine()
        host.kill_engine()
        host.restart_engine()
        assert host.docker("inspect", "-f", "{{.State.Running}} {{.State.StartedAt}}", "stays") == f"true {begun}"


@pytest.mark.parametrize("version", ENGINES)
def test_a_host_on_an_earlier_hosts_state_is_that_host_rebooted(version: str, tmp_path: Path) -> None:
    """Networks and files are there again, interfaces are not, and restart policies are kept."""
    for boot in (1, 2):
        with Wire() as wire, Host("again", state=tmp_path) as host:
            wire.plug(host)
            host.start_engine(version)
            if boot == 1:
                host.docker(*NETWORK)
                host.docker(*CONTAINER, "--name=back", "--restart=always", "alpine", "sleep", "600")
                host.run(["touch", "/var/lib/kept", "/run/lost"])
            found = host.run(["ls", "/var/lib/kept", "/run/lost"], check=False).stdout.split()
            assert ("/var/lib/kept" in found, "/run/lost" in found) == (True, boot == 1)
            assert "back" in host.docker("ps", "--format", "{{.Names}}")


def test_a_cut_wire_carries_nothing_until_it_is_mended() -> None:
    """A partition is one call, and so is its end; each host has its own addresses."""
    with Wire(mtu=9000) as wire, Host("left") as left, Host("right") as right:
        wire.plug(left, "eth0", addresses=["192.0.2.1/24", "2001:db8::1/64"])
        wire.plug(right, "eth0", mtu=1400, addresses=["192.0.2.2/24", "2001:db8::2/64"])
        ping, ping6 = ["ping", "-c1", "-W1", "192.0.2.2"], ["ping", "-c1", "-W2", "2001:db8::2"]
        left.run(ping)
        left.run(ping6)
        assert left.run(["cat", "/sys/class/net/eth0/mtu"]).stdout == "9000\n"
        assert right.run(["cat", "/sys/class/net/eth0/mtu"]).stdout == "1400\n"
        wire.cut(right, "eth0")
        with pytest.raises(CommandError):
            left.run(ping)
        wire.mend(right, "eth0")
        left.run(ping)


def test_a_thread_can_open_sockets_of_a_host() -> None:
    """Inside the block the thread sees the host's interfaces, and afterwards the machine's."""
    outside = OWN_NETWORK.readlink()
    with Host("net") as host:
        with host.in_network():
            assert OWN_NETWORK.readlink() != outside
        assert OWN_NETWORK.readlink() == outside


def test_nothing_stays_after_close() -> None:
    """Engine, containers, daemons, namespaces, folders, cgroups: all gone, crash or not."""
    with pytest.raises(ZeroDivisionError), Wire() as wire, Host("gone") as host:
        wire.plug(host)
        host.start_engine()
        host.docker(*NETWORK)
        host.docker("run", "-d", "--name=orphan", "--network=lan", "alpine", "sleep", "600")
        daemon = host.popen(["sleep", "600"])
        host.kill_engine()
        assert len(leftovers.processes(host.namespace)) >= 3
        raise ZeroDivisionError
    assert daemon.poll() is not None
    assert traces(host.namespace) == []
    assert traces(wire.namespace) == []
    host.close()


def test_leftovers_of_a_killed_run_are_reaped() -> None:
    """A maker that is killed cannot clean up; the next run does, and spares the living."""
    script = (
        "from lab import Host\n"
        "host = Host('left')\n"
        "host.start_engine()\n"
        "host.docker('run', '-d', '--network=none', 'alpine', 'sleep', '600')\n"
        "print(host.namespace, flush=True)\n"
        "input()\n"
    )
    with (
        Host("alive") as alive,
        subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as maker,
    ):
        assert maker.stdout is not None
        identity = maker.stdout.readline().strip()
        maker.kill()
        maker.wait()
        assert len(leftovers.processes(identity)) >= 3
        assert identity in reap_leftovers()
        alive.run(["true"])
    assert traces(identity) == []


def test_two_hosts_of_one_name_are_refused() -> None:
    """The name is the host's identity in this process; the first host is left alone."""
    with Host("twin") as first:
        with pytest.raises(LabError, match="twin"):
            Host("twin")
        first.run(["true"])


def test_an_engine_that_ends_at_once_says_why() -> None:
    """The error holds the log's end, not only that time ran out."""
    with Host("bad") as host, pytest.raises(LabError, match="no-such-driver"):
        host.start_engine(daemon_json={"storage-driver": "no-such-driver"})


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("wait_until(bool, 'end', seconds=0.1)", "no end within 0.3 s"),
        ("run(['sleep', '600'], timeout=0.1)", "sleep 600 was still running after 0.3 s"),
    ],
)
def test_a_slow_machine_is_given_more_time(call: str, said: str) -> None:
    """What is slower everywhere, as the guest kernel is, makes no wait there end too early."""
    program = f"from lab.process import run, wait_until; {call}"
    env = {SLOWNESS_VARIABLE: "3", "PATH": os.defpath}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert said in done.stderr


def test_the_kernel_is_probed_for_real() -> None:
    """What is nearly always there is found, and what cannot be is not."""
    assert kernel_has("macvlan")
    assert kernel_has("veth")
    assert not kernel_has("no-such-kind")


def traces(identity: str) -> list[str]:
    """What is left of a host, as text for the reader of a failed test."""
    assert identity.startswith(PREFIX)
    cgroups = [str(found) for found in Path("/sys/fs/cgroup").glob(f"*/{identity}")]
    places = [str(place / identity) for place in (Path("/run/netns"), RUN) if (place / identity).exists()]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if identity in line]
    return [*places, *cgroups, *mounts, *map(str, leftovers.processes(identity))]
