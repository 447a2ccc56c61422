"""Several hosts, each with an engine and the driver, and a cluster store that they share.

Each host has two interfaces: `eth1` on the wire that containers use, and `eth0` on a wire for the store alone
(10.99.0.0/24: hosts from .1 on, members of the store from .101 on). So a host can be cut off from the store while its
containers go on talking, and the other way round. The members of the store are machines of their own.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Literal, Self, TypeVar

from lab.cluster import Cluster
from lab.consul import ConsulCluster
from lab.driver import Driver
from lab.etcd import EtcdCluster
from lab.hosts import Host
from lab.process import tail, wait_until
from lab.site import Site, links
from lab.unixhttp import ask
from lab.wire import Wire
from macvlan_global.errors import Unavailable

T = TypeVar("T")
StoreKind = Literal["consul", "etcd"]
SOON = 15.0
"""Seconds within which all hosts agree. The product promises less: a busy machine must not fail a test of something
else."""
_numbers = itertools.count(1)
_OWN_NETWORKS = frozenset({"bridge", "host", "none"})


class ClusterSite:
    """Hosts named host1, host2, ... with engine and driver in global scope. Use as a context manager."""

    def __init__(
        self, *versions: str, store: StoreKind = "consul", members: int = 1, flags: Sequence[str] = ()
    ) -> None:
        """Nothing is there yet.

        Args:
            versions: the label of the engine of each host.
            store: the kind of the cluster store.
            members: of the store, each on a machine of its own; 1 or 3.
            flags: for `serve` on each host, beside `--store`.
        """
        self._versions = versions
        self._kind: StoreKind = store
        self._store_numbers = range(101, 101 + members)
        self._flags = tuple(flags)
        self._stack = contextlib.ExitStack()
        self._machines = 0
        self._group = f"c{next(_numbers)}"
        self.sites: list[Site] = []

    def __enter__(self) -> Self:
        """Make all of it; returns once every driver follows its engine.

        Raises:
            LabError: a part of it did not come up; nothing of it is left then.
        """
        with contextlib.ExitStack() as stack:
            self._stack = stack
            self.wire = stack.enter_context(Wire())
            self.management = stack.enter_context(Wire())
            places = [(self._plugged(f"store{number}", number), f"10.99.0.{number}") for number in self._store_numbers]
            kind = ConsulCluster if self._kind == "consul" else EtcdCluster
            self.store: Cluster = stack.enter_context(kind(on=places))
            self.sites = self.add(*self._versions)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop the drivers and take everything away."""
        self._stack.__exit__(kind, error, at)

    # --- hosts

    def machine(self) -> Host:
        """One more machine on both wires, with nothing on it yet; it ends with the cluster at the latest."""
        self._machines += 1
        host = self._plugged(f"host{self._machines}", self._machines)
        self.wire.plug(host)
        return host

    def driver(self, host: Host, *flags: str) -> Driver:
        """A driver of the cluster for a machine, not running yet; it is stopped with the cluster at the latest."""
        driver = Driver(host, f"--store={self.store.url}", *self._flags, *flags)
        self._stack.callback(driver.stop)
        return driver

    def add(self, *versions: str) -> list[Site]:
        """Machines with driver and engine, one for each label of an engine. They are no part of `sites` yet."""
        machines = [self.machine() for _ in versions]
        drivers = [self.driver(host) for host in machines]

        def bring_up(host: Host, driver: Driver, version: str) -> Site:
            driver.start()
            host.start_engine(version)
            return Site(self.wire, host, driver, version)

        ready = zip(machines, drivers, versions, strict=True)
        return at_once(partial(bring_up, *each) for each in ready)

    def remove(self, site: Site) -> None:
        """Take a host away that was added, as an operator does: everything on it stops first."""
        site.host.stop_engine()
        site.driver.stop()
        site.host.close()

    def cut_off(self, site: Site) -> None:
        """Take the store away from a host, and nothing else, until `mend`."""
        self.management.cut(site.host, "eth0")

    def mend(self, site: Site) -> None:
        """Give the store back to a host."""
        self.management.mend(site.host, "eth0")

    def _plugged(self, name: str, number: int) -> Host:
        host = self._stack.enter_context(Host(name, group=self._group))
        self.management.plug(host, "eth0", addresses=[f"10.99.0.{number}/24"])
        return host

    # --- what all of them have

    def wait_for(self, network: str, *sites: Site) -> None:
        """Return once the engine of each of these hosts (all, if none is named) has a network of this name."""
        for site in sites or self.sites:
            settle(site, partial(has, site, network), f"network {network}")

    def wait_gone(self, network: str, *sites: Site) -> None:
        """Return once none of these hosts (all, if none is named) has a network of this name."""
        for site in sites or self.sites:
            settle(site, partial(lacks, site, network), f"end of network {network}")

    def clean(self) -> None:
        """Remove every container and every network but the engine's own, on each host; returns when nothing is left.

        Raises:
            LabError: an address, a network or a link of ours stays; the message ends with the driver's log.
        """
        at_once(partial(_remove_containers, site) for site in self.sites)
        for site in self.sites:
            for network in networks(site).values():
                # the removal on another host may have taken it along meanwhile
                ask(site.host.run_folder / "docker.sock", "DELETE", f"/networks/{network}")
        for site in self.sites:
            settle(site, partial(_is_empty, site), "end of all that was made")


def at_once(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Results of calls that were made at the same time, in their order.

    Raises:
        Exception: the first that one of them raised, once all have ended.
    """
    waiting = list(calls)
    with ThreadPoolExecutor(max(len(waiting), 1)) as threads:
        return [done.result() for done in [threads.submit(call) for call in waiting]]


def settle(site: Site, condition: Callable[[], bool], what: str, *, seconds: float = SOON) -> None:
    """Return once a condition holds on a host.

    Raises:
        LabError: it did not hold in time; the message ends with the log of the host's driver.
    """
    wait_until(
        condition,
        f"{what} on {site.host.name}",
        seconds=seconds,
        every=0.02,
        explain=lambda: "\n" + tail(site.driver.log),
    )


def networks(site: Site) -> dict[str, str]:
    """The ids of a host's networks by name, without those that every engine comes with."""
    return {each["Name"]: each["Id"] for each in site.engine("GET", "/networks") if each["Name"] not in _OWN_NETWORKS}


def has(site: Site, network: str) -> bool:
    """Whether a host's engine has a network of this name."""
    return network in networks(site)


def lacks(site: Site, network: str) -> bool:
    """Whether it has none."""
    return network not in networks(site)


def _remove_containers(site: Site) -> None:
    for container in site.engine("GET", "/containers/json?all=1"):
        site.engine("DELETE", f"/containers/{container['Id']}?force=1")


def _is_empty(site: Site) -> bool:
    admin = site.driver.admin
    ours = [name for name in links(site.host) if name.startswith(("mg-", "dm-")) or "." in name]
    try:
        return not (networks(site) or ours or admin.networks() or admin.addresses())
    except Unavailable:  # the store does not answer yet
        return False
