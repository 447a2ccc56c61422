"""Layout of the cluster store: which keys there are, and what is below them.

The first driver of a cluster says in the key `layout` by which layout the store is written; each driver looks before it
writes anything. One that misread the keys of another layout would take addresses that are in use for free ones.
"""

import logging

import msgspec

from macvlan_global.errors import Conflict
from macvlan_global.store.ports import Entry, Store
from macvlan_global.store.records import Record
from macvlan_global.store.validate import VERSION, shown, version_of

log = logging.getLogger(__name__)

KEY = "layout"
LAYOUT = "1.0"

BEGIN_ANEW = (
    "stop the drivers of all hosts, delete all keys below the prefix of `store` (macvlan-global/ unless it is in the "
    "URL: consul kv delete -recurse macvlan-global/, or etcdctl del --prefix macvlan-global/), and start drivers of "
    "one release: containers run on, and hosts claim what they use anew"
)


class LayoutRecord(Record, frozen=True, kw_only=True):
    """The layout by which a cluster store is written."""

    layout: str


_decoder = msgspec.json.Decoder(LayoutRecord)
_OURS = msgspec.json.encode(LayoutRecord(layout=LAYOUT))


class StoreLayout:
    """The key `layout` of a cluster store."""

    def __init__(self, store: Store) -> None:
        """Nothing is read yet."""
        self._store = store
        self._said = ""

    async def check(self) -> None:
        """Look whether the store is written by this driver's layout, before anything is written there; a store without
        hosts is claimed for it.

        Raises:
            Conflict: it is not; the text says what to do.
            Unavailable: the store cannot be reached.
        """
        entry = await self._store.get(KEY)
        if entry is None and await self._store.scan("hosts/"):
            entry = await self._store.get(KEY)  # a driver that begins at this time writes it before its row
            if entry is None:
                raise Conflict(
                    f"the store is of an earlier release: it has hosts and no key layout, and this driver needs layout "
                    f"{LAYOUT}; {BEGIN_ANEW}"
                )
        if entry is None:
            await self._store.create(KEY, _OURS)  # if another host was faster, it said what is there now
            entry = await self._store.get(KEY)
        if entry and (wrong := _wrong(entry)):
            raise Conflict(wrong)

    async def keep(self) -> None:
        """Write the key again if the store lost it. One that says anything else is logged, and stops no driver that
        runs.

        Raises:
            Unavailable: the store cannot be reached.
        """
        entry = await self._store.get(KEY)
        if entry is None:
            await self._store.create(KEY, _OURS)
        wrong = _wrong(entry) if entry else ""
        if wrong and wrong != self._said:
            log.warning("no driver can start in this cluster: %s", wrong)
        self._said = wrong


def _wrong(entry: Entry) -> str:
    """The reason why an entry is not this driver's layout, with what to do; "" if it is."""
    if version_of(entry.value) > VERSION:
        return "the key layout in the store was written by a newer macvlan-global; install that release on this host"
    try:
        found = _decoder.decode(entry.value).layout
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return (
            f"the key layout in the store is no layout: {shown(str(error))}; if the drivers of all hosts are of one "
            f"release, write {_OURS.decode()} there; else {BEGIN_ANEW}"
        )
    if found == LAYOUT:
        return ""
    return f"the store has layout {shown(found)!r} (its key layout), and this driver needs {LAYOUT}; {BEGIN_ANEW}"
