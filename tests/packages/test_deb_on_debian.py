"""The package on systems of each release that systemd has booted: install, upgrade, downgrade, remove, purge."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.bare import bare_system
from lab.release import EARLIER, source_of
from macvlan_global.cli.systemd import SERVICE, SOCKET
from packages import deb
from tests.packages.booted_debian import PARENT, BootedDebian, shown

RELEASES = os.environ.get("MACVLAN_GLOBAL_TESTS_RELEASES", "bookworm trixie").split()
"""Debian 12 and 13; `noble`, which is Ubuntu 24.04, if it is asked for."""
CONFIG = "/etc/macvlan-global/config.toml"
OPERATORS = "/etc/macvlan-global/parents.toml"
DROP_IN = "/etc/systemd/system/macvlan-global.service.d/mine.conf"


@dataclass(frozen=True)
class Packages:
    """The package as it is, one of an earlier driver, and one that comes after it."""

    earlier: Path
    now: Path
    later: Path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """All three, made once for all releases."""
    folder, epoch = tmp_path_factory.mktemp("debs"), deb.source_date()
    return Packages(
        deb.build(folder, deb.Made("0.0.9-1", epoch), source_of(EARLIER) / "macvlan_global"),
        deb.build(folder),
        deb.build(folder, deb.Made(f"{deb.version()}+later", epoch)),
    )


@dataclass(frozen=True)
class Machine:
    """A booted system, and the files that it had before the first package of ours came."""

    debian: BootedDebian
    before: frozenset[str]


@pytest.fixture(scope="module", params=RELEASES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """One system of each release for all tests, in their order."""
    with bare_system(request.param, shown()) as system:
        debian = BootedDebian(system)
        yield Machine(debian, frozenset(debian.files()))


def holders(debian: BootedDebian) -> dict[str, str]:
    """Names of containers by the address that the driver has them at."""
    found = json.loads(debian.run("macvlan-global", "addresses", "--json").stdout)
    return {each["address"]: each["holder"] for each in found}


def run_container(debian: BootedDebian, name: str) -> int:
    """Run a container; its process on the system."""
    debian.docker("run", "-d", "--init", "--network=lan", f"--name={name}", "alpine", "sleep", "6000")
    return process(debian, name)


def process(debian: BootedDebian, name: str) -> int:
    """The first process of a running container."""
    return int(debian.docker("inspect", "--format={{.State.Pid}}", name))


def test_installing_the_package_is_all_it_takes(machine: Machine, packages: Packages) -> None:
    """The driver runs, and starts at boot; nothing is asked, nothing has to be configured."""
    debian = machine.debian
    debian.install(packages.earlier)
    assert [debian.is_active(unit) for unit in (SOCKET, SERVICE)] == ["active"] * 2
    assert debian.run("systemctl", "is-enabled", SOCKET, SERVICE).stdout.split() == ["enabled"] * 2
    assert "macvlan-global" in debian.run("macvlan-global", "status").stdout
    debian.start_engine()
    assert SERVICE in debian.show("docker.service", "After").split()
    options = ("-d", "macvlan-global", "--ipam-driver", "macvlan-global", "-o", f"parent={PARENT}")
    debian.docker("network", "create", *options, "--subnet=10.65.0.0/24", "--gateway=10.65.0.1", "lan")
    run_container(debian, "one")


def test_an_upgrade_leaves_containers_and_settings_alone(machine: Machine, packages: Packages) -> None:
    """From the earliest driver that is known: another process serves behind the same socket."""
    debian = machine.debian
    debian.write(CONFIG, debian.run("cat", CONFIG).stdout + '\nlog_level = "debug"\n')
    debian.write(DROP_IN, "[Service]\nEnvironment=MACVLAN_GLOBAL_REPAIR_GRACE=61\n")
    debian.write(OPERATORS, '[macvlan]\nparent = "eth1"\n')
    runs, driver, held = process(debian, "one"), debian.show(SERVICE, "MainPID"), holders(debian)
    listens = debian.show(SOCKET, "ActiveEnterTimestampMonotonic")
    debian.install(packages.later)
    assert debian.is_active(SERVICE) == "active"
    assert debian.show(SERVICE, "MainPID") != driver
    assert debian.show(SOCKET, "ActiveEnterTimestampMonotonic") == listens
    assert (process(debian, "one"), holders(debian)) == (runs, held)
    assert 'log_level = "debug"' in debian.run("cat", CONFIG).stdout
    environment = debian.run("cat", f"/proc/{debian.show(SERVICE, 'MainPID')}/environ").stdout
    assert "MACVLAN_GLOBAL_REPAIR_GRACE=61" in environment.split("\0")
    run_container(debian, "two")
    assert set(holders(debian).values()) >= {"one", "two"}
    assert len(holders(debian)) == len(held) + 1


def test_a_downgrade_leaves_containers_alone(machine: Machine, packages: Packages) -> None:
    """As an upgrade does."""
    debian = machine.debian
    runs, driver, held = process(debian, "one"), debian.show(SERVICE, "MainPID"), holders(debian)
    debian.install(packages.now, "--allow-downgrades")
    assert debian.run("dpkg-query", "-W", "-f=${Version}", "macvlan-global").stdout == deb.version()
    assert debian.show(SERVICE, "MainPID") != driver
    assert (process(debian, "one"), holders(debian)) == (runs, held)


def test_the_command_completes_and_is_documented(machine: Machine) -> None:
    """bash completes commands and options of the installed program; each has its page. Rules are there."""
    typed = "COMP_WORDS=(macvlan-global stat) COMP_CWORD=1; _macvlan_global_completion macvlan-global"
    script = f'. /usr/share/bash-completion/completions/macvlan-global; {typed}; echo "${{COMPREPLY[@]}}"'
    assert machine.debian.run("bash", "-c", script).stdout.split() == ["status"]
    shipped = machine.debian.run("dpkg", "-L", "macvlan-global").stdout.split()
    assert "/usr/share/man/man8/macvlan-global-status.8.gz" in shipped
    for name in ("rules.yml", "dashboard.json"):
        assert f"/usr/share/macvlan-global/monitoring/macvlan-global.{name}" in shipped


def test_the_command_leaves_nothing_beside_its_files(machine: Machine) -> None:
    """The package compiled every module for the Python of this release, and no call adds one."""
    debian = machine.debian
    folder = "/usr/lib/macvlan-global"
    compiled = debian.run("find", folder, "-name", "*.pyc").stdout.splitlines()
    sources = debian.run("find", folder, "-name", "*.py").stdout.splitlines()
    assert len(compiled) == len(sources)
    debian.run("macvlan-global", "doctor", "--json", check=False)
    debian.run("env", "PYTHONPATH=/nowhere", "macvlan-global", "networks", "--config", CONFIG)
    assert debian.run("find", folder, "-name", "*.pyc").stdout.splitlines() == compiled


def test_removing_it_keeps_state_and_containers(machine: Machine) -> None:
    """It says that there are networks; units that `install` wrote for it go with it, and the resolver's line."""
    debian = machine.debian
    debian.write("/etc/resolv.conf", "nameserver 192.0.2.1\n")
    debian.run("macvlan-global", "dns", "install")
    debian.run("macvlan-global", "install")
    assert debian.show(SERVICE, "FragmentPath") == f"/etc/systemd/system/{SERVICE}"
    runs = process(debian, "one")
    said = debian.run("apt-get", "-q", "-y", "remove", "macvlan-global").stdout
    assert "there are still networks of this driver" in said
    assert debian.is_active(SERVICE) != "active"
    assert debian.run("test", "-e", f"/etc/systemd/system/{SERVICE}", check=False).returncode != 0
    assert debian.run("cat", "/etc/resolv.conf").stdout == "nameserver 192.0.2.1\n"
    assert process(debian, "one") == runs
    assert "10.65.0." in debian.docker("exec", "one", "ip", "addr")
    assert 'log_level = "debug"' in debian.run("cat", CONFIG).stdout


