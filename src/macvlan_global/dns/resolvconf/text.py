"""The text of /etc/resolv.conf with our resolver first, and without it again. Pure.

Ours is a block of marked lines at the top, so that it can be told from what stood there before. A file that took the
place of a link says so in its block, and has a digest of the rest: the link comes back only for what we wrote.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from macvlan_global.errors import Conflict

MOST_SERVERS = 3
"""How many nameservers the engine and the C library ask."""

_BEGIN = "# macvlan-global: begin; `macvlan-global dns remove` takes these lines out"
_END = "# macvlan-global: end"
_BLOCK = re.compile(
    re.escape(_BEGIN)
    + r"\n(?:# instead of a link to (?P<link>.+); the rest is (?P<digest>[0-9a-f]{16})\n)?"
    + r"(?P<nothing># there was no file\n)?"
    + r"nameserver (?P<address>\S+)\n"
    + re.escape(_END)
    + r"\n"
)
_MAKERS = {
    "NetworkManager": "dns=none below [main] in /etc/NetworkManager/NetworkManager.conf makes it stop",
    "resolvconf": "put the nameserver into /etc/resolvconf/resolv.conf.d/head instead",
    "dhcpcd": "nohook resolv.conf in /etc/dhcpcd.conf makes it stop",
    "dhclient": "prepend domain-name-servers in /etc/dhcp/dhclient.conf puts the nameserver there instead",
}


@dataclass(frozen=True, slots=True)
class Ours:
    """What our block says. `link` is where the link led that the file is instead of, "" if it was none; `nothing`
    says that there was no file."""

    address: str
    link: str = ""
    nothing: bool = False


def find_ours(text: str) -> Ours | None:
    """What our block says, or None if there is none that is whole."""
    found = _BLOCK.search(text)
    return Ours(found["address"], found["link"] or "", bool(found["nothing"])) if found else None


def with_ours(text: str, address: str, *, link: str = "", nothing: bool = False) -> str:
    """The text with our block before it. With `link` it is that of a file instead of the link."""
    rest = _directives(text) if link else text
    about = f"# instead of a link to {link}; the rest is {_digest(rest)}\n" if link else ""
    about += "# there was no file\n" if nothing else ""
    return f"{_BEGIN}\n{about}nameserver {address}\n{_END}\n{rest}"


def without_ours(text: str, path: str) -> tuple[str, Ours | None]:
    """The text as it was before, and what our block said; None if there was no block. `path` is for the errors.

    Raises:
        Conflict: the block is not whole, or it stands for a link and the rest was changed.
    """
    found = _BLOCK.search(text)
    if found is None:
        if _BEGIN in text or _END in text:
            raise Conflict(f"{path}: the lines of macvlan-global were changed; take them out by hand")
        return text, None
    rest = text[: found.start()] + text[found.end() :]
    if found["link"] and _digest(rest) != found["digest"]:
        raise Conflict(
            f"{path} was changed since it took the place of a link; save what you need of it, then bring the link back "
            f"by hand: ln -sf {found['link']} {path}"
        )
    return rest, find_ours(text)


def nameservers(text: str) -> list[str]:
    """The servers that a resolv.conf names, in order."""
    words = (line.split() for line in text.splitlines())
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]


def warnings(text: str) -> Iterator[str]:
    """What the operator should know of a resolv.conf that has our block."""
    ours, servers = find_ours(text), nameservers(text)
    if ours and servers[0] != ours.address:
        yield f"{servers[0]} is asked before {ours.address}; run `macvlan-global dns remove`, then install again"
    if len(servers) == 1:
        yield "no other nameserver is there: names that are no container's will not resolve"
    for lost in servers[MOST_SERVERS:]:
        yield f"nameserver {lost} is not asked any more: only the first {MOST_SERVERS} are"
    head = "\n".join(line for line in text.splitlines() if line.startswith(("#", ";")))
    for maker, remedy in _MAKERS.items():
        if maker in head:
            yield f"{maker} wrote this file and may write it again, without our lines; {remedy}"
            break
    options = {word for line in text.splitlines() if line.startswith("options") for word in line.split()[1:]}
    if any(each.startswith("ndots:") for each in options):
        yield "options ndots is set: engines then do not pass names without a dot on; ask for NAME.NETWORK"
    if "rotate" in options:
        yield "options rotate is set: programs on this host ask other servers first, now and then"


def _directives(text: str) -> str:
    """Without comments: those of a generated file would be wrong in ours."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith(("#", ";")))
    return "".join(f"{line}\n" for line in lines)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
