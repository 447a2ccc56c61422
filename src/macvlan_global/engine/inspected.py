"""Objects of the Docker API as values of the port, and requests of the port as bodies of the API. Pure."""

import re
from ipaddress import ip_address, ip_network
from typing import Any

from macvlan_global.engine.ports import (
    NO_IPAM,
    ContainerEvent,
    EngineContainer,
    EngineEndpoint,
    EngineEvent,
    EngineLeg,
    EngineNetwork,
    EnginePort,
    EngineSubnet,
    NetworkEvent,
    NewNetwork,
)

NAMELESS = "unknown"
"""The name, in the port, of a driver that the engine does not name: "" is ours."""
CONTAINER_ACTIONS = {"start", "die", "rename", "destroy"}


def network(found: dict[str, Any], driver: str, ipam_driver: str) -> EngineNetwork:
    """A network from `GET /networks/ID`, of an engine that knows our driver and our IPAM driver by these names."""
    ipam = found.get("IPAM") or {}
    containers = found.get("Containers") or {}
    return EngineNetwork(
        id=found["Id"],
        name=found["Name"],
        ipam_driver=_unless_ours(ipam.get("Driver"), ipam_driver),
        internal=bool(found.get("Internal")),
        options=dict(found.get("Options") or {}),
        ipam_options=dict(ipam.get("Options") or {}),
        subnets=tuple(_subnet(each) for each in ipam.get("Config") or () if ipam.get("Driver") != NO_IPAM),
        endpoints=tuple(_endpoint(key, each) for key, each in containers.items()),
        driver=_unless_ours(found.get("Driver"), driver),
        labels=dict(found.get("Labels") or {}),
        attachable=bool(found.get("Attachable")),
        ipv4=bool(found.get("EnableIPv4", True)),  # engines before 28 do not say
        ipv6=bool(found.get("EnableIPv6")),
        scope=found.get("Scope", "local"),
    )


def _unless_ours(name: str | None, ours: str) -> str:
    """The name of a driver as the port has it: "" for ours. A swarm's network has none before the managers made it."""
    return "" if name == ours else name or NAMELESS


def network_request(wanted: NewNetwork, driver: str, ipam_driver: str) -> dict[str, Any]:
    """The body of `POST /networks/create`."""
    body = {
        "Name": wanted.name,
        "CheckDuplicate": True,  # engines before 25 would make a second network of the name
        "Driver": driver,
        "Internal": wanted.internal,
        "Attachable": wanted.attachable,
        "EnableIPv6": wanted.ipv6,
        "IPAM": {
            "Driver": wanted.ipam_driver or ipam_driver,
            "Options": wanted.ipam_options,
            "Config": [_config(each) for each in wanted.subnets],
        },
        "Options": wanted.options,
        "Labels": wanted.labels,
    }
    return body if wanted.ipv4 else {**body, "EnableIPv4": False}


def container(found: dict[str, Any]) -> EngineContainer:
    """A container from `GET /containers/ID/json`."""
    config = found.get("Config") or {}
    networks = (found.get("NetworkSettings") or {}).get("Networks") or {}
    return EngineContainer(
        id=found["Id"],
        name=found.get("Name", "").removeprefix("/"),
        hostname=config.get("Hostname", ""),
        running=bool((found.get("State") or {}).get("Running")),
        legs=tuple(_leg(name, each) for name, each in networks.items()),
        exposed=_ports(config.get("ExposedPorts")),
        published=_ports((found.get("HostConfig") or {}).get("PortBindings")),
        labels=dict(config.get("Labels") or {}),
    )


def event(seen: dict[str, Any], driver: str) -> EngineEvent | None:
    """An item of `GET /events`; None if it is of no interest: see `NetworkEvent` and `ContainerEvent`."""
    actor, action = seen["Actor"], seen["Action"]
    attributes = actor.get("Attributes") or {}
    name = attributes.get("name", "")
    if seen["Type"] == "network" and (attributes.get("type") == driver or action == "destroy"):
        return NetworkEvent(action, actor["ID"], name, attributes.get("container", ""))
    if seen["Type"] == "container" and action in CONTAINER_ACTIONS:
        return ContainerEvent(action, actor["ID"], name)
    return None


