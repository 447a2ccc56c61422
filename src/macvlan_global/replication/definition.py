"""A network as the cluster describes it, as this host's engine shows it, and in what they differ. Pure."""

from collections.abc import Mapping

from macvlan_global.engine.ports import EngineNetwork, EngineSubnet, NewNetwork
from macvlan_global.ipam.pool_id import DEFAULT_SPACE, NETWORK_OPTION, SPACE_OPTION
from macvlan_global.store.records import DefinitionRecord, SubnetRecord


def cluster_id(network: EngineNetwork) -> str:
    """What the cluster calls a network of this engine: our own replication wrote it into its IPAM options; a network
    that was made here goes by its own id."""
    return network.ipam_options.get(NETWORK_OPTION, network.id)


def definition_of(network: EngineNetwork, host: str, at: float) -> DefinitionRecord:
    """What the other hosts need to make this network too, as host `host` publishes it at `at` (epoch seconds)."""
    options = {key: value for key, value in network.ipam_options.items() if key != NETWORK_OPTION}
    space = options.get(SPACE_OPTION, DEFAULT_SPACE)
    return DefinitionRecord(
        id=cluster_id(network),
        name=network.name,
        options=network.options,
        labels=network.labels,
        internal=network.internal,
        attachable=network.attachable,
        ipv4=network.ipv4,
        ipv6=network.ipv6,
        ipam_options=options,
        subnets=[
            SubnetRecord(space=space, subnet=each.subnet, range=each.range, gateway=each.gateway, aux=each.aux)
            for each in network.subnets
        ],
        host=host,
        at=at,
    )


def to_create(definition: DefinitionRecord) -> NewNetwork:
    """What this host's engine is asked to make; its IPAM options say whose pools are joined."""
    return NewNetwork(
        name=definition.name,
        options=definition.options,
        labels=definition.labels,
        internal=definition.internal,
        attachable=definition.attachable,
        ipv4=definition.ipv4,
        ipv6=definition.ipv6,
        ipam_options={**definition.ipam_options, NETWORK_OPTION: definition.id},
        subnets=tuple(EngineSubnet(each.subnet, each.range, each.gateway, each.aux) for each in definition.subnets),
    )


def differs(definition: DefinitionRecord, network: EngineNetwork) -> list[str]:
    """In what a network of this engine is not as defined, in words; the order of its subnets does not count."""
    there, here = to_create(definition), to_create(definition_of(network, "", 0.0))
    found = [
        f"{what} {one or 'nothing'} there and {other or 'nothing'} here"
        for what, one, other in (
            ("subnets:", _subnets(there.subnets), _subnets(here.subnets)),
            ("options:", _options("-o", there.options), _options("-o", here.options)),
            ("options:", _own(there.ipam_options), _own(here.ipam_options)),
            ("labels:", _options("--label", there.labels), _options("--label", here.labels)),
        )
        if one != other
    ]
    flags = (
        ("internal", there.internal, here.internal),
        ("attachable", there.attachable, here.attachable),
        ("IPv4", there.ipv4, here.ipv4),
        ("IPv6", there.ipv6, here.ipv6),
    )
    return found + [
        f"{what}: {'yes' if one else 'no'} there and {'yes' if other else 'no'} here"
        for what, one, other in flags
        if one != other
    ]


def _subnets(subnets: tuple[EngineSubnet, ...]) -> str:
    return ", ".join(sorted(map(_subnet, subnets)))


def _subnet(subnet: EngineSubnet) -> str:
    parts = [f"range {subnet.range}"] if subnet.range else []
    parts += [f"gateway {subnet.gateway}"] if subnet.gateway else []
    parts += [f"{name} {address}" for name, address in sorted(subnet.aux.items())]
    return f"{subnet.subnet} ({', '.join(parts)})" if parts else subnet.subnet


def _own(ipam_options: Mapping[str, str]) -> str:
    return _options("--ipam-opt", {key: each for key, each in ipam_options.items() if key != NETWORK_OPTION})


def _options(flag: str, options: Mapping[str, str]) -> str:
    return " ".join(f"{flag} {key}={value}" for key, value in sorted(options.items()))
