"""Bells: small keys that say what changed last in a followed group of keys. Pure.

Consul tells who waits for a prefix everything below it again. So each change of a key in a group rings one of the
group's bells in the same transaction, and who follows the group waits for its bells. A bell counts the changes that it
was rung for, and has the last of them in a ring: the ends of their keys, behind the group's prefix. Who was away for no
more than the rings hold reads what changed and nothing else. A group has several bells, and whoever rings takes one by
lot: hosts that write at the same time rarely want the same one.

An entry of a ring is the beginning of what changed: many keys that one transaction changes are told by what they begin
with together, and long ones are cut. Each has a mark drawn by lot in front. If the mark of the last entry that a reader
saw is another one now, then the store was restored from an older copy, and has another history.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from os.path import commonprefix

import msgspec

from macvlan_global.store.remote.members import UNREADABLE

BELLS = 8
"""Bells of a group."""

RING = 12
"""Entries of a ring."""

LONGEST = 48
"""Bytes of an entry without its mark: a host's id and the beginning of an endpoint's."""

TOGETHER = 3
"""Keys in one folder, changed together, from which on one entry stands for all of them."""

_MARK = 4

_READABLE = re.compile("[^\ud800-\udfff]*")


class Bell(msgspec.Struct, frozen=True, rename={"epoch": "e", "count": "n", "ring": "r"}):
    """A bell. `count` is the number of entries that were rung since it was made, `epoch` is drawn when it is made."""

    epoch: str
    count: int = 0
    ring: tuple[str, ...] = ()
    v: int = 1

    @property
    def mark(self) -> str:
        """The mark of the last entry, "" if there is none."""
        return self.ring[-1][:_MARK] if self.ring else ""


def new_bell() -> Bell:
    """A bell that nobody has rung."""
    return Bell(secrets.token_urlsafe(9))


def read_bell(value: bytes) -> Bell | None:
    """The bell in a value; None if it cannot be read: anybody may write there."""
    try:
        bell = msgspec.json.decode(value, type=Bell)
    except UNREADABLE:
        return None
    return bell if bell.v == 1 and len(bell.ring) == min(bell.count, RING) else None


def rung(bell: Bell, ends: Iterable[str]) -> Bell:
    """The bell after one transaction that changed the keys with these ends (behind the group's prefix)."""
    mark = secrets.token_urlsafe(_MARK * 3 // 4)
    news = [f"{mark}{each}" for each in _folded(ends)]
    return msgspec.structs.replace(bell, count=bell.count + len(news), ring=(*bell.ring, *news)[-RING:])


def missed(seen: Mapping[str, Bell], now: Mapping[str, Bell]) -> tuple[str, ...] | None:
    """Beginnings, behind the group's prefix, of all that changed since its bells were seen.

    None if they do not tell any more: too much has changed, one was made anew or is gone, or has another history.
    """
    if not seen.keys() <= now.keys():
        return None
    found: list[str] = []
    for number, bell in now.items():
        news = _missed(seen[number], bell) if number in seen else _all_of(bell)
        if news is None:
            return None
        found += news
    return tuple(dict.fromkeys(each[_MARK:] for each in found))


def _all_of(bell: Bell) -> tuple[str, ...] | None:
    return bell.ring if bell.count == len(bell.ring) else None


def _missed(seen: Bell, now: Bell) -> tuple[str, ...] | None:
    count = now.count - seen.count
    if seen.epoch != now.epoch or not 0 <= count <= len(now.ring):
        return None
    before = len(now.ring) - count - 1  # the last entry that was seen
    if seen.ring and (before < 0 or now.ring[before][:_MARK] != seen.mark):
        return None
    return now.ring[before + 1 :]


def are_other_history(seen: Mapping[str, Bell], now: Mapping[str, Bell]) -> bool:
    """Whether bells that were seen are no forerunners of those that are there."""
    return any(number not in now or _is_other_history(bell, now[number]) for number, bell in seen.items())


def _is_other_history(seen: Bell, now: Bell) -> bool:
    count = now.count - seen.count
    before = len(now.ring) - count - 1
    known = seen.ring and 0 <= before < len(now.ring)
    return seen.epoch != now.epoch or count < 0 or bool(known and now.ring[before][:_MARK] != seen.mark)


def _folded(ends: Iterable[str]) -> list[str]:
    folders: dict[str, list[str]] = {}
    for end in ends:
        folders.setdefault(end[: end.rfind("/") + 1], []).append(end)
    found: list[str] = []
    for folder, members in sorted(folders.items()):
        together = folder and len(members) >= TOGETHER
        found += [commonprefix(members)] if together else sorted(members)  # noqa: RUF071 - no paths
    return [_cut(each) for each in found]


def _cut(end: str) -> str:
    readable = _READABLE.match(end)
    text = readable[0] if readable else ""
    return text if len(text) * 4 <= LONGEST else text.encode()[:LONGEST].decode(errors="ignore")