def test_it_stands_beside_another_installation(machine: Machine, packages: Packages) -> None:
    """The other's service goes on. Once it is gone, the package's driver has networks and addresses as before."""
    debian = machine.debian
    other = "# Written by `macvlan-global install`\n[Service]\nExecStart=/bin/sleep 6000\n"
    debian.unit(SERVICE, other)
    debian.run("systemctl", "daemon-reload")
    debian.run("systemctl", "start", SERVICE)
    driver, runs = debian.show(SERVICE, "MainPID"), process(debian, "one")
    assert "is of another installation, which goes on" in debian.install(packages.now)
    assert debian.show(SERVICE, "MainPID") == driver
    assert debian.run("cat", f"/etc/systemd/system/{SERVICE}").stdout == other
    debian.run("systemctl", "stop", SERVICE)
    debian.run("rm", f"/etc/systemd/system/{SERVICE}")
    debian.run("systemctl", "daemon-reload")
    debian.run("systemctl", "enable", "--now", SOCKET, SERVICE)
    assert process(debian, "one") == runs
    assert set(holders(debian).values()) >= {"one", "two"}


def test_purging_it_leaves_nothing_but_what_is_the_operators(machine: Machine) -> None:
    """Every file that there was is there as it was, and of the others those that the operator made."""
    debian = machine.debian
    debian.docker("rm", "-f", "one", "two")
    debian.docker("network", "rm", "lan")
    debian.run("systemctl", "stop", "docker.service")
    debian.run("rm", "/etc/systemd/system/docker.service")
    debian.run("apt-get", "-q", "-y", "purge", "macvlan-global")
    after = debian.files()
    assert machine.before - after == set()
    assert sorted(line.split()[0] for line in after - machine.before) == sorted(
        [DROP_IN, f"{DROP_IN.rpartition('/')[0]}/", OPERATORS, f"{OPERATORS.rpartition('/')[0]}/"]
    )
