"""Cost of a cluster for one of its hosts, as it grows: to 1,000 hosts with 100,000 containers, which are simulated.

The store and the driver are real, and the driver is alone on its machine. All others are what they are to it: records
in the store. What the driver receives and sends is counted on the interface that leads to the store.
"""

import asyncio
import hashlib
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

import msgspec

from bench.inside import call
from bench.name_asker import NameAsker
from bench.plugin import SOCKET, Plugin
from bench.rounds import Row, Unit
from lab import Host
from lab.cluster_site import ClusterSite, StoreKind
from macvlan_global.dns.publish.publisher import NamedEndpoint, name_records
from macvlan_global.store.layout import StoreLayout
from macvlan_global.store.open import NO_ACCESS, open_cluster_store
from macvlan_global.store.ports import ClusterStore, Lease
from macvlan_global.store.records import (
    AddressRecord,
    AliveRecord,
    DefinitionRecord,
    HostRecord,
    NameRecord,
    PoolRecord,
    PortRecord,
    SubnetUseRecord,
)
from macvlan_global.store.table import Tables

T = TypeVar("T")

STORES: tuple[StoreKind, ...] = ("consul", "etcd")
SMALL, LARGE = 10, 1000
"""Hosts."""
EACH = 100
"""Containers of a host."""
RESOLVER = "127.0.0.153"
SPACE, SUBNET, NETWORK = "macvlan-global", "10.0.0.0/8", 32 * "1f"
_FIGURES: dict[str, tuple[str, Unit]] = {
    "start": ("start until all names are known", "s"),
    "memory": ("memory (RSS)", "MB"),
    "rest": ("store traffic at rest, a second", "MB"),
    "change": ("store traffic of a container that starts elsewhere", "MB"),
    "known": ("until its name is known", "ms"),
    "first": ("first address of a subnet after a start", "ms"),
}
TITLES = tuple(f"{what}, {store}, {LARGE} hosts" for store in STORES for what, _ in _FIGURES.values())
_AT_ONCE = 128
_REST_SECONDS = 30.0
_SETTLE_SECONDS = 1.0
_LEASE_SECONDS = 3600.0
"""Nobody renews the heartbeats of hosts that are only records."""
_CHANGES = 10
_QUIET_SECONDS, _LITTLE = 5, 10_000
"""So many seconds in a row with less than so many bytes: a start is over."""


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement: a large cluster beside a small one."""
    sizes, each, changes = ((1, 2), 2, 1) if quick else ((SMALL, LARGE), EACH, _CHANGES)
    return [row for store in STORES for row in _rows(store, *sizes, each, changes)]


def _rows(store: StoreKind, small: int, large: int, each: int, changes: int) -> Iterator[Row]:
    few, many = (measure_one(store, hosts, each, changes) for hosts in (small, large))
    for figure, (what, unit) in _FIGURES.items():
        yield Row(f"{what}, {store}, {LARGE} hosts", unit, many[figure], few[figure], f"{small} hosts")


def measure_one(store: StoreKind, hosts: int, each: int, changes: int = _CHANGES) -> dict[str, list[float]]:
    """Every figure of a cluster with so many hosts that have `each` containers."""
    with ClusterSite(store=store) as site:
        writer, host = site.machine(), site.machine()
        call(writer, fill, url=site.store.url, hosts=hosts, each=each)
        driver = site.driver(host, "--log-level=info", "--dns-networks=all")
        with NameAsker(host.enter, RESOLVER) as asker:
            begun = time.monotonic()
            asker.ask("there", f"{_name(hosts - 1, each - 1)}.lan")
            driver.start()
            started = float(asker.answer()) - begun
            memory = _memory(driver.pid)
            _wait_for_rest(host, _QUIET_SECONDS if changes == _CHANGES else 1)
            before = _traffic(host)
            seconds = _REST_SECONDS if changes == _CHANGES else 1.0
            time.sleep(seconds)
            rest = (_traffic(host) - before) / seconds
            before, begun = _traffic(host), time.monotonic()
            known = [_change(asker, writer, site.store.url, number) for number in range(changes)]
            traffic = _traffic(host) - before - rest * (time.monotonic() - begun)
        first = _first_address(Plugin(host.run_folder / SOCKET.relative_to("/run")))
    return {
        "start": [started],
        "memory": [memory],
        "rest": [rest],
        "change": [max(traffic / changes, 0.0)],
        "known": known,
        "first": [first],
    }


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
    asker.ask("there", f"new{number}.lan")
    written = float(call(writer, add, url=url, number=number))
    known = max(float(asker.answer()) - written, 0.0)
    time.sleep(_SETTLE_SECONDS)  # what comes late belongs to it
    return known


def _first_address(plugin: Plugin) -> float:
    pool = plugin.ask("IpamDriver.RequestPool", AddressSpace=SPACE, Pool=SUBNET, Options={"network": NETWORK})
    begun = time.monotonic()
    plugin.ask("IpamDriver.RequestAddress", PoolID=pool["PoolID"], Address="")
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


def add(url: str, number: int) -> float:
    """Write the name of one more container; when that was done, by the machine's clock."""
    return asyncio.run(_with_store(url, lambda store: _add(Tables(store, store), number)))


