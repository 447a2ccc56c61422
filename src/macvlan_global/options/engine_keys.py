"""Docker's own options (`com.docker.network.…`): an explicit list of those that work on networks of this driver. Pure.

Most belong to one of the engine's drivers and would do nothing here. No option is accepted without an effect, so each
other one is refused with what would work instead. Sources: `netlabel/labels.go` and the drivers of libnetwork, in moby
20.10 to 29.
"""

import difflib
from collections.abc import Mapping

from macvlan_global.errors import Invalid

PREFIX = "com.docker.network."
MTU_KEY = "com.docker.network.driver.mtu"
IPV4_KEY, IPV6_KEY = "com.docker.network.enable_ipv4", "com.docker.network.enable_ipv6"
TIMES_KEY, EVERY_KEY = "com.docker.network.advertise_addr_nmsgs", "com.docker.network.advertise_addr_ms"
IFNAME_KEY, SYSCTLS_KEY = "com.docker.network.endpoint.ifname", "com.docker.network.endpoint.sysctls"

NETWORK_KEYS = (MTU_KEY, IPV4_KEY, IPV6_KEY, TIMES_KEY, EVERY_KEY)
"""Keys of networks with an effect: this driver's, or the engine's for any driver."""

_BOUNDS = {TIMES_KEY: (0, 3), EVERY_KEY: (100, 2000)}
_TRUE, _FALSE = {"1", "t", "T", "true", "TRUE", "True"}, {"0", "f", "F", "false", "FALSE", "False"}  # Go's ParseBool

_INSTEAD = {
    "com.docker.network.mtu": "-o mtu={value}",
    "com.docker.network.internal": "--internal",
    "com.docker.network.container_iface_prefix": "-o attach=direct -o ifname={value}",
    "com.docker.network.bridge.name": "-o parent=INTERFACE",
    IFNAME_KEY: "-o attach=direct -o ifname={value}, or for one container --network name=NETWORK,driver-opt={key}=NAME",
    SYSCTLS_KEY: "for each container --network name=NETWORK,driver-opt={key}=…",
}
OWNERS = {
    "com.docker.network.bridge.": "it is for the bridge driver",
    "com.docker.network.driver.overlay.": "it is for the overlay driver",
    "com.docker.network.windowsshim.": "it is for Windows",
    "com.docker.network.host_ipv": "it is for drivers that translate addresses (NAT)",
    "com.docker.network.endpoint.": "it is for containers",
}
OF_NETWORKS = (*NETWORK_KEYS, *_INSTEAD)


def check_network_key(key: str, value: str) -> None:
    """Check an option of a network that begins with `PREFIX`.

    Raises:
        Invalid: it would have no effect, or its value is none of those it takes; the text has what would work.
    """
    if key not in NETWORK_KEYS:
        raise without_effect("-o", key, value, NETWORK_KEYS)
    if key in {IPV4_KEY, IPV6_KEY} and value not in _TRUE | _FALSE:
        raise Invalid(f"-o {key}={value} is neither true nor false")
    if key in _BOUNDS:
        least, most = _BOUNDS[key]
        if not (value.isascii() and value.isdigit() and len(value) <= 5 and least <= int(value) <= most):
            raise Invalid(f"-o {key}={value} is not a number from {least} to {most}")


def check_families(given: Mapping[str, str], *, ipv4: bool, ipv6: bool) -> None:
    """Check that the engine heeded the address families that were given as options: it does from release 28 on.

    Raises:
        Invalid: the network has a family that was declined, or lacks one that was asked for.
    """
    for key, flag, there in ((IPV4_KEY, "--ipv4", ipv4), (IPV6_KEY, "--ipv6", ipv6)):
        if key in given and (given[key] in _TRUE) != there:
            value = "true" if given[key] in _TRUE else "false"
            raise Invalid(f"-o {key}={given[key]} has no effect on this engine; use {flag}={value}")


def without_effect(flag: str, key: str, value: str, known: tuple[str, ...]) -> Invalid:
    """The error of an option (`flag` is `-o` or `--driver-opt`) that would do nothing; `known` are those that would."""
    text = f"{flag} {key}={value} has no effect"
    if flag == "-o" and key in _INSTEAD:
        return Invalid(f"{text} on networks of this driver; use {_INSTEAD[key].format(key=key, value=value)}")
    if flag != "-o" and key in OF_NETWORKS:
        return Invalid(f"{text} on a container; give it to the network, or leave it out")
    owner = next((words for start, words in OWNERS.items() if key.startswith(start)), "")
    if owner:
        return Invalid(f"{text} on networks of this driver: {owner}; leave it out")
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return Invalid(f"{text} on networks of this driver; {hint}")
