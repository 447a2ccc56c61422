"""Keys that records belong under, as parts. One that makes no sense is a ValueError: see `validate`."""

from typing import Protocol

from macvlan_global.store.records import (
    AddressRecord,
    DefinitionRecord,
    EndpointRecord,
    HostAccessRecord,
    HostAddressesRecord,
    NameRecord,
    NetworkRecord,
    PoolRecord,
    PublishedRecord,
    RememberedRecord,
    StaticAddressRecord,
    SubnetUseRecord,
)
from macvlan_global.store.validate import (
    address_key,
    bare_address,
    endpoint_key,
    host_key,
    id_key,
    network_key,
    pool_key,
    remembered_key,
    use_key,
)


class HasId(Protocol):
    """A record that goes by an id."""

    @property
    def id(self) -> str:
        """The id."""
        ...


def by_id(record: HasId) -> tuple[str, ...]:
    """A record that goes by its id."""
    return id_key(record.id)


def of_pool(record: PoolRecord) -> tuple[str, ...]:
    """A pool: see `validate.pool_key`."""
    return pool_key(record.space, record.subnet, record.range)


def of_use(record: SubnetUseRecord) -> tuple[str, ...]:
    """A subnet in which a host may have addresses: see `validate.use_key`."""
    return use_key(record.host, record.space, record.subnet)


def of_address(record: AddressRecord) -> tuple[str, ...]:
    """An address: see `validate.address_key`."""
    return address_key(record.space, record.subnet, record.address)


def of_host_addresses(record: HostAddressesRecord) -> tuple[str, ...]:
    """The addresses of a host: see `validate.host_key`."""
    return host_key(record.id, (each.address for each in record.addresses))


def of_static(record: StaticAddressRecord) -> tuple[str, ...]:
    """A static address that is remembered. Its table checks that it is one."""
    return record.space, record.address


def of_remembered(record: RememberedRecord) -> tuple[str, ...]:
    """A name that is remembered: see `validate.remembered_key`."""
    return remembered_key(record.network, record.name, record.address, record.address6)


def of_definition(record: DefinitionRecord) -> tuple[str, ...]:
    """A definition, by its name."""
    return id_key(record.id) and id_key(record.name)


def of_name(record: NameRecord) -> tuple[str, ...]:
    """Names of an endpoint, below its network and its host."""
    return id_key(record.network) + id_key(record.host) + id_key(record.endpoint)


def of_published(record: PublishedRecord) -> tuple[str, ...]:
    """A network below which this host has names."""
    return id_key(record.network)


def of_network(record: NetworkRecord) -> tuple[str, ...]:
    """A network of this host: see `validate.network_key`."""
    return network_key(record.id, (each.subnet for each in record.subnets))


def of_endpoint(record: EndpointRecord) -> tuple[str, ...]:
    """An endpoint: see `validate.endpoint_key`."""
    return endpoint_key(record.network, record.id, record.address, record.address6)


def of_host_access(record: HostAccessRecord) -> tuple[str, ...]:
    """An address of this host on a network."""
    return (record.network, record.subnet, bare_address(record.address))[:2]
