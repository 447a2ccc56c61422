"""Pool ids and address spaces. Pure."""

from collections.abc import Mapping

from macvlan_global.errors import Invalid, NotFound
from macvlan_global.store.records import PoolRecord

DEFAULT_SPACE = "macvlan-global"
SPACE_OPTION = "space"
NETWORK_OPTION = "network"
"""The cluster-wide id of the network that a pool belongs to; given by our own replication, not by people."""
MAX_NETWORK = 64
MAX_SPACE = 32


def pool_id(record: PoolRecord) -> str:
    """The id that Docker knows a pool by: `SPACE/SUBNET` or `SPACE/SUBNET/RANGE`."""
    return "/".join(filter(None, (record.space, record.subnet, record.range)))


def key_of(pool: str) -> tuple[str, str]:
    """The store key of a pool id: its space, and its subnet with its range behind a `~`.

    Raises:
        NotFound: it is no pool id.
    """
    space, _, rest = pool.partition("/")
    pieces = rest.split("/")
    if len(pieces) == 2:
        return space, rest
    if len(pieces) == 4:
        return space, "/".join(pieces[:2]) + "~" + "/".join(pieces[2:])
    raise NotFound(f"{pool!r} is not a pool id of macvlan-global")


def space_of(options: Mapping[str, str]) -> str:
    """The address space named by `--ipam-opt`.

    Raises:
        Invalid: an unknown option, or a malformed name.
    """
    for key in options:
        if key not in {SPACE_OPTION, NETWORK_OPTION}:
            raise Invalid(f"unknown option --ipam-opt {key}; known: {SPACE_OPTION}")
    space = options.get(SPACE_OPTION, DEFAULT_SPACE)
    if not 0 < len(space) <= MAX_SPACE or not all(x.isascii() and (x.isalnum() or x in "-_") for x in space):
        raise Invalid(f"--ipam-opt space={space} must be 1 to {MAX_SPACE} letters, digits, '-' or '_'")
    return space


def network_of(options: Mapping[str, str]) -> str:
    """The network of the cluster named by `--ipam-opt network=`, whose pool is to be joined; "" if none.

    Raises:
        Invalid: it is no network id.
    """
    network = options.get(NETWORK_OPTION, "")
    if len(network) > MAX_NETWORK or not all(x in "0123456789abcdef" for x in network):
        raise Invalid(
            f"--ipam-opt {NETWORK_OPTION}={network[:MAX_NETWORK]} is not the id of a network of the cluster; leave it "
            "out, macvlan-global sets it itself"
        )
    return network
