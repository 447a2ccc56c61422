"""Two hosts on which the same happens; one attaches containers plain, one direct. What they see must be the same."""

import contextlib
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import methodcaller
from typing import TypeVar

from lab import ENGINES, DockerError, Host, Wire
from lab.driver import Driver
from lab.process import wait_until
from lab.site import Site
from tests.e2e.attach.legs_seen import as_lines, seen

CONTAINERS = ("one", "two", "three")
NETWORKS = {
    "lan": (
        "-oparent=eth1",
        "--ipv6",
        "--subnet=10.1.0.0/24",
        "--gateway=10.1.0.1",
        "--subnet=fd01::/64",
        "--gateway=fd01::1",
    ),
    "back": ("-oparent=eth1", "--subnet=10.2.0.0/24", "--gateway=10.2.0.1"),
    "inner": ("-oparent=eth1", "--subnet=10.3.0.0/24", "--internal"),
    "built": ("-oparent=eth2", "--subnet=10.4.0.0/24", "--gateway=10.4.0.1"),
    "nat": ("--subnet=10.5.0.0/24", "--gateway=10.5.0.1"),
}
DRIVERS = {"built": "macvlan", "nat": "bridge"}
"""All other networks are ours."""


T = TypeVar("T")


class Twins:
    """Both hosts, and the story of what was done to them."""

    def __init__(self, plain: Site, direct: Site, lot: random.Random, *, priorities: bool, internal: bool) -> None:
        """Engines and drivers run; the networks are made here.

        Not every engine knows `priorities` of gateways; and an old one that was restarted with live-restore gives the
        next link the name that the link of an `internal` macvlan network has, whatever its driver (docs/limits.md).
        """
        self.sites = (plain, direct)
        self.story: list[str] = []
        self._lot = lot
        self._priorities = priorities
        self._threads = ThreadPoolExecutor(2)
        for name, options in NETWORKS.items():
            arguments = [each for each in options if internal or each != "--internal"]
            if driver := DRIVERS.get(name):
                made = ("network", "create", f"--driver={driver}", *arguments, name)
                self.both(methodcaller("docker", *made))
            else:
                self.both(methodcaller("create", name, *arguments))

    def both(self, what: Callable[[Site], T]) -> list[T]:
        """Do it on both hosts at once; what came of it."""
        return list(self._threads.map(what, self.sites))

    def step(self) -> None:
        """Something happens, the same on both; then both are compared."""
        name = self._lot.choice(CONTAINERS)
        there, running, networks = self._state(name)
        choices: list[tuple[str, ...]] = []
        if not there:
            choices += [("run", network) for network in NETWORKS] * 2
        else:
            others = [each for each in NETWORKS if each not in networks]
            choices += [("connect", each) for each in others] * 2 + [("disconnect", each) for each in networks]
            choices += [("connect", each, f"--gw-priority={len(each)}") for each in others] if self._priorities else []
            choices += [("rm",), ("restart",)]
            choices += [("stop",), ("kill",), ("pause",)] if running else [("start",)] * 3
        choices += [("engine restart",), ("engine kill",), ("driver kill",)] if self._lot.random() < 0.3 else []
        chosen = self._lot.choice(choices)
        self._do(name, *chosen)
        self.compare()

    def compare(self) -> None:
        """Wait until both hosts show the same of every container; a link that leaves takes a moment."""

        def lines(site: Site) -> list[str]:
            known = [each["Names"][0].lstrip("/") for each in site.engine("GET", "/containers/json?all=1")]
            return [line for name in sorted(known) for line in (name, *as_lines(seen(site, name)))]

        def same() -> bool:
            with contextlib.suppress(DockerError):
                plain, direct = self.both(lines)
                self._last = plain, direct
                return plain == direct
            return False

        wait_until(same, "likeness", seconds=15, every=0.2, explain=self._tell)

    def reach_each_other(self) -> list[tuple[bool, ...]]:
        """Which container reaches which address of which other one, on both hosts."""
        found = []
        for site in self.sites:
            running = [name for name in CONTAINERS if self._state(name, site)[1]]
            targets = [
                (a, b, network) for a in running for b in running for network in self._state(b, site)[2] if a != b
            ]
            common = [(a, b, n) for a, b, n in targets if n in self._state(a, site)[2]]
            found.append(tuple(site.reaches(a, _address(n, b)) for a, b, n in common))
        return found

    def _tell(self) -> str:
        plain, direct = self._last
        only = [f"- {x}" for x in plain if x not in direct] + [f"+ {x}" for x in direct if x not in plain]
        return "\n".join(["", *self.story, "plain has (-), direct has (+):", *only[:30]])

    def _state(self, name: str, site: Site | None = None) -> tuple[bool, bool, list[str]]:
        """Whether a container is there, whether it runs, and its networks."""
        form = "{{.State.Running}}{{range $name, $_ := .NetworkSettings.Networks}} {{$name}}{{end}}"
        try:
            state, *networks = (site or self.sites[0]).docker("inspect", "-f", form, name).split()
        except DockerError:
            return False, False, []
        return True, state == "true", [each for each in networks if each in NETWORKS]

    def _do(self, name: str, what: str, network: str = "", *asked: str) -> None:
        of_one = not what.startswith(("engine", "driver"))
        self.story.append(f"{len(self.story) + 1:3}. " + " ".join([what, *([name, network, *asked] if of_one else [])]))
        if what == "engine restart":
            self.both(lambda site: site.host.restart_engine())
            self.both(lambda site: site.driver.wait_for_engine())
        elif what == "engine kill":
            self.both(lambda site: site.host.kill_engine())
            self.both(lambda site: site.host.restart_engine())
            self.both(lambda site: site.driver.wait_for_engine())
        elif what == "driver kill":
            self.both(lambda site: site.driver.kill())
            self.both(lambda site: site.driver.start())
            self.both(lambda site: site.driver.wait_for_engine())
        else:
            for command in _commands(name, what, network, *asked):
                said = self.both(partial(_tried, command))
                self.story[-1] += " (refused)" if said[0] else ""
                assert bool(said[0]) == bool(said[1]), self._refused(said)

    def _refused(self, said: list[str]) -> str:
        return "\n".join([*self.story, f"refused plain: {said[0] or 'no'}, refused direct: {said[1] or 'no'}"])


