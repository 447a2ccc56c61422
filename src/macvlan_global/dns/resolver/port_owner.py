"""Find the processes that listen on a port, by /proc: the operator learns who holds port 53."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_TABLES = ("udp", "udp6", "tcp", "tcp6")
_LISTENING = "0A"


def port_owners(port: int, proc: Path = Path("/proc")) -> str:
    """Other processes that listen on `port` (UDP or TCP), as in `dnsmasq (pid 812)`; "" if none is found.

    Needs root.
    """
    sockets = {inode for table in _TABLES for inode in _inodes(proc / "self/net" / table, port)}
    found = {}
    for folder in proc.iterdir() if sockets else ():
        if folder.name.isdigit() and int(folder.name) != os.getpid() and sockets & _sockets(folder / "fd"):
            with contextlib.suppress(OSError):  # a process may have any bytes as its name
                found[int(folder.name)] = (folder / "comm").read_bytes().decode(errors="replace").strip()
    return ", ".join(f"{name} (pid {pid})" for pid, name in sorted(found.items()))


def _inodes(table: Path, port: int) -> Iterator[str]:
    """Sockets of a table such as proc_net_tcp(5): each line has the local address, the state and the inode."""
    with contextlib.suppress(OSError):
        for line in table.read_bytes().decode(errors="replace").splitlines()[1:]:
            with contextlib.suppress(ValueError, IndexError):  # a line of another format
                words = line.split()
                listening = table.name.startswith("udp") or words[3] == _LISTENING
                if listening and int(words[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{words[9]}]"


def _sockets(folder: Path) -> set[str]:
    try:
        return {str(each.readlink()) for each in folder.iterdir()}
    except OSError:  # the process has ended
        return set()
