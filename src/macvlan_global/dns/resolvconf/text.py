"""Add our resolver to the text of a resolv.conf(5), and take it out again. Pure.

It is a block of marked lines at the top, so that the rest can be restored byte for byte. A file that replaced a link
names the link in its block, with a digest of the rest: the link is restored only if nobody changed the file since.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from macvlan_global.errors import Conflict

MOST_SERVERS = 3
"""Nameservers that the engine and the C library use (MAXNS); further ones are ignored."""

_BEGIN = "# macvlan-global: begin; `macvlan-global dns remove` takes these lines out"
_END = "# macvlan-global: end"
_BLOCK = re.compile(
    re.escape(_BEGIN)
    + r"\n(?:# instead of a link to (?P<link>.+); the rest is (?P<digest>[0-9a-f]{16})\n)?"
    + r"(?P<no_file># there was no file\n)?"
    + r"nameserver (?P<address>\S+)\n"
    + re.escape(_END)
    + r"\n"
)
_MAKERS = {
    "tailscale": "tailscale set --accept-dns=false makes it stop",
    "NetworkManager": "dns=none below [main] in /etc/NetworkManager/NetworkManager.conf makes it stop",
    "resolvconf": "put the nameserver into /etc/resolvconf/resolv.conf.d/head instead",
    "dhcpcd": "nohook resolv.conf in /etc/dhcpcd.conf makes it stop",
    "dhclient": "prepend domain-name-servers in /etc/dhcp/dhclient.conf puts the nameserver there instead",
    "netconfig": 'NETCONFIG_DNS_POLICY="" in /etc/sysconfig/network/config makes it stop',
    "wicked": 'NETCONFIG_DNS_POLICY="" in /etc/sysconfig/network/config makes it stop',
    "cloud-init": "manage_resolv_conf: false in a file of /etc/cloud/cloud.cfg.d makes it stop",
    "pppd": "take usepeerdns out of its options in /etc/ppp/peers to make it stop",
    "openvpn": "take update-resolv-conf out of its configuration to make it stop",
    "connman": "--nodnsproxy among the options of its service makes it stop",
    "Ansible": "have its template name the resolver first",
}
"""Programs that write the file, by a word of their comment in it, with the setting that makes each stop. Tailscale is
the first: its comment has the word `resolvconf`, too."""
_GENERATED = re.compile(
    r"do not edit|will be (?:lost|overwritten)"
    r"|(?:generated|created|written|managed) (?:automatically )?by (?:the )?(?P<maker>[\w.-]+)",
    re.IGNORECASE,
)
_HARMLESS = "systemd-resolved"
"""Writes files of its own, and never a plain /etc/resolv.conf."""


@dataclass(frozen=True, slots=True)
class Block:
    """Our block. `link` is the target of the symbolic link that the file replaced, "" if it replaced none.

    `no_file` says that there was no file before.
    """

    address: str
    link: str = ""
    no_file: bool = False


def find_block(text: str) -> Block | None:
    """Our block, or None if there is none, or it is not complete."""
    found = _BLOCK.search(text)
    return Block(found["address"], found["link"] or "", bool(found["no_file"])) if found else None


def add_block(text: str, address: str, *, link: str = "", no_file: bool = False) -> str:
    """The text with our block before it. With `link`, the text of a file that replaces a link with this target."""
    rest = _directives(text) if link else text
    about = f"# instead of a link to {link}; the rest is {_digest(rest)}\n" if link else ""
    about += "# there was no file\n" if no_file else ""
    return f"{_BEGIN}\n{about}nameserver {address}\n{_END}\n{rest}"


def renew_block(text: str, address: str) -> str:
    """The text with our block, which it has, at its top and with this address. The rest stays as it is, and so does
    what the block knows of the link: `remove_block` still sees whether somebody changed the file."""
    found = _BLOCK.search(text)
    if found is None:
        return text
    start, end = found.span("address")
    block = f"{text[found.start() : start]}{address}{text[end : found.end()]}"
    return f"{block}{text[: found.start()]}{text[found.end() :]}"


def remove_block(text: str, path: str) -> tuple[str, Block | None]:
    """The text without our block, and the block, None if there was none. `path` is for the errors.

    Raises:
        Conflict: the block is not complete, or the file replaced a link and was changed since.
    """
    found = _BLOCK.search(text)
    if found is None:
        if _BEGIN in text or _END in text:
            raise Conflict(f"{path}: the lines of macvlan-global are incomplete; delete those that are left by hand")
        return text, None
    rest = text[: found.start()] + text[found.end() :]
    if found["link"] and _digest(rest) != found["digest"]:
        raise Conflict(
            f"{path} replaced a symbolic link and was changed since; save the lines you need, then restore the link: "
            f"ln -sf {found['link']} {path}"
        )
    return rest, find_block(text)


def nameservers(text: str) -> list[str]:
    """The nameservers of a resolv.conf, in order."""
    words = (line.split() for line in text.splitlines())
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]


def warnings(text: str) -> Iterator[str]:
    """Warnings for the operator about a resolv.conf with our block: lines that keep the resolver from being asked."""
    block, servers = find_block(text), nameservers(text)
    if block and servers[0] != block.address:
        again = "run `macvlan-global dns remove`, then install again"
        yield f"nameserver {servers[0]} is asked before {block.address}; {again}"
    if len(servers) == 1:
        yield "no other nameserver is listed: only names of containers will resolve"
    for lost in servers[MOST_SERVERS:]:
        yield f"nameserver {lost} is ignored: only the first {MOST_SERVERS} are used"
    if owner := owner_warning(text):
        yield owner
    options = {word for line in text.splitlines() if line.startswith("options") for word in line.split()[1:]}
    if any(each.startswith("ndots:") for each in options):
        yield "options ndots is set: engines then do not forward names without a dot; use NAME.NETWORK"
    if "rotate" in options:
        yield "options rotate is set: programs on this host ask the other nameservers first from time to time"


def owner_warning(text: str) -> str:
    """Warning about another program that writes this resolv.conf, "" if its comments name none."""
    head = "\n".join(line for line in _BLOCK.sub("", text).splitlines() if line.startswith(("#", ";")))
    for maker, remedy in _MAKERS.items():
        if maker.lower() in head.lower():
            return f"{maker} generates this file and may overwrite it without the resolver; {remedy}"
    if _HARMLESS in head or not _GENERATED.search(head):
        return ""
    makers = [found["maker"] for found in _GENERATED.finditer(head) if found["maker"]]
    maker = makers[0].rstrip(".") if makers else "another program"
    return (
        f"{maker} generates this file and may overwrite it without the resolver; have it name the resolver first, or "
        "stop writing the file"
    )


def is_of_network_manager(text: str) -> bool:
    """Whether this resolv.conf, without our block, was generated by NetworkManager: nothing in it is the operator's."""
    return _BLOCK.sub("", text).lstrip().startswith("# Generated by NetworkManager")


def _directives(text: str) -> str:
    """Lines without comments: those of a generated file would be wrong in ours."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith(("#", ";")))
    return "".join(f"{line}\n" for line in lines)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
