"""Reads what the kernel shows below /proc and /sys: modules, settings, links, processes. Every path is below `root`."""

import gzip
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from pathlib import Path

from macvlan_global.doctor.facts import FilterChain, KernelFacts, LinkFacts, ModuleState, PlatformFacts
from macvlan_global.doctor.packet_filter import parse_iptables, parse_nft

# a link of each kind comes from this module, which may also be part of the kernel itself
MODULES = {"macvlan": "CONFIG_MACVLAN", "8021q": "CONFIG_VLAN_8021Q", "dummy": "CONFIG_DUMMY"}
IFF_UP = 0x1
ARPHRD_ETHER = "1"  # linux/if_arp.h
TOOL_SECONDS = 5.0
"""The longest that a command of the host may take."""
ALL_ONES = "FFFFFFFF"
_DRIVER = re.compile(rb"(^|/)macvlan-global$|^macvlan_global$")
_PYTHON = re.compile(rb"(^|/)(python|pypy)[\d.]*$")


def is_there(path: Path) -> bool:
    """Whether a file or folder is there, as far as this process can see; never raises.

    Path.exists and Path.is_dir raise where a folder on the way is closed to it, as /etc/docker is to all but root on
    some hosts (mode 0700). What is in there is then not known.
    """
    return os.access(path, os.F_OK)


def entries(folder: Path) -> list[Path]:
    """All that is in a folder; nothing if it is not there, or is closed to this process."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def read_kernel(root: Path) -> KernelFacts:
    """The kernel's modules and settings."""
    net = root / "proc/sys/net"
    return KernelFacts(
        release=_text(root / "proc/sys/kernel/osrelease"),
        modules={name: _module(root, name, option) for name, option in MODULES.items()},
        bridge_filter=_flag(net / "bridge/bridge-nf-call-iptables"),
        ipv6_off=_flag(net / "ipv6/conf/all/disable_ipv6"),
        has_ipv6=is_there(net / "ipv6"),
        arp_ignore=_text(net / "ipv4/conf/all/arp_ignore") not in {"", "0"},
    )


def read_platform(root: Path) -> PlatformFacts:
    """The platform, from DMI and the kernel's release."""
    dmi = root / "sys/class/dmi/id"
    return PlatformFacts(
        vendor=_text(dmi / "sys_vendor"),
        product=" ".join(dict.fromkeys([_text(dmi / "product_name"), _text(dmi / "chassis_asset_tag")])).strip(),
        wsl="microsoft" in _text(root / "proc/sys/kernel/osrelease").lower(),
        container=is_there(root / ".dockerenv") or is_there(root / "run/.containerenv"),
    )


def read_links(root: Path) -> dict[str, LinkFacts]:
    """Every link of this network namespace, by name."""
    folder = root / "sys/class/net"
    routes = _host_routes(root)
    return {each.name: _link(root, each, routes) for each in entries(folder) if each.is_dir()}


def read_boot(root: Path) -> str:
    """The kernel's id of this boot (random(4))."""
    return _text(root / "proc/sys/kernel/random/boot_id")


def read_filters(root: Path) -> tuple[FilterChain, ...]:
    """Packet filters as nft and iptables show them; those whose tool is not installed are not known. A filter that the
    kernel has not loaded is not asked for, since that would load it."""
    found: list[FilterChain] = []
    if _module(root, "nf_tables", "CONFIG_NF_TABLES") in {"loaded", "built in"}:
        found += parse_nft(_output("nft", "--json", "--terse", "list", "ruleset"))
    for tool, tables in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names")):
        if "filter" in _text(root / "proc/net" / tables).split():
            saved = _output(f"{tool}-legacy-save", "-t", "filter") or _output(f"{tool}-save", "-t", "filter")
            found += parse_iptables(saved, tool)
    return tuple(found)


