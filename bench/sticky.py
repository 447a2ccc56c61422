"""RequestAddress of a container whose name is remembered, as engines from 29.0 ask, beside one without a name.

A container comes and goes on a network, under one name or without: RequestAddress, CreateEndpoint, DeleteEndpoint,
ReleaseAddress. Only the first is measured; the memory is written by the others.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from bench.plugin import SOCKET, Plugin, PluginNetwork
from bench.rounds import Figures, Row, take_turns
from lab import Host, Wire
from lab.cluster_site import ClusterSite, StoreKind
from lab.driver import Driver
from lab.paths import BUILD, scratch_folder

CLUSTERS: tuple[StoreKind, ...] = ("consul", "etcd")
PLACES = ("in memory", "on a disk", *CLUSTERS)
TITLES = tuple(f"RequestAddress of a remembered name, {place}" for place in PLACES)
SUBNET = "10.65.0.0/24"


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    rounds, each = (1, 2) if quick else (20, 10)
    return [_row(title, place, rounds, each) for title, place in zip(TITLES, PLACES, strict=True)]


def _row(title: str, place: str, rounds: int, each: int) -> Row:
    with _plugin(place) as plugin:
        network = plugin.create_network(SUBNET, "eth1")
        sides = {"named": partial(_turn, network, "web", each), "plain": partial(_turn, network, "", each)}
        samples = take_turns(sides, rounds)
    return Row(title, "us", samples["named"]["ask"], samples["plain"]["ask"], "one without a name")


def _turn(network: PluginNetwork, name: str, each: int) -> Figures:
    """So many containers, one after the other; seconds until each had its address."""
    seconds = 0.0
    for _ in range(each):
        begun = time.perf_counter()
        address = network.request_address(name)
        seconds += time.perf_counter() - begun
        network.detach(network.endpoint(address))
    return {"ask": seconds / each}


@contextmanager
def _plugin(place: str) -> Iterator[Plugin]:
    """A driver whose addresses are in such a place."""
    with ExitStack() as stack:
        if place in CLUSTERS:
            site = stack.enter_context(ClusterSite(store=place))
            host = site.machine()
            driver = site.driver(host, "--log-level=info")
        else:
            disk = stack.enter_context(scratch_folder(BUILD)) if place == "on a disk" else None
            wire, host = stack.enter_context(Wire()), stack.enter_context(Host("sticky", state=disk))
            wire.plug(host)
            driver = Driver(host, "--log-level=info")
            stack.callback(driver.stop)
        driver.start()
        yield Plugin(host.run_folder / SOCKET.relative_to("/run"))
