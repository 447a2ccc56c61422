"""Upper links: links that stand on another one, in whichever network namespace.

The kernel deletes them with the lower one, and lists those of its own namespace only. Two sources tell of the others.
The forwarding database of the lower link (`bridge fdb show dev eth0.10`) has the MAC of each macvlan on it that is up
and not in mode passthru. And in each namespace that can be entered, IFLA_LINK of a link is the index of the lower one,
and IFLA_LINK_NETNSID this namespace's id there.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from macvlan_global.kernel.rtnl import RouteSocket

NAMED = (Path("/run/docker/netns"), Path("/run/netns"))
"""Folders in which namespaces are mounted: the engine's containers, and those of ip-netns(8) and Podman."""
PROCESSES = Path("/proc")
OWN = Path("/proc/self/ns/net")


def namespaces() -> list[str]:
    """A path to each network namespace but this process's own: those that are mounted, and those of processes, as far
    as this process may see them."""
    found = {_inode(OWN): ""}
    for path in (*_mounted(), *_of_processes()):
        found.setdefault(_inode(path), str(path))
    return [path for inode, path in found.items() if inode and path]


def in_fdb(links: RouteSocket, index: int, passed_over: Collection[str] = ()) -> str:
    """The MAC of a macvlan that stands on a link and is none of `passed_over`, "" if its forwarding database has
    none."""
    own = {links.get(index=index).fact.mac, *passed_over}
    macs = (mac for at, mac in links.fdb() if at == index and mac not in own and not int(mac[:2], 16) & 1)
    return next(macs, "")


def inside(links: RouteSocket, index: int) -> str:
    """The name of a link of the namespace of `links` that stands on the link `index` of this process's namespace, ""
    if there is none."""
    # to a veth it is the other end
    found = [each for each in links.dump() if each.below and each.below[0] == index and each.fact.kind != "veth"]
    if not found:
        return ""
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        here = links.namespace_id(home)
    finally:
        os.close(home)
    return next((each.fact.name for each in found if each.below == (index, here)), "")


def _mounted() -> Iterator[Path]:
    for folder in NAMED:
        if folder.is_dir():
            yield from folder.iterdir()


def _of_processes() -> Iterator[Path]:
    for each in PROCESSES.iterdir():
        if each.name.isdigit():
            yield each / "ns/net"


def _inode(path: Path) -> int:
    """The number of a namespace, 0 if it cannot be seen."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