def read_capabilities(root: Path, pid: int) -> int | None:
    """The effective capabilities of a process, as a mask; None if there is no such process."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", _text(root / f"proc/{pid}/status"), re.MULTILINE)
    return int(found[1], 16) if found else None


def find_drivers(root: Path) -> tuple[int, ...]:
    """Ids of every `macvlan-global serve` in this network namespace and with this root folder: two would fight. A
    managed plugin, which may run beside, has a root folder of its own."""
    here, ours = _namespace(root / "proc/self"), _root_folder(root / "proc/self")
    processes = [each for each in entries(root / "proc") if each.name.isdigit() and _serves(each)]
    found = [each for each in processes if _namespace(each) == here and _root_folder(each) in {None, ours}]
    return tuple(sorted(int(each.name) for each in found))


def read_flags(root: Path, process: int) -> dict[str, str]:
    """The flags of a process with their values, by the names of their keys (`--host-access true`: `host_access`)."""
    words = _text(root / "proc" / str(process) / "cmdline").split("\0")
    found = {}
    for word, following in pairwise([*words, ""]):
        if word.startswith("--"):
            key, given, value = word[2:].partition("=")
            found[key.replace("-", "_")] = value if given else following
    return found


def read_environment(root: Path, process: int) -> dict[str, str]:
    """The environment that a process was started with (proc(5)); empty if this process may not read it."""
    words = _text(root / "proc" / str(process) / "environ").split("\0")
    return dict(each.split("=", 1) for each in words if "=" in each)


def _module(root: Path, name: str, option: str) -> ModuleState:
    if any(line.split(" ")[0] == name for line in _text(root / "proc/modules").splitlines()):
        return "loaded"
    configured = _configured(root, option)
    if configured == "y" or _in_list(root, "modules.builtin", name):
        return "built in"
    if _in_list(root, "modules.dep", name) or _modprobe_finds(root, name):
        return "loadable"
    # a folder of modules that does not list it settles the matter, like a configuration without it
    has_list = is_there(_module_folder(root) / "modules.dep")
    return "missing" if has_list or configured == "n" else "unknown"


def _output(*command: str) -> str:
    """The output of a command, "" if it is not installed, fails or takes too long."""
    try:
        ended = subprocess.run(command, capture_output=True, check=False, timeout=TOOL_SECONDS, text=True)  # noqa: S603
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout if ended.returncode == 0 else ""


def _host_routes(root: Path) -> dict[str, set[str]]:
    """Addresses that have a route of their own, by its interface."""
    found: dict[str, set[str]] = {}
    for fields in (line.split() for line in _text(root / "proc/net/route").splitlines()[1:]):
        if len(fields) > 7 and fields[7] == ALL_ONES:
            # the kernel prints the address in network order as one number of this machine
            address = IPv4Address(int(fields[1], 16).to_bytes(4, sys.byteorder))
            found.setdefault(fields[0], set()).add(str(address))
    for fields in (line.split() for line in _text(root / "proc/net/ipv6_route").splitlines()):
        if len(fields) > 9 and fields[1] == "80":  # /128, in hexadecimal
            found.setdefault(fields[9], set()).add(str(IPv6Address(bytes.fromhex(fields[0]))))
    return found


def _module_folder(root: Path) -> Path:
    return root / "lib/modules" / _text(root / "proc/sys/kernel/osrelease")


def _in_list(root: Path, file: str, name: str) -> bool:
    pattern = rf"/{re.escape(name)}\.ko(\.(xz|gz|zst))?(:|$)"
    return re.search(pattern, _text(_module_folder(root) / file), re.MULTILINE) is not None


def _modprobe_finds(root: Path, name: str) -> bool:
    """Whether modprobe would load it; asked without loading. It knows blacklists and places that we do not."""
    try:
        command = ["modprobe", "-n", "-d", str(root), name]
        return subprocess.run(command, capture_output=True, check=False, timeout=5).returncode == 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False


def _configured(root: Path, option: str) -> str:
    """y, m or n as the kernel was configured; "" if it does not tell."""
    try:
        text = gzip.decompress((root / "proc/config.gz").read_bytes()).decode(errors="replace")
    except (OSError, EOFError):
        text = _text(root / f"boot/config-{_text(root / 'proc/sys/kernel/osrelease')}")
    found = re.search(rf"^{option}=([ym])$", text, re.MULTILINE)
    return found[1] if found else "n" if text else ""


def _link(root: Path, folder: Path, routes: Mapping[str, set[str]]) -> LinkFacts:
    flags = _text(folder / "flags")
    up = bool(int(flags, 16) & IFF_UP) if flags else False
    carrier = _text(folder / "carrier") if up else ""  # a link that is down answers with an error
    master = folder / "master"
    return LinkFacts(
        name=folder.name,
        up=up,
        carrier=carrier == "1" if carrier else None,
        mtu=int(_text(folder / "mtu") or 0),
        wireless=is_there(folder / "wireless") or is_there(folder / "phy80211"),
        bridge=is_there(folder / "bridge"),
        port_of=master.resolve().name if is_there(master) and not _is_vrf(master) else "",
        below=tuple(sorted(each.name.removeprefix("lower_") for each in folder.glob("lower_*"))),
        ethernet=_text(folder / "type") in {"", ARPHRD_ETHER},
        bond_mode=_text(folder / "bonding/mode").partition(" ")[0],
        fail_over_mac=_text(folder / "bonding/fail_over_mac").partition(" ")[0],
        arp_filter=_flag(root / f"proc/sys/net/ipv4/conf/{folder.name}/arp_filter"),
        asks=_above_zero(root / f"proc/sys/net/ipv4/neigh/{folder.name}/mcast_solicit"),
        leads_to=frozenset(routes.get(folder.name, ())),
    )


def _is_vrf(master: Path) -> bool:
    return "DEVTYPE=vrf" in _text(master / "uevent")


def _serves(process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:  # it has just ended
        return False
    if b"serve" not in words:
        return False
    program = words.index(b"serve") - 1
    # alone, or behind its interpreter; what others begin with (sudo, timeout) only waits for a driver
    started = program == 0 or _PYTHON.search(words[0]) is not None
    return program >= 0 and started and _DRIVER.search(words[program]) is not None


def _namespace(process: Path) -> str:
    try:
        return str((process / "ns/net").readlink())
    except OSError:
        return ""


def _root_folder(process: Path) -> tuple[int, int] | None:
    """Device and inode of the root folder of a process; None if it cannot be seen. A service of systemd has another
    mount of the same one."""
    try:
        found = (process / "root").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _above_zero(path: Path) -> bool | None:
    text = _text(path)
    return text != "0" if text else None


def _flag(path: Path) -> bool | None:
    text = _text(path)
    return text == "1" if text else None


def _text(path: Path) -> str:
    """A file's text, "" if it cannot be read: what is not there is not known."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