async def _with_store(url: str, work: Callable[[ClusterStore], Awaitable[T]]) -> T:
    store = open_cluster_store(url, NO_ACCESS)
    try:
        return await work(store)
    finally:
        await store.close()


async def _fill(store: ClusterStore, hosts: int, each: int) -> None:
    await StoreLayout(store).check()
    now, tables, lease = time.time(), Tables(store, store), await store.lease(_LEASE_SECONDS)
    await tables.pools.create(PoolRecord(space=SPACE, subnet=SUBNET, network=NETWORK, at=now), SPACE, SUBNET)
    await tables.definitions.create(DefinitionRecord(id=NETWORK, name="lan", host=_id(0), at=now), "lan")
    heartbeats = (_heartbeat(store, lease, tables.alive.key(_id(host)), host, now) for host in range(hosts))
    writes = itertools.chain(heartbeats, _records(tables, hosts, each, now))

    async def some() -> None:
        for write in writes:
            await write

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))


async def _heartbeat(store: ClusterStore, lease: Lease, key: str, host: int, now: float) -> None:
    record = AliveRecord(id=_id(host), name=f"other{host}", boot="b", incarnation=_id(host), at=now)
    await store.create_with(lease, key, msgspec.json.encode(record))


def _records(tables: Tables, hosts: int, each: int, now: float) -> Iterator[Awaitable[object]]:
    for host in range(hosts):
        yield tables.hosts.create(HostRecord(id=_id(host), name=f"other{host}", seen=now), _id(host))
        use = SubnetUseRecord(host=_id(host), space=SPACE, subnet=SUBNET)
        yield tables.used.create(use, use.host, SPACE, SUBNET)
        for number in range(each):
            name = name_record(host, number, now)
            address = AddressRecord(
                space=SPACE,
                subnet=SUBNET,
                address=name.address,
                kind="endpoint",
                network=NETWORK,
                endpoint=name.endpoint,
                host=_id(host),
                incarnation=_id(host),
                at=now,
            )
            yield tables.names.create(name, name.network, name.host, name.endpoint)
            yield tables.addresses.create(address, SPACE, name.address)


async def _add(tables: Tables, number: int) -> float:
    record = msgspec.structs.replace(name_record(0, EACH + number, time.time()), names=[f"new{number}"])
    await tables.names.create(record, record.network, record.host, record.endpoint)
    return time.monotonic()


def name_record(host: int, number: int, now: float) -> NameRecord:
    """The name of a container of a host, as its driver publishes it."""
    address = str(IPv4Address("10.1.0.0") + 256 * host + number)
    endpoint = hashlib.sha256(f"{host} {number}".encode()).hexdigest()  # as random as those of Docker
    leg = NamedEndpoint(NETWORK, "lan", endpoint, address, mac="7a:42:0a:01:00:01", aliases=("app",))
    ports = [PortRecord(port=80), PortRecord(port=443)]
    (record,) = name_records(f"{number:08x}{host:056x}", _name(host, number), "", [leg], ports, host=_id(host), at=now)
    return record


def _name(host: int, number: int) -> str:
    return f"web-{host}-{number}"


def _id(host: int) -> str:
    return f"{host:032x}"
