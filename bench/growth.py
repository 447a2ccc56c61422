"""Cost of a cluster for one of its hosts, as it grows. The networks of the host are as large in each of them.

The store and the driver are real, and the driver is alone on its machine. All others are what they are to it: records
in the store. What the driver receives and sends is counted on the interface that leads to the store.

    python -m bench.growth etcd 10000    # one cluster of another size, by hand
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from bench.inside import call
from bench.large_cluster import (
    EACH,
    GROUP,
    SPACE,
    container_name,
    heartbeat,
    host_id,
    name_record,
    network_id,
    rows,
    subnet_of,
)
from bench.name_asker import NameAsker
from bench.plugin import SOCKET, Plugin
from bench.rounds import Row, Unit
from lab import Host
from lab.cluster_site import ClusterSite, StoreKind
from lab.driver import Driver
from macvlan_global.store.layout import StoreLayout
from macvlan_global.store.open import NO_ACCESS, open_cluster_store
from macvlan_global.store.ports import ClusterStore
from macvlan_global.store.table import Tables

T = TypeVar("T")

STORES: tuple[StoreKind, ...] = ("consul", "etcd")
SMALL, LARGE = 100, 1000
"""Hosts."""
RESOLVER = "127.0.0.153"
_FIGURES: dict[str, tuple[str, Unit]] = {
    "start": ("start until the names of its networks are known", "s"),
    "started": ("store traffic of a start", "MB"),
    "memory": ("memory (RSS)", "MB"),
    "rest": ("store traffic at rest, a second", "MB"),
    "change": ("store traffic of a container that starts elsewhere on its network", "MB"),
    "other": ("store traffic of a container that starts on another network", "MB"),
    "known": ("until its name is known", "ms"),
    "repair": ("store traffic of a repair", "MB"),
    "status": ("status", "ms"),
    "first": ("first address of a subnet after a start", "ms"),
}
GOAL = 1.2
"""Ratio up to which a figure counts as the same."""
TITLES = tuple(f"{what}, {store}, {LARGE} hosts" for store in STORES for what, _ in _FIGURES.values())
_AT_ONCE = 128
_REST_SECONDS = 60.0
_SETTLE_SECONDS = 1.0
_LEASE_SECONDS = 3600.0
"""Nobody renews the heartbeats of hosts that are only records."""
_CHANGES = 10
_QUIET_SECONDS, _LITTLE = 5, 10_000
"""So many seconds in a row with less than so many bytes: a start is over."""


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement: a large cluster beside a small one."""
    sizes, each, changes = ((10, 20), 2, 1) if quick else ((SMALL, LARGE), EACH, _CHANGES)
    return [row for store in STORES for row in _rows(store, *sizes, each, changes)]


def _rows(store: StoreKind, small: int, large: int, each: int, changes: int) -> Iterator[Row]:
    few, many = (measure_one(store, hosts, each, changes) for hosts in (small, large))
    for figure, (what, unit) in _FIGURES.items():
        goal = GOAL if unit == "MB" else None  # times of one run are noise
        yield Row(f"{what}, {store}, {LARGE} hosts", unit, many[figure], few[figure], f"{small} hosts", goal)


def measure_one(store: StoreKind, hosts: int, each: int, changes: int = _CHANGES) -> dict[str, list[float]]:
    """Every figure of a cluster with so many hosts that have `each` containers. The host that is measured has one
    container, on the network of the first group."""
    with ClusterSite(store=store) as site:
        writer, host = site.machine(), site.machine()
        call(writer, fill, url=site.store.url, hosts=hosts, each=each)
        driver = site.driver(host, "--log-level=info")
        quiet = _QUIET_SECONDS if changes == _CHANGES else 1
        _begin(driver, host, quiet)
        driver.stop()
        with NameAsker(host.enter, RESOLVER) as asker:
            asker.ask("there", f"{container_name(min(hosts, GROUP) - 1, each - 1)}.lan0")
            before, begun = _traffic(host), time.monotonic()
            driver.start()
            started = float(asker.answer()) - begun
            _wait_for_rest(host, quiet)
            start_traffic = _traffic(host) - before
            memory = _memory(driver.pid)
            before = _traffic(host)
            seconds = _REST_SECONDS if changes == _CHANGES else 1.0
            time.sleep(seconds)
            rest = (_traffic(host) - before) / seconds
            before, begun = _traffic(host), time.monotonic()
            known = [_change(asker, writer, site.store.url, number) for number in range(changes)]
            traffic = _traffic(host) - before - rest * (time.monotonic() - begun)
        before, begun = _traffic(host), time.monotonic()
        for number in range(changes if hosts > GROUP else 0):
            call(writer, add, url=site.store.url, on=hosts - 1, number=each + number)
        time.sleep(_SETTLE_SECONDS)
        other = _traffic(host) - before - rest * (time.monotonic() - begun)
        before = _traffic(host)
        driver.ask("repair")
        repair = _traffic(host) - before
        status = [_seconds(driver.admin.status) for _ in range(changes)]
        plugin = Plugin(host.run_folder / SOCKET.relative_to("/run"))
        first = _seconds(lambda: plugin.ask("IpamDriver.RequestAddress", PoolID=_join(plugin), Address=""))
    return {
        "start": [started],
        "started": [start_traffic],
        "memory": [memory],
        "rest": [rest],
        "change": [max(traffic / changes, 0.0)],
        "other": [max(other / changes, 0.0)],
        "known": known,
        "repair": [repair],
        "status": status,
        "first": [first],
    }


