"""Asks the engine what it is. Standard library only: the doctor must start at once, and the driver's own way to the
engine (`macvlan_global.engine`) is asynchronous and brings a large library along."""

import http.client
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from macvlan_global.admin.client import UnixConnection
from macvlan_global.config import scope_of_labels
from macvlan_global.doctor.facts import (
    EngineFacts,
    NetworkFacts,
    PluginFacts,
    SwarmFacts,
    SwarmNetwork,
    SwarmNode,
    SwarmService,
)
from macvlan_global.doctor.swarm import is_ours
from macvlan_global.engine.socket_activation import SOCKETS, reason_not_to_wake

PATIENCE_SECONDS = 25.0
"""A manager of a swarm that has just lost its leader answers after 20 s, which is a deadline of the engine's own."""
OLDEST_API = (1, 41)
"""The API version that is spoken, unless the engine wants a newer one: engines 29.0 to 29.2 do."""
MODULE = "macvlan_global"
NO_ANSWER = (OSError, http.client.HTTPException, ValueError)
SOCKET_SETTING = "MACVLAN_GLOBAL_ADMIN_SOCKET="


def ask_engine(docker_host: str) -> tuple[EngineFacts, SwarmFacts | None]:
    """Facts of the engine at `docker_host` (unix:///path or tcp://host:port), and of the swarm if it is a manager of
    one. Never raises."""
    where = docker_host.partition("://")[2]
    if where in SOCKETS and (reason := reason_not_to_wake()):
        return EngineFacts(docker_host, f"{reason} ({where})"), None
    try:
        ask = partial(_get, docker_host, _api(_get(docker_host, "", "/version")))
        info = ask("/info")
        facts = replace(_facts(docker_host, info, ask("/plugins")), neighbours=_neighbours(ask))
    except NO_ANSWER as error:
        return EngineFacts(docker_host, f"{_reason(error)} ({where})"), None
    if not (info.get("Swarm") or {}).get("ControlAvailable"):
        return facts, None
    try:
        return facts, _swarm(ask)
    except NO_ANSWER as error:
        return facts, SwarmFacts(_reason(error))


def _reason(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error).rpartition("desc = ")[2] or type(error).__name__
    return f"{reason[0].lower()}{reason[1:]}"


def _api(found: dict[str, Any]) -> str:
    """The version to speak with an engine that says this of itself, as the beginning of a path."""
    least = tuple(int(part) for part in str(found.get("MinAPIVersion") or "").split(".") if part.isdecimal())
    major, minor = max(OLDEST_API, least if len(least) == len(OLDEST_API) else OLDEST_API)
    return f"/v{major}.{minor}"


def _get(docker_host: str, api: str, path: str) -> Any:
    kind, _, where = docker_host.partition("://")
    connection: http.client.HTTPConnection
    if kind == "unix":
        connection = UnixConnection(where, PATIENCE_SECONDS)
    else:
        connection = http.client.HTTPConnection(where, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", f"{api}{path}")
        response = connection.getresponse()
        found = json.loads(response.read())
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise http.client.HTTPException(str(found.get("message", "")) or response.reason)
    return found


def _facts(docker_host: str, info: dict[str, Any], plugins: list[dict[str, Any]]) -> EngineFacts:
    ours = [_plugin(each) for each in plugins if MODULE in ((each.get("Config") or {}).get("Entrypoint") or ())]
    return EngineFacts(
        docker_host,
        version=str(info.get("ServerVersion") or ""),
        system=str(info.get("OperatingSystem") or ""),
        plugins=tuple((info.get("Plugins") or {}).get("Network") or ()),
        swarm=(info.get("Swarm") or {}).get("LocalNodeState") == "active",
        rootless=any("rootless" in each for each in info.get("SecurityOptions") or ()),
        folder=str(info.get("DockerRootDir") or "/var/lib/docker"),
        scope=scope_of_labels(info.get("Labels") or ()),
        plugin=next((each for each in ours if each.enabled), ours[0] if ours else None),
    )


def _plugin(found: dict[str, Any]) -> PluginFacts:
    settings = (found.get("Settings") or {}).get("Env") or ()
    sockets = [each.removeprefix(SOCKET_SETTING) for each in settings if each.startswith(SOCKET_SETTING)]
    return PluginFacts(found["Name"], found["Id"], bool(found.get("Enabled")), sockets[0] if sockets else "")


def _neighbours(ask: Callable[[str], Any]) -> tuple[NetworkFacts, ...]:
    """See `EngineFacts.neighbours`; none if the engine does not tell."""
    try:
        found = ask("/networks")
    except NO_ANSWER:
        return ()
    return tuple(
        NetworkFacts(
            each["Name"],
            (each.get("Options") or {}).get("parent", ""),
            subnets=tuple(("", pool["Subnet"]) for pool in each["IPAM"].get("Config") or () if pool.get("Subnet")),
        )
        for each in found
        if each["Driver"] in {"macvlan", "ipvlan"} and (each.get("IPAM") or {}).get("Driver") == "default"
    )


def _swarm(ask: Callable[[str], Any]) -> SwarmFacts:
    # services and nodes first: without a leader they fail at once, and networks after a while
    services, nodes = ask("/services"), ask("/nodes")
    networks = [each for each in ask("/networks") if each["Scope"] == "swarm"]
    return SwarmFacts(
        networks=tuple(
            SwarmNetwork(each["Id"], each["Name"], each["Driver"], bool(each.get("EnableIPv6")))
            for each in networks
            if is_ours(each["Driver"]) or not each["Driver"]
        ),
        services=tuple(SwarmService(each["Spec"]["Name"], frozenset(_virtual(each))) for each in services),
        nodes=tuple(
            SwarmNode(each["Description"]["Hostname"], frozenset(_network_plugins(each)))
            for each in nodes
            if each["Status"]["State"] == "ready"
        ),
    )


def _virtual(service: dict[str, Any]) -> list[str]:
    return [each["NetworkID"] for each in (service.get("Endpoint") or {}).get("VirtualIPs") or ()]


def _network_plugins(node: dict[str, Any]) -> list[str]:
    plugins = (node["Description"].get("Engine") or {}).get("Plugins") or ()
    return [each["Name"] for each in plugins if each["Type"] == "Network"]
