"""Description of the managed plugin for Docker: its config.json. Pure."""

from typing import Any

from macvlan_global.config import PLUGIN_ADMIN_SOCKET

INTERPRETER = "/usr/bin/python3.11"
PACKAGES = "/usr/lib/macvlan-global"
"""Folder of the driver and its libraries in the root file system."""
STATE = "/var/lib/macvlan-global"
SOCKET = "macvlan-global.sock"
NAME = "macvlan-global:latest"
"""The name that networks are created with. Docker looks a driver up by its full name, tag and all."""

_INTERFACES = ("docker.networkdriver/1.0", "docker.ipamdriver/1.0")
_CAPABILITIES = (
    "CAP_NET_ADMIN",  # links
    "CAP_SYS_ADMIN",  # setns(2), into the network namespace of a container
    "CAP_NET_RAW",  # probing a segment for an address
    "CAP_NET_BIND_SERVICE",  # the resolver of a cluster, on port 53
)
_SETTINGS = {
    "SCOPE": ("swarm", "swarm; or local or global, on an engine that is in no swarm"),
    "DRIVER_NAME": (NAME, "the name that this plugin was installed under, with its tag"),
    "HOST_NAME": ("", "what this node is called; by default its host name"),
    "STORE": ("sqlite", "sqlite, or the URL of a cluster store for scope global"),
    "LOG_LEVEL": ("info", "debug, info, warning or error; the engine's log has what the driver says"),
    "METRICS": ("", "HOST:PORT to serve metrics on"),
    "ADMIN_SOCKET": (PLUGIN_ADMIN_SOCKET, "socket for commands, below /run of the node"),
}


def describe() -> dict[str, Any]:
    """The config.json, by the specification of Docker's managed plugins, version 1."""
    return {
        "description": "Macvlan networks whose parent is chosen on each node",
        "documentation": "docs/swarm.md of macvlan-global",
        "entrypoint": [INTERPRETER, "-m", "macvlan_global", "serve"],
        "workdir": "/",
        "interface": {"types": list(_INTERFACES), "socket": SOCKET},
        "network": {"type": "host"},
        "propagatedMount": STATE,
        "env": [
            {"name": "PYTHONPATH", "description": "where the driver is", "value": PACKAGES},
            *(
                {"name": f"MACVLAN_GLOBAL_{key}", "description": text, "value": value, "settable": ["value"]}
                for key, (value, text) in _SETTINGS.items()
            ),
        ],
        "mounts": [
            # the folder and not docker.sock alone: an engine that starts anew makes a new socket in it
            _mount("run", "the engine's API, network namespaces of containers, the socket for commands", "/run"),
            # a source that is not there would stop the plugin from being enabled, and /etc always is
            _mount("etc", "parent files, and macvlan-global/config.toml", "/etc", "ro"),
            # the plugin's own /proc/sys cannot be written
            _mount("sysctl", "settings of interfaces in containers", "/proc/sys/net", to="/sysctl/net"),
        ],
        "linux": {"capabilities": list(_CAPABILITIES)},
    }


def _mount(name: str, description: str, source: str, *options: str, to: str = "") -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "source": source,
        "destination": to or source,
        "type": "bind",
        # what is mounted there later is to be seen too
        "options": ["rbind", "rslave", *options],
        "settable": ["source"],
    }
