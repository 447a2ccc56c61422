"""Endpoint options (`--driver-opt`, Compose's `interface_name`) as typed values. Pure.

The engine passes all of them to a driver, and applies its own only to links that it moves itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from macvlan_global.errors import Invalid
from macvlan_global.options.engine_keys import IFNAME_KEY, OF_NETWORKS, OWNERS, PREFIX, SYSCTLS_KEY, without_effect

KEYS = ("ifname", IFNAME_KEY, SYSCTLS_KEY)
"""Keys with an effect; the first is the driver's own."""

MAX_IFNAME = 15  # IFNAMSIZ of linux/if.h, less the closing NUL
MAX_PREFIX = 13  # two digits follow
MAX_ENDPOINT_OPTION = 4096
_IFNAME = re.compile(r"[!-~]+")
_ENGINES_NAMES = re.compile(r"eth\d*")
_SYSCTL = re.compile(r"net\.(ipv4|ipv6|mpls)\.([a-z]+)\.IFNAME\.([A-Za-z0-9_-]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """Options of one endpoint: `ifname` is the interface name in the container, "" for any; `sysctls` the text of the
    engine's option, `net.X.Y.IFNAME.Z=value` separated by commas."""

    ifname: str = ""
    sysctls: str = ""


def parse_endpoint_options(given: Mapping[str, object]) -> EndpointOptions:
    """Parse the options of one endpoint: the driver's own, and the engine's that the driver applies.

    Raises:
        Invalid: a malformed name or sysctl, or an option of the user that has no effect.
    """
    for key, value in given.items():
        _check_known(key, value)
    engines, ours, sysctls = (_text(key, given.get(key, "")) for key in (IFNAME_KEY, "ifname", SYSCTLS_KEY))
    if engines and ours and engines != ours:
        raise Invalid(f"{IFNAME_KEY}={engines} and ifname={ours} contradict each other; give one of them")
    if ifname := ours or engines:
        check_ifname(ifname, f"the interface name {ifname}", counted=False)
    settings_of(sysctls)
    return EndpointOptions(ifname, sysctls)


def _check_known(key: str, value: object) -> None:
    """Raise Invalid for a user's option without effect. Others that the engine sends by itself are passed over."""
    if key in KEYS or not isinstance(value, str):
        return
    others = [each for each in OWNERS if "endpoint" not in each]
    if not key.startswith(PREFIX) or key in OF_NETWORKS or any(map(key.startswith, others)):
        raise without_effect("--driver-opt", key, value, KEYS)


def settings_of(sysctls: str) -> tuple[tuple[str, str], ...]:
    """Sysctls of an interface: paths below /proc/sys/net with `*` for its name, and values.

    Raises:
        Invalid: one is not a sysctl of an interface.
    """
    found = []
    for each in filter(None, sysctls.split(",")):
        name, equals, value = each.partition("=")
        match = _SYSCTL.fullmatch(name.strip())
        if not match or not equals:
            raise Invalid(
                f"{each!r} is not a sysctl of an interface; use for example net.ipv4.conf.IFNAME.log_martians=1"
            )
        family, table, key = match.groups()
        found.append((f"{family.lower()}/{table.lower()}/*/{key}", value.strip()))
    return tuple(found)


def check_ifname(name: str, what: str, *, counted: bool) -> None:
    """Raise Invalid if `name` cannot be an interface name in a container or, if `counted`, the prefix of such names.

    The rules are the kernel's (`dev_valid_name` in net/core/dev.c), without the names that engines and loopbacks have.

    Raises:
        Invalid: it cannot be; the text begins with `what`.
    """
    most, why = (MAX_PREFIX, ", since a number follows") if counted else (MAX_IFNAME, "")
    if not name or len(name) > most:
        raise Invalid(f"{what} has {len(name)} characters; use 1 to {most}{why}")
    if not _IFNAME.fullmatch(name) or set(name) & set("/:%\\") or name in {".", ".."}:
        raise Invalid(f"{what} is not a valid interface name; use letters, digits, - and _")
    if _ENGINES_NAMES.fullmatch(name) and (counted or name != "eth"):
        raise Invalid(
            f"{what} is reserved for the engine, which assigns eth0, eth1, … itself; use another one, such as lan"
        )
    if name == "lo" and not counted:
        raise Invalid(f"{what} is the name of the loopback interface; use another one, such as lan")


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_ENDPOINT_OPTION:
        raise Invalid(f"the option {key} of a container must be a string of up to {MAX_ENDPOINT_OPTION} characters")
    return value
