"""Contents of the store of a large cluster, row by row, as its hosts would have written them.

Ten hosts share a network, and each has a hundred containers on it. So a network is as large in a cluster of any size,
and there are more of them in a larger one: a host should not notice.
"""

import hashlib
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import TypeVar

import msgspec

from macvlan_global.dns.publish.publisher import NamedEndpoint, name_records
from macvlan_global.store.records import (
    AddressRecord,
    AliveRecord,
    DefinitionRecord,
    HostAddress,
    HostAddressesRecord,
    HostRecord,
    NameRecord,
    PoolRecord,
    PortRecord,
    Record,
    SubnetRecord,
    SubnetUseRecord,
)
from macvlan_global.store.table import Table, Tables

R = TypeVar("R", bound=Record)

EACH = 100
"""Containers of a host."""
GROUP = 10
"""Hosts whose containers are on one network."""
SPACE = "macvlan-global"
_BASE = IPv4Address("10.0.0.0")
_SIZE = 4096
"""Addresses of the subnet of a network: a /20."""


def subnet_of(network: int) -> str:
    """The subnet of a network, in CIDR."""
    return f"{_BASE + _SIZE * network}/20"


def network_id(network: int) -> str:
    """The id of a network in the cluster."""
    return f"{network:064x}"


def host_id(host: int) -> str:
    """The id of a host."""
    return f"{host:032x}"


def container_name(host: int, number: int) -> str:
    """The name of a container."""
    return f"web-{host}-{number}"


def heartbeat(host: int, now: float) -> AliveRecord:
    """The record of a host that lives. It goes with a lease."""
    return AliveRecord(id=host_id(host), name=f"other{host}", boot="b", incarnation=host_id(host), at=now)


def name_record(host: int, number: int, now: float) -> NameRecord:
    """The names of a container: four, with two ports."""
    network = host // GROUP
    leg = NamedEndpoint(
        network_id(network),
        f"lan{network}",
        hashlib.sha256(f"{host} {number}".encode()).hexdigest(),  # as random as those of Docker
        _address(host, number),
        mac="7a:42:0a:01:00:01",
        aliases=("app",),
    )
    ports = [PortRecord(port=80), PortRecord(port=443)]
    name, at = container_name(host, number), host_id(host)
    (record,) = name_records(f"{number:08x}{host:056x}", name, "", [leg], ports, host=at, at=now)
    return record


def rows(tables: Tables, hosts: int, each: int) -> Iterator[tuple[str, bytes]]:
    """Keys and values of all rows but the heartbeats."""
    now = time.time()
    for network in range((hosts + GROUP - 1) // GROUP):
        yield from _network(tables, network, now)
    for host in range(hosts):
        at, subnet = host_id(host), subnet_of(host // GROUP)
        yield _row(tables.hosts, HostRecord(id=at, name=f"other{host}", seen=now), at)
        own = HostAddress(address=str(IPv4Address("172.16.0.0") + host), link="eth0")
        yield _row(tables.host_addresses, HostAddressesRecord(id=at, name=f"other{host}", addresses=[own], at=now), at)
        yield _row(tables.used, SubnetUseRecord(host=at, space=SPACE, subnet=subnet), at, SPACE, subnet)
        for number in range(each):
            name = name_record(host, number, now)
            yield _row(tables.names, name, name.network, name.host, name.endpoint)
            yield _address_row(tables, name, subnet, now)


def _network(tables: Tables, network: int, now: float) -> Iterator[tuple[str, bytes]]:
    subnet, name = subnet_of(network), f"lan{network}"
    pool = PoolRecord(space=SPACE, subnet=subnet, network=network_id(network), host=host_id(network * GROUP), at=now)
    yield _row(tables.pools, pool, SPACE, subnet)
    definition = DefinitionRecord(
        id=network_id(network),
        name=name,
        options={"parent": "eth0"},
        subnets=[SubnetRecord(space=SPACE, subnet=subnet)],
        host=host_id(network * GROUP),
        at=now,
    )
    yield _row(tables.definitions, definition, name)


def _address_row(tables: Tables, name: NameRecord, subnet: str, now: float) -> tuple[str, bytes]:
    record = AddressRecord(
        space=SPACE,
        subnet=subnet,
        address=name.address,
        kind="endpoint",
        network=name.network,
        endpoint=name.endpoint,
        host=name.host,
        incarnation=name.host,
        at=now,
    )
    return _row(tables.addresses, record, SPACE, name.address)


def _address(host: int, number: int) -> str:
    network, place = divmod(host, GROUP)
    return str(_BASE + _SIZE * network + 256 + place * EACH + number)


def _row(table: Table[R], record: R, *parts: str) -> tuple[str, bytes]:
    return table.key(*parts), msgspec.json.encode(record)