_BEGINNING = re.compile(rb'"Type":\s*"container",\s*"Action":\s*"(\w+)",\s*"Actor":\s*\{"ID":\s*"([0-9a-f]+)"')
"""Order of the fields in an event: `events.Message` in moby's api/types/events."""


def event_of_beginning(line: bytes) -> EngineEvent | None:
    """The event of a line of which only the beginning is there: that of a container, whose name is then not known."""
    found = _BEGINNING.search(line[:1024])
    action = found[1].decode() if found else ""
    return ContainerEvent(action, found[2].decode(), "") if found and action in CONTAINER_ACTIONS else None


def refers_to(found: dict[str, Any], network: EngineNetwork) -> str:
    """The name of a container from `GET /containers/json`, running or not, if it is on this network; else ""."""
    networks = (found.get("NetworkSettings") or {}).get("Networks") or {}
    on_it = any(network.id == (each or {}).get("NetworkID") or name == network.name for name, each in networks.items())
    names = found.get("Names") or [found["Id"][:12]]
    return str(names[0]).removeprefix("/") if on_it and found.get("State") != "removing" else ""


def _endpoint(container_id: str, found: dict[str, Any]) -> EngineEndpoint:
    return EngineEndpoint(
        id=found.get("EndpointID", ""),
        container=found.get("Name", ""),
        mac=found.get("MacAddress", ""),
        address=_bare(found.get("IPv4Address", "")),
        address6=_bare(found.get("IPv6Address", "")),
        # the engine's key for an endpoint of no container begins with "ep-"
        container_id="" if container_id.startswith("ep-") else container_id,
    )


def _leg(network_name: str, found: dict[str, Any]) -> EngineLeg:
    # DNSNames since engine 26, where the aliases are part of it
    names = [*(found.get("Aliases") or ()), *(found.get("DNSNames") or ())]
    return EngineLeg(
        network=found.get("NetworkID", ""),
        network_name=network_name,
        endpoint=found.get("EndpointID", ""),
        address=found.get("IPAddress", ""),
        address6=found.get("GlobalIPv6Address", ""),
        mac=found.get("MacAddress", ""),
        names=tuple(dict.fromkeys(names)),
    )


def _ports(found: dict[str, Any] | None) -> tuple[EnginePort, ...]:
    pairs = (key.partition("/") for key in found or ())
    ports = (EnginePort(int(port), kind or "tcp") for port, _, kind in pairs if port.isdecimal())
    return tuple(sorted(ports, key=_by_number))


def _by_number(each: EnginePort) -> tuple[int, str]:
    return each.port, each.protocol


def _subnet(config: dict[str, Any]) -> EngineSubnet:
    return EngineSubnet(
        # engines before 29 show the user's own spelling
        subnet=_cidr(config.get("Subnet") or ""),
        range=_cidr(config.get("IPRange") or ""),
        # with its prefix if the pool was chosen by an IPAM driver
        gateway=_spelled(_bare(config.get("Gateway") or "")),
        aux={name: _spelled(_bare(each)) for name, each in (config.get("AuxiliaryAddresses") or {}).items()},
    )


def _cidr(text: str) -> str:
    """A subnet as everybody else spells it; any other text as it is."""
    try:
        return str(ip_network(text.strip(), strict=False))
    except ValueError:
        return text


def _spelled(text: str) -> str:
    """An address as everybody else spells it; any other text as it is."""
    try:
        return str(ip_address(text.strip()))
    except ValueError:
        return text


def _config(subnet: EngineSubnet) -> dict[str, Any]:
    given = {"Subnet": subnet.subnet, "IPRange": subnet.range, "Gateway": subnet.gateway}
    config: dict[str, Any] = {key: value for key, value in given.items() if value}
    return {**config, "AuxiliaryAddresses": subnet.aux} if subnet.aux else config


def _bare(address: str) -> str:
    return address.partition("/")[0]