def _tried(command: tuple[str, ...], site: Site) -> str:
    """How a command is refused; "" if it is not."""
    try:
        site.docker(*command)
    except DockerError as refusal:
        return str(refusal)
    return ""


def _address(network: str, container: str) -> str:
    return f"10.{list(NETWORKS).index(network) + 1}.0.{10 + CONTAINERS.index(container)}"


def _commands(name: str, what: str, network: str, *asked: str) -> list[tuple[str, ...]]:
    if what in {"run", "connect"}:
        ips = [f"--ip={_address(network, name)}"]
        if network == "lan":
            ips.append(f"--ip6=fd01::{10 + CONTAINERS.index(name)}")
        if what == "connect":
            return [("network", "connect", *ips, *asked, network, name)]
        return [("run", "-d", "--init", f"--name={name}", f"--network={network}", *ips, "alpine", "sleep", "600")]
    commands: dict[str, list[tuple[str, ...]]] = {
        "disconnect": [("network", "disconnect", network, name)],
        "rm": [("rm", "-f", name)],
        "restart": [("restart", "-t1", name)],
        "stop": [("stop", "-t1", name)],
        "start": [("start", name)],
        "kill": [("kill", name)],
        "pause": [("pause", name), ("unpause", name)],
    }
    return commands[what]


@contextlib.contextmanager
def twins(version: str, lot: random.Random, *, live_restore: bool) -> Iterator[Twins]:
    """Both hosts, with networks and without containers."""
    with contextlib.ExitStack() as stack:
        sites = []
        for way in ("plain", "direct"):
            wire, other = stack.enter_context(Wire()), stack.enter_context(Wire())
            host = stack.enter_context(Host(way))
            wire.plug(host)
            other.plug(host, "eth2")
            driver = Driver(host, f"--attach={way}")
            driver.start()
            stack.callback(driver.stop)
            host.start_engine(version, live_restore=live_restore)
            sites.append(Site(wire, host, driver, version))
        yield Twins(sites[0], sites[1], lot, priorities=version == ENGINES[-1], internal=not live_restore)
