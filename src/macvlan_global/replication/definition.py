"""Network definitions: convert between the engine's network and the cluster's record, and compare the two. Pure."""

from collections.abc import Mapping

from macvlan_global.engine.ports import NO_IPAM, EngineNetwork, EngineSubnet, NewNetwork
from macvlan_global.ipam.pool_id import DEFAULT_SPACE, NETWORK_OPTION, SPACE_OPTION
from macvlan_global.store.records import DefinitionRecord, SubnetRecord

OURS = "macvlan-global"
IPAM_DRIVER_OPTION = "ipam-driver"
"""The IPAM driver of a definition, if it is not ours, among its IPAM options. An earlier release, which would
take its own, refuses them."""


def cluster_id(network: EngineNetwork) -> str:
    """The id in the cluster of a network of this engine.

    Replication writes it into the IPAM options of each copy; the network on the host where it was created has none, and
    its own id is the cluster's.
    """
    return network.ipam_options.get(NETWORK_OPTION, network.id)


def definition_of(network: EngineNetwork, host: str, at: float) -> DefinitionRecord:
    """The definition that host `host` publishes of its network at `at` (seconds since the epoch)."""
    options = {key: value for key, value in network.ipam_options.items() if key != NETWORK_OPTION}
    if network.ipam_driver == NO_IPAM:
        options[IPAM_DRIVER_OPTION] = NO_IPAM
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
    """The request to this host's engine; its IPAM options hold the cluster id, so that its pools are joined."""
    options = {key: each for key, each in definition.ipam_options.items() if key != IPAM_DRIVER_OPTION}
    return NewNetwork(
        name=definition.name,
        options=definition.options,
        labels=definition.labels,
        internal=definition.internal,
        attachable=definition.attachable,
        ipv4=definition.ipv4,
        ipv6=definition.ipv6,
        ipam_options={**options, NETWORK_OPTION: definition.id},
        subnets=tuple(EngineSubnet(each.subnet, each.range, each.gateway, each.aux) for each in definition.subnets),
        ipam_driver=definition.ipam_options.get(IPAM_DRIVER_OPTION, ""),
    )


def differences(definition: DefinitionRecord, network: EngineNetwork) -> list[str]:
    """Differences between a definition ("there") and a network of this engine ("here"), in words.

    The order of subnets does not count.
    """
    there, here = to_create(definition), to_create(definition_of(network, "", 0.0))
    found = [
        f"{what} {one or 'nothing'} there and {other or 'nothing'} here"
        for what, one, other in (
            ("subnets:", _subnets(there.subnets), _subnets(here.subnets)),
            ("options:", _options("-o", there.options), _options("-o", here.options)),
            ("options:", _own(there.ipam_options), _own(here.ipam_options)),
            ("IPAM driver:", there.ipam_driver or OURS, here.ipam_driver or OURS),
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
