"""Pages of a large prefix of Consul: which keys are read together. Pure.

Consul reads a key or all below a prefix, and has no limit or place to go on from. But it lists names without values, a
ninth of the whole. Sorted, they tell which prefixes have how many keys below them.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os.path import commonprefix

from macvlan_global.store.remote.consul_messages import decode

PAGE = 500
"""Keys of a page: they are taken apart in some milliseconds, and a page that failed costs little."""

STEPS = 64
"""Prefixes of a page: a transaction of Consul has so many steps."""

PIECE = 100_000
"""Bytes of a list of names that are taken apart together."""

_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class KeysPage:
    """The keys that one request reads: all below some prefixes, or one name alone, below which others are too many."""

    trees: tuple[str, ...] = ()
    alone: str = ""


def names_in(body: bytes | bytearray) -> Iterator[list[str]]:
    """The names in Consul's answer to `?keys`, by pieces that take about a millisecond.

    Raises:
        Unavailable: it is no such answer.
    """
    begin = 0
    # between two names: a quote within a name is escaped
    while (end := body.find(b'","', begin + PIECE)) > 0:
        yield decode((b"" if begin == 0 else b"[") + body[begin : end + 1] + b"]", list[str])
        begin = end + 2
    yield decode((b"" if begin == 0 else b"[") + body[begin:], list[str])


def pages(names: Sequence[str], most: int = PAGE) -> Iterator[KeysPage]:
    """Pages of at most `most` of these sorted names each, in their order. Each is worked out when it is asked for."""
    trees: list[str] = []
    total = 0
    for prefix, count, is_tree in _ranges(names, 0, len(names), most):
        if trees and (total + count > most or len(trees) == STEPS or not is_tree):
            yield KeysPage(tuple(trees))
            trees, total = [], 0
        if is_tree:
            trees.append(prefix)
            total += count
        else:
            yield KeysPage(alone=prefix)
    if trees:
        yield KeysPage(tuple(trees))


def _ranges(names: Sequence[str], first: int, stop: int, most: int) -> Iterator[tuple[str, int, bool]]:
    """Prefixes that have at most `most` names, with their count; or a name with False that others begin with."""
    if first == stop:
        return
    common = commonprefix((names[first], names[stop - 1]))  # noqa: RUF071 - no paths
    if stop - first <= most:
        yield common, stop - first, True
        return
    if names[first] == common:
        yield common, 1, False
        first += 1
    while first < stop:
        letter = names[first][len(common)]
        after = common + chr(ord(letter) + 1) if letter != _LAST else ""
        end = bisect_left(names, after, first, stop) if after else stop
        yield from _ranges(names, first, end, most)
        first = end
