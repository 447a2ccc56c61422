"""Asks the engine what it is. Standard library only: the doctor must start at once, and the driver's own way to the
engine (`macvlan_global.engine`) is asynchronous and brings a large library along."""

import http.client
import json
from typing import Any

from macvlan_global.admin.client import UnixConnection
from macvlan_global.doctor.facts import EngineFacts

PATIENCE_SECONDS = 10.0
API = "v1.41"


def ask_engine(docker_host: str) -> EngineFacts:
    """What the engine at `docker_host` (unix:///path or tcp://host:port) says about itself. Never raises."""
    kind, _, where = docker_host.partition("://")
    connection: http.client.HTTPConnection
    if kind == "unix":
        connection = UnixConnection(where, PATIENCE_SECONDS)
    else:
        connection = http.client.HTTPConnection(where, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", f"/{API}/info")
        info = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return EngineFacts(docker_host, f"{reason[0].lower()}{reason[1:]} ({where})")
    finally:
        connection.close()
    return _facts(docker_host, info)


def _facts(docker_host: str, info: dict[str, Any]) -> EngineFacts:
    return EngineFacts(
        docker_host,
        version=str(info.get("ServerVersion") or ""),
        system=str(info.get("OperatingSystem") or ""),
        plugins=tuple((info.get("Plugins") or {}).get("Network") or ()),
        swarm=(info.get("Swarm") or {}).get("LocalNodeState") == "active",
        rootless=any("rootless" in each for each in info.get("SecurityOptions") or ()),
    )
