"""Network options (`-o`) as typed values. Pure."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import Literal, cast, get_args

from macvlan_global.errors import Invalid
from macvlan_global.options.endpoint import check_ifname
from macvlan_global.options.engine_keys import MTU_KEY, PREFIX, check_network_key
from macvlan_global.subnets import parse_address, parse_subnet

MacvlanMode = Literal["bridge", "private", "vepa", "passthru"]
MacPolicy = Literal["random", "address"]
AttachWay = Literal["plain", "direct"]

KEYS = (
    *("parent", "parent-file", "macvlan_mode", "mode", "mtu", "mac", "sticky", "probe", "attach", "ifname"),
    *("ipv6-subnet", "ipv6-gateway", "host_access"),
)
"""All keys of the driver. An empty key counts as `parent` (`-o =eth0,eth1`)."""

MIN_MTU = 68  # RFC 791: every link carries datagrams of 68 bytes
MIN_MTU_IPV6 = 1280  # RFC 8200 section 5
MAX_MTU = 65535

MAX_IPV6_PREFIX = 96  # the other 32 bits hold an IPv4 address
NOT_FOR_CONTAINERS = tuple(map(IPv6Network, ("::/8", "fe80::/10", "ff00::/8")))
"""Reserved (with loopback and mapped IPv4), link-local, multicast: RFC 4291 section 2.4."""


_WITHOUT_HOST: dict[MacvlanMode, str] = {
    "private": "links on the parent do not reach each other, and the host's would be one of them",
    "vepa": "each frame goes to the switch, which would learn the host's own link",
    "passthru": "the parent carries one link only, and the host's would be a second one",
}


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """Options that a network was created with.

    `parent` and `parent_file` are the texts of the options, "" if not given. `mtu` 0 means the parent's; `mtu_key` is
    the option that gave it, Docker's or ours. `mac` is the source of MACs that the user does not give, "" for the name
    of the container if it is known, else random. `sticky` says that addresses stay with names. `probe` is duplicate
    address detection, None for the driver's default. `attach` is the attach mode, "" for the driver's default; `ifname`
    the prefix of names of direct links. In a swarm `ipv6_subnet` is the prefix of derived IPv6 addresses, and
    `ipv6_gateway` an address in it, "" for none. `host_access` says whether the host and the network's containers reach
    each other, None for the driver's default.
    """

    parent: str = ""
    parent_file: str = ""
    mode: MacvlanMode = "bridge"
    mtu: int = 0
    mtu_key: str = "mtu"
    mac: MacPolicy | Literal[""] = ""
    sticky: bool = True
    probe: bool | None = None
    attach: AttachWay | Literal[""] = ""
    ifname: str = ""
    ipv6_subnet: IPv6Network | None = None
    ipv6_gateway: str = ""
    host_access: bool | None = None

    def wants_host_access(self, *, default: bool) -> bool:
        """Whether the host and containers of the network shall reach each other. The default of a host's configuration
        is for networks in mode bridge."""
        return self.mode == "bridge" and (default if self.host_access is None else self.host_access)


def parse_options(given: Mapping[str, str], *, strict: bool = True) -> NetworkOptions:
    """Parse `-o` options. With `strict=False` (stored networks, which a newer release may have made) unknown keys are
    ignored, and a list of parents without an entry is none.

    Raises:
        Invalid: an unknown key (the text names the nearest known one), or a malformed value.
    """
    if strict:
        for key, value in given.items():
            _check_known(key, value)
    mtu, mtu_key = _given_mtu(given, strict=strict)
    ipv6_subnet = _ipv6_subnet(given["ipv6-subnet"], mtu) if "ipv6-subnet" in given else None
    mode = _mode("mode" if "mode" in given else "macvlan_mode", _one_of_two(given, "macvlan_mode", "mode"))
    return NetworkOptions(
        parent=_parent(given, strict=strict),
        parent_file=given.get("parent-file", "").strip(),
        mode=mode,
        mtu=mtu,
        mtu_key=mtu_key,
        mac=_mac_policy(given["mac"]) if "mac" in given else "",
        sticky=_yes_or_no("sticky", given.get("sticky", "true")),
        probe=_yes_or_no("probe", given["probe"]) if "probe" in given else None,
        attach=_attach(given),
        ifname=_prefix(given["ifname"]) if "ifname" in given else "",
        ipv6_subnet=ipv6_subnet,
        ipv6_gateway=_ipv6_gateway(given["ipv6-gateway"], ipv6_subnet) if "ipv6-gateway" in given else "",
        host_access=_host_access(given["host_access"], mode) if "host_access" in given else None,
    )


def _parent(given: Mapping[str, str], *, strict: bool) -> str:
    value = _one_of_two(given, "parent", "").strip()
    if strict and value and not value.replace(",", " ").split():
        raise Invalid(
            f"-o parent={value} names no interface; use one, such as eth0, or a list such as eth0,eth1; without the "
            "option the network is isolated on this host"
        )
    return value


def _host_access(value: str, mode: MacvlanMode) -> bool:
    wanted = _yes_or_no("host_access", value)
    if wanted and mode != "bridge":
        raise Invalid(f"-o host_access=true does not work in mode {mode}: {_WITHOUT_HOST[mode]}; use mode bridge")
    return wanted


def _attach(given: Mapping[str, str]) -> AttachWay | Literal[""]:
    value = given.get("attach", "")
    if value not in ("", *get_args(AttachWay)):
        raise Invalid(f"-o attach={value} is not an attach mode; use plain or direct")
    if value == "plain" and "ifname" in given:
        raise Invalid(f"-o ifname={given['ifname']} needs -o attach=direct: with plain, the engine chooses the names")
    return cast("AttachWay", value)


def _prefix(value: str) -> str:
    check_ifname(value, f"-o ifname={value}", counted=True)
    return value


def _check_known(key: str, value: str) -> None:
    if not key or key in KEYS:
        return
    if key.startswith(PREFIX):
        check_network_key(key, value)
        return
    near = difflib.get_close_matches(key.lower().replace("-", "_"), [*KEYS, "parent_file"], n=1, cutoff=0.5)
    hint = f"did you mean {near[0].replace('parent_file', 'parent-file')!r}?" if near else f"known: {', '.join(KEYS)}"
    raise Invalid(f"unknown option -o {key}; {hint}")


def _one_of_two(given: Mapping[str, str], key: str, other: str) -> str:
    one, two = given.get(key), given.get(other)
    if one is not None and two is not None and one != two:
        raise Invalid(f"-o {key}={one} and -o {other}={two} contradict each other; give one of them")
    return one if one is not None else two or ""


def _mode(key: str, value: str) -> MacvlanMode:
    if value in ("", *get_args(MacvlanMode)):
        return cast("MacvlanMode", value or "bridge")
    raise Invalid(f"-o {key}={value} is not a macvlan mode; use {', '.join(get_args(MacvlanMode))}")


def _given_mtu(given: Mapping[str, str], *, strict: bool) -> tuple[int, str]:
    """The MTU (0 if none is given), and the option that gave it."""
    if "mtu" in given:
        _one_of_two({each: given[each] for each in ("mtu", MTU_KEY) if each in given}, "mtu", MTU_KEY)
        return _mtu("mtu", given["mtu"]), "mtu"
    if MTU_KEY not in given:
        return 0, "mtu"
    try:
        return _mtu(MTU_KEY, given[MTU_KEY]), MTU_KEY
    except Invalid:
        if strict:
            raise
        return 0, "mtu"  # releases that ignored this option took any value


def _mtu(key: str, value: str) -> int:
    # so many digits at most: int() refuses thousands of them with an error of its own
    if not (value.isascii() and value.isdigit() and len(value) <= 5) or not MIN_MTU <= int(value) <= MAX_MTU:
        raise Invalid(f"-o {key}={value} is not an MTU; use a number from {MIN_MTU} to the MTU of the parent")
    return int(value)


def _mac_policy(value: str) -> MacPolicy:
    if value in get_args(MacPolicy):
        return cast("MacPolicy", value)
    raise Invalid(f"-o mac={value} is not a MAC policy; use random, or address (derived from the IP address)")


def _yes_or_no(key: str, value: str) -> bool:
    if value in {"true", "false"}:
        return value == "true"
    raise Invalid(f"-o {key}={value} is neither true nor false")


def _ipv6_subnet(value: str, mtu: int) -> IPv6Network:
    subnet = parse_subnet(value.strip(), "-o ipv6-subnet")
    if not isinstance(subnet, IPv6Network):
        raise Invalid(f"-o ipv6-subnet={subnet} is not an IPv6 subnet; use for example fd00:65::/64")
    if subnet.prefixlen > MAX_IPV6_PREFIX:
        wider = subnet.supernet(new_prefix=MAX_IPV6_PREFIX)
        raise Invalid(
            f"-o ipv6-subnet={subnet} has no room for the 32 bits of an IPv4 address, which end each IPv6 address; use "
            f"a prefix up to /{MAX_IPV6_PREFIX}, for example {wider}"
        )
    if any(subnet.overlaps(each) for each in NOT_FOR_CONTAINERS):
        raise Invalid(f"-o ipv6-subnet={subnet} is reserved, link-local or multicast; use for example fd00:65::/64")
    if mtu and mtu < MIN_MTU_IPV6:
        raise Invalid(f"-o mtu={mtu} is too small for IPv6; use {MIN_MTU_IPV6} or more")
    return subnet


def _ipv6_gateway(value: str, subnet: IPv6Network | None) -> str:
    gateway = parse_address(value.strip(), "-o ipv6-gateway")
    if subnet is None:
        raise Invalid(f"-o ipv6-gateway={gateway} needs -o ipv6-subnet, for example -o ipv6-subnet=fd00:65::/64")
    # the first one is every router's (subnet-router anycast, RFC 4291 section 2.6.1)
    if gateway not in subnet or gateway == subnet.network_address:
        raise Invalid(
            f"-o ipv6-gateway={gateway} is not a usable address of -o ipv6-subnet={subnet}; use for example "
            f"{subnet.network_address + 1}"
        )
    return str(gateway)