def _begin(driver: Driver, host: Host, quiet: int) -> None:
    """The first start of the driver, and the container of this host."""
    driver.start()
    _wait_for_rest(host, quiet)
    plugin = Plugin(host.run_folder / SOCKET.relative_to("/run"))
    pool, network, endpoint = _join(plugin), 32 * "2e", 32 * "3d"
    plugin.ask(
        "NetworkDriver.CreateNetwork",
        NetworkID=network,
        Options={"com.docker.network.generic": {"parent": "eth1"}},
        IPv4Data=[{"AddressSpace": SPACE, "Pool": subnet_of(0)}],
        IPv6Data=[],
    )
    address = plugin.ask("IpamDriver.RequestAddress", PoolID=pool, Address="")["Address"]
    interface = {"Address": address, "AddressIPv6": "", "MacAddress": ""}
    plugin.ask("NetworkDriver.CreateEndpoint", NetworkID=network, EndpointID=endpoint, Interface=interface, Options={})


def _join(plugin: Plugin) -> str:
    """The id of the pool of the first network, which this host joins."""
    options = {"network": network_id(0)}
    return str(plugin.ask("IpamDriver.RequestPool", AddressSpace=SPACE, Pool=subnet_of(0), Options=options)["PoolID"])


def _wait_for_rest(host: Host, seconds: int) -> None:
    """Let what a start brings with it pass."""
    quiet, before = 0, _traffic(host)
    while quiet < seconds:
        time.sleep(1.0)
        now = _traffic(host)
        quiet = quiet + 1 if now - before < _LITTLE else 0
        before = now


def _change(asker: NameAsker, writer: Host, url: str, number: int) -> float:
    """A container starts on another host; seconds until its name is known."""
    asker.ask("there", f"{container_name(0, EACH + number)}.lan0")
    written = float(call(writer, add, url=url, on=0, number=EACH + number))
    known = max(float(asker.answer()) - written, 0.0)
    time.sleep(_SETTLE_SECONDS)  # what comes late belongs to it
    return known


def _seconds(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def _memory(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024.0 * int(status.partition("VmRSS:")[2].split()[0])


def _traffic(host: Host) -> float:
    """Bytes that went over the interface to the store, both ways."""
    folder = "/sys/class/net/eth0/statistics"
    return float(sum(map(int, host.run(["cat", f"{folder}/rx_bytes", f"{folder}/tx_bytes"]).stdout.split())))


# ------------------------------------------------------------------- on the writer


def fill(url: str, hosts: int, each: int) -> None:
    """Write what a cluster with so many hosts and containers has in its store."""
    asyncio.run(_with_store(url, lambda store: _fill(store, hosts, each)))


def add(url: str, on: int, number: int) -> float:
    """Write the name of one more container of a host; when that was done, by the machine's clock."""
    return asyncio.run(_with_store(url, lambda store: _add(store, on, number)))


async def _with_store(url: str, work: Callable[[ClusterStore], Awaitable[T]]) -> T:
    store = open_cluster_store(url, NO_ACCESS)
    try:
        return await work(store)
    finally:
        await store.close()


async def _fill(store: ClusterStore, hosts: int, each: int) -> None:
    await StoreLayout(store).check()
    now, tables, lease = time.time(), Tables(store, store), await store.lease(_LEASE_SECONDS)
    heartbeats = (
        store.create_with(lease, tables.alive.key(host_id(host)), msgspec.json.encode(heartbeat(host, now)))
        for host in range(hosts)
    )
    writes = itertools.chain(heartbeats, (store.create(*row) for row in rows(tables, hosts, each)))

    async def some() -> None:
        for write in writes:
            await write

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))


async def _add(store: ClusterStore, host: int, number: int) -> float:
    record = name_record(host, number, time.time())
    await Tables(store, store).names.create(record, record.network, record.host, record.endpoint)
    return time.monotonic()


def _main(kind: StoreKind, hosts: int) -> None:
    for figure, values in measure_one(kind, hosts, EACH).items():
        what, unit = _FIGURES[figure]
        print(f"{what}: {', '.join(f'{value:.6g}' for value in values)} ({'bytes' if unit == 'MB' else 'seconds'})")


if __name__ == "__main__":
    _main("etcd" if sys.argv[1] == "etcd" else "consul", int(sys.argv[2]))
