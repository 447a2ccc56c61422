"""Views of addresses for the admin socket."""

from macvlan_global.admin import messages as a
from macvlan_global.store.records import AddressRecord, EndpointRecord, NameRecord, NetworkRecord


def address_view(
    record: AddressRecord, networks: dict[str, NetworkRecord], endpoint: EndpointRecord | NameRecord | None, host: str
) -> a.AddressView:
    """An address and its holder: an endpoint of this host, or the published names of another's. `host` is a name."""
    network = networks.get(record.network)
    name = (endpoint.names or [""])[0] if isinstance(endpoint, NameRecord) else endpoint.container if endpoint else ""
    holder = host if record.kind == "host" else record.label or name or record.endpoint[:12]
    return a.AddressView(
        address=record.address,
        subnet=record.subnet,
        space=record.space,
        kind=record.kind,
        network=(network.name if network else "") or record.network[:12],
        holder=holder,
        host=host,
        mac=endpoint.mac if endpoint else "",
        at=record.at,
    )


def given_by_others(endpoint: EndpointRecord, network: NetworkRecord, host: str) -> list[a.AddressView]:
    """The addresses of an endpoint that no pool of ours has."""
    return [
        a.AddressView(
            address=str(address),
            subnet=subnet.subnet,
            space="",
            kind="endpoint",
            network=network.shown,
            holder=endpoint.shown,
            host=host,
            mac=endpoint.mac,
            at=endpoint.at,
        )
        for address in endpoint.addresses
        for subnet in network.subnets
        if not subnet.space and address in subnet.prefix
    ]
