"""The user's `-o` options as typed values. Pure."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from macvlan_global.errors import Invalid
from macvlan_global.kernel.ports import MacvlanMode

MacPolicy = Literal["random", "address"]

KEYS = ("parent", "parent-file", "macvlan_mode", "mode", "mtu", "mac")
"""Every key of ours. A key with an empty name counts as `parent` (`-o =eth0,eth1`)."""

ENGINE_PREFIX = "com.docker.network."
"""Keys that the engine reads itself, for any driver; we let them pass."""

MIN_MTU = 68  # RFC 791: every link carries datagrams of 68 bytes
MIN_MTU_IPV6 = 1280  # RFC 8200 section 5
MAX_MTU = 65535


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """What a network was created with. `parent` is the text of the option, "" if there was none; `mtu` 0 means the
    parent's; `mac` tells where a MAC comes from that the user did not give."""

    parent: str = ""
    parent_file: str = ""
    mode: MacvlanMode = "bridge"
    mtu: int = 0
    mac: MacPolicy = "random"


def parse_options(given: Mapping[str, str], *, strict: bool = True) -> NetworkOptions:
    """Read `-o` options. With `strict=False` (a stored network is loaded again) unknown keys are passed over.

    Raises:
        Invalid: an unknown key (the nearest known one is named), or a value that cannot be.
    """
    if strict:
        for key in given:
            _check_known(key)
    return NetworkOptions(
        parent=_one_of_two(given, "parent", "").strip(),
        parent_file=given.get("parent-file", "").strip(),
        mode=_mode("mode" if "mode" in given else "macvlan_mode", _one_of_two(given, "macvlan_mode", "mode")),
        mtu=_mtu(given["mtu"]) if "mtu" in given else 0,
        mac=_mac_policy(given.get("mac", "random")),
    )


def _check_known(key: str) -> None:
    if not key or key in KEYS or key.startswith(ENGINE_PREFIX):
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


def _mtu(value: str) -> int:
    # so many digits at most: int() refuses thousands of them with an error of its own
    if not (value.isascii() and value.isdigit() and len(value) <= 5) or not MIN_MTU <= int(value) <= MAX_MTU:
        raise Invalid(f"-o mtu={value} is not an MTU; use a number from {MIN_MTU} to the MTU of the parent")
    return int(value)


def _mac_policy(value: str) -> MacPolicy:
    if value in get_args(MacPolicy):
        return cast("MacPolicy", value)
    raise Invalid(f"-o mac={value} is not a MAC policy; use random, or address (derived from the IP address)")
