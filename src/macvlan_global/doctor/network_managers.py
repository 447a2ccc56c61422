"""Reads which network managers of a host would configure the links that the driver makes. Paths are below `root`."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from macvlan_global.doctor.facts import ManagerFacts
from macvlan_global.doctor.kernel import entries, is_there

FOLDERS = ("etc/systemd/network", "run/systemd/network", "usr/local/lib/systemd/network", "usr/lib/systemd/network")
"""Folders of systemd.network(5). Of files of one name the first folder's counts."""
NETWORKD = "run/systemd/netif"
NETWORK_MANAGER = "run/NetworkManager"
RULES = ("etc/udev/rules.d/80-macvlan-global.rules", "usr/lib/udev/rules.d/80-macvlan-global.rules")
"""The rule of `macvlan-global install`, and that of the package."""
ALTERNATIVE = "macvlan-global-"
"""Prefix of the alternative name of our links."""
_OF_HARDWARE = {"Path", "Driver", "PermanentMACAddress", "MACAddress", "Property", "BSSID", "SSID", "WLANInterfaceType"}
"""Conditions that a VLAN or a dummy meets by no wildcard."""


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """The [Match] section of a file of systemd-networkd, and whether it says that it does not manage the link."""

    path: str
    match: dict[str, tuple[str, ...]]
    unmanaged: bool

    def matches(self, name: str, kind: str) -> bool:
        """Whether it is for a link of ours of this name and kind (vlan, dummy)."""
        if _OF_HARDWARE & self.match.keys() or not self.match:
            return False
        types = ("vlan",) if kind == "vlan" else ("ether",)
        return (
            _one_of(self.match.get("Name", ("*",)), (name, f"{ALTERNATIVE}{name}"))
            and _one_of(self.match.get("Type", ("*",)), types)
            and _one_of(self.match.get("Kind", ("*",)), (kind,))
        )


def read_managers(root: Path, made: Iterable[tuple[str, str]]) -> ManagerFacts:
    """The facts for links of ours, given as (name, kind)."""
    links = list(made)
    files = read_network_files(root) if is_there(root / NETWORKD) else []
    wildcards: dict[str, str] = {}
    for name, kind in links:
        first = next((each for each in files if each.matches(name, kind)), None)
        if first and not first.unmanaged:
            wildcards.setdefault(first.path, name)
    ruled = any(is_there(root / each) for each in RULES)
    unguarded = bool(links) and is_there(root / NETWORK_MANAGER) and not ruled
    return ManagerFacts(tuple(wildcards.items()), unguarded)


def read_network_files(root: Path) -> list[NetworkFile]:
    """The files of systemd-networkd, in the order in which it tries them."""
    found: dict[str, Path] = {}
    for folder in reversed(FOLDERS):
        found |= {each.name: each for each in entries(root / folder) if each.name.endswith(".network")}
    return [_read(root, path) for _, path in sorted(found.items())]


def _read(root: Path, path: Path) -> NetworkFile:
    sections: dict[str, dict[str, list[str]]] = {}
    current: dict[str, list[str]] = {}
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in (each.strip() for each in lines):
        if line.startswith("[") and line.endswith("]"):
            current = sections.setdefault(line[1:-1], {})
        elif "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            current.setdefault(key.strip(), []).extend(value.split())
    match = {key: tuple(values) for key, values in sections.get("Match", {}).items() if values}
    unmanaged = sections.get("Link", {}).get("Unmanaged", [])
    return NetworkFile(f"/{path.relative_to(root)}", match, unmanaged[-1:] in (["yes"], ["true"], ["1"], ["on"]))


def _one_of(globs: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Whether one of the names matches one of the globs; with ! before the first one, whether one matches none."""
    inverted = globs[0].startswith("!")
    globs = (globs[0].removeprefix("!"), *globs[1:])
    return any(any(fnmatchcase(name, glob) for glob in globs) != inverted for name in names)
