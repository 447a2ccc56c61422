"""A site whose driver can be told to die, and the loop that lets it die before every change in turn."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from lab import DockerError, Host, Wire
from lab.driver import Driver
from lab.process import wait_until
from lab.site import Site, links
from lab.speed import patience
from macvlan_global.errors import Unavailable
from tests.e2e.attach.legs_seen import names

LAUNCHER = Path(__file__).with_name("crashing_driver.py")
ALLOWANCE = "macvlan-global-allowance"
MOST_CHANGES = 40
GATEWAYS = ("192.168.1.254", "fd18::fe")
NETWORK = (
    "--ipv6",
    "--subnet=192.168.1.0/24",
    "--subnet=fd18::/64",
    *(f"--gateway={gateway}" for gateway in GATEWAYS),
    *("-o", "parent=eth1"),
)
ADDRESSES = ("--ip=192.168.1.10", "--ip6=fd18::10")


class CrashSite(Site):
    """A site whose driver can be told to die."""

    options: tuple[str, ...] = ()
    """Further arguments of `docker network create`."""

    @classmethod
    @contextlib.contextmanager
    def running(cls, version: str) -> Iterator[Self]:
        """A host with this engine, and the driver."""
        with Wire() as wire, Host("crash") as host:
            wire.plug(host)
            driver = Driver(host)
            driver.command = [sys.executable, str(LAUNCHER), f"/run/{ALLOWANCE}"]
            driver.start()
            host.start_engine(version)
            yield cls(wire, host, driver, version)

    @classmethod
    @contextlib.contextmanager
    def with_talk(cls, version: str) -> Iterator[Self]:
        """The same with two containers, bird and mate, that reach each other throughout."""
        with cls.running(version) as site:
            site.create("canary", "--subnet=10.9.9.0/24", "--gateway=10.9.9.1", "-o", "parent=eth1")
            site.start("canary", "bird", "--ip=10.9.9.8")
            site.start("canary", "mate", "--ip=10.9.9.9")
            yield site
            assert "0% packet loss" in site.docker("exec", "bird", "ping", "-c1", "-W2", "10.9.9.9")

    @property
    def allowance(self) -> Path:
        """The file that says how many changes are still allowed."""
        return self.host.run_folder / ALLOWANCE

    def dies_during(self, operation: Callable[[], object], after: int) -> bool:
        """Run `operation` with a driver that dies before change number `after`, and start it again; whether it died."""
        self.allowance.write_text(str(after))
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(_tolerant, operation)
            wait_until(lambda: running.done() or not self.driver.running, "end of the operation", seconds=60)
            self.allowance.unlink()
            died = not self._survived()
            if died:
                self.driver.start()  # the engine repeats its call 1, 2, 4, 8 seconds later
            running.result(patience(60))
        return died

    def _survived(self) -> bool:
        """Whether the driver lives now that it may not die any more: an answer says that no death is under way."""
        try:
            self.driver.admin.status()
        except Unavailable:
            self.driver.wait()
            return False
        return True

    def put_right(self) -> None:
        """Repair, taking everything unused for abandoned; then state, kernel and engine must agree."""
        self.driver.admin.repair(dry_run=False, grace=0)
        left = self.driver.admin.repair(dry_run=True, grace=0)
        assert left.engine
        assert left.corrections == [], left.corrections
        assert {each.address for each in self.driver.admin.addresses()} == self.addresses_in_use()
        assert [name for name in links(self.host) if name.startswith(("mg-", "dm-"))] == []

    def addresses_in_use(self) -> set[str]:
        """The addresses of running containers, and the gateways of networks, as the engine has them."""
        found = {"10.9.9.1"}  # the gateway of the network that is there throughout
        networks = ["canary", "mac"] if self.has_network() else ["canary"]
        # not what it shows of the containers: there a leg stays that could not be connected
        form = "{{range .Containers}}{{.IPv4Address}} {{.IPv6Address}} {{end}}"
        found |= {each.partition("/")[0] for each in self.docker("network", "inspect", "-f", form, *networks).split()}
        return found | (set(GATEWAYS) if self.has_network() else set())

    def has_network(self) -> bool:
        """Whether the engine has the network that is created and removed."""
        return self.docker("network", "ls", "-q", "--filter", "name=^mac$") != ""

    def has_container(self) -> bool:
        """Whether the engine has the container that is started and removed."""
        return self.docker("ps", "-aq", "--filter", "name=^one$") != ""

    def with_network(self) -> None:
        """The network is there, and no container on it."""
        self.without_container()
        if not self.has_network():
            self.create_network()

    def with_container(self) -> None:
        """The network is there, and the container runs on it."""
        self.without_container()
        self.with_network()
        self.start_container()

    def without_container(self) -> None:
        """No container."""
        if self.has_container():
            self.docker("rm", "-f", "one")

    def without_network(self) -> None:
        """No network."""
        self.without_container()
        if self.has_network():
            self.docker("network", "rm", "mac")

    def create_network(self) -> None:
        """The operation `docker network create`."""
        self.create("mac", *NETWORK, *self.options)

    def remove_network(self) -> None:
        """The operation `docker network rm`."""
        self.docker("network", "rm", "mac")

    def start_container(self) -> None:
        """The operation `docker run`."""
        self.start("mac", "one", *ADDRESSES)

    def with_bird_apart(self) -> None:
        """The network is there, and the container that runs throughout is not on it."""
        self.with_network()
        if self.has_bird():
            self.disconnect_bird()
        wait_until(lambda: names(self, "bird") == ["eth0"], "end of the second link of bird")

    def with_bird_on_it(self) -> None:
        """The network is there, and the container that runs throughout is on it."""
        self.with_network()
        if not self.has_bird():
            self.connect_bird()

    def connect_bird(self) -> None:
        """The operation `docker network connect`, of a container that runs."""
        self.docker("network", "connect", *ADDRESSES, "mac", "bird")

    def disconnect_bird(self) -> None:
        """The operation `docker network disconnect`, of a container that runs."""
        self.docker("network", "disconnect", "mac", "bird")

    def has_bird(self) -> bool:
        """Whether the engine has an endpoint of bird: what it shows of the container may be what failed."""
        shown = self.docker("network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "mac")
        return "bird" in shown.split()


def _tolerant(operation: Callable[[], object]) -> None:
    # a clean failure is allowed; what it must not leave behind is checked afterwards
    with contextlib.suppress(DockerError):
        operation()


def crash_at_every_change(
    crash: CrashSite, situation: Callable[[], None], operation: Callable[[], None], *, at_least: int
) -> None:
    """Crash before each change of `operation` in turn, each time from the same situation, and put right what is left.

    `at_least` is how many changes the operation is known to make: fewer would mean that nothing was tried.
    """
    for allowed in range(MOST_CHANGES):
        situation()
        died = crash.dies_during(operation, allowed)
        crash.put_right()
        if not died:
            assert allowed >= at_least
            return
    pytest.fail(f"the operation made more than {MOST_CHANGES} changes")
