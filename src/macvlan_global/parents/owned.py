"""Parent links that we make: sub-interfaces and dummies, owned by this host and taken away when unused.

Ownership is written down before a link is made and struck out after it is deleted, so a crash between the two leaves
a record that the next start settles, never a link without an owner.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from macvlan_global.errors import Conflict, MacvlanGlobalError, NotFound
from macvlan_global.kernel.ports import Kernel, LinkFact
from macvlan_global.parents.rules import Parent
from macvlan_global.store.records import LinkRecord
from macvlan_global.store.table import Table

log = logging.getLogger(__name__)


class ParentLinks:
    """Makes, remakes and removes parents. Links that existed before are never touched."""

    def __init__(
        self, kernel: Kernel, table: Table[LinkRecord], boot: str = "", now: Callable[[], float] = time.time
    ) -> None:
        """`table` holds the links of this host only; `boot` names this boot of it, which no link outlives."""
        self._kernel = kernel
        self._table = table
        self._boot = boot
        self._now = now
        self._one_at_a_time = asyncio.Lock()

    async def owned(self) -> dict[str, LinkRecord]:
        """The links that we made, by name."""
        return {row.record.name: row.record for row in await self._table.scan()}

    async def ensure(self, parent: Parent) -> bool:
        """Have the parent there and up; whether it had to be made. Idempotent.

        Raises:
            NotFound, Unavailable, Conflict: the kernel could not make it; nothing of it is left.
        """
        async with self._one_at_a_time:
            found = await self._kernel.link(parent.name)
            if found:
                return await self._ensure_up(found)
            if parent.kind == "existing":
                raise NotFound(f"the parent {parent.name} has just gone")
            record = LinkRecord(
                name=parent.name,
                kind=parent.kind,
                master=parent.master,
                vlan_id=parent.vlan_id,
                boot=self._boot,
                at=self._now(),
            )
            already_ours = await self._table.get(parent.name) is not None
            await self._table.put(record, parent.name)
            try:
                await self._make(record)
            except MacvlanGlobalError:
                if not already_ours:
                    await self._table.drop(parent.name)
                raise
            log.info("made %s", describe(record))
            return True

    async def restore(self, record: LinkRecord) -> bool:
        """Have a link of ours there again after a reboot or a deletion behind our back; whether it was made.

        Raises:
            NotFound, Unavailable, Conflict: not now (its master is not there yet, say).
        """
        async with self._one_at_a_time:
            found = await self._kernel.link(record.name)
            if found:
                return await self._ensure_up(found)
            again = msgspec.structs.replace(record, boot=self._boot, index=0)
            await self._table.put(again, record.name)
            await self._make(again)
            log.info("made %s again: it was gone", describe(record))
            return True

    async def remove(self, name: str) -> bool:
        """Take away a link of ours; False (and nothing done) if it is not ours, or another link stands on it.

        The kernel would delete what stands on it too: a sub-interface of a sub-interface, or somebody else's link.
        """
        async with self._one_at_a_time:
            row = await self._table.get(name)
            if row is None:
                return False
            link = await self._kernel.link(name)
            above = [each.name for each in await self._kernel.links() if link and each.lower == link.index]
            if above and link and self._is_ours(link, row.record):
                log.info("%s stays: %s stands on it", describe(row.record), above[0])
                return False
            if link and self._is_ours(link, row.record):
                await self._kernel.delete(name)
                log.info("removed %s: no network uses it any more", describe(row.record))
            await self._table.drop(name)
            return True

    async def _make(self, record: LinkRecord) -> None:
        made = False
        try:
            if record.kind == "dummy":
                await self._kernel.add_dummy(record.name)
            else:
                await self._kernel.add_vlan(record.name, record.master, record.vlan_id)
            made = True
            await self._kernel.set_up(record.name)
            link = await self._kernel.link(record.name)
            await self._table.put(msgspec.structs.replace(record, index=link.index if link else 0), record.name)
        except MacvlanGlobalError as error:
            # without an answer it may have been made all the same; only a conflict tells that it is somebody else's
            if made or not isinstance(error, Conflict):
                await self._kernel.delete(record.name)
            raise

    async def _ensure_up(self, link: LinkFact) -> bool:
        row = await self._table.get(link.name)
        if row is None:
            return False
        if not is_what_we_made(link, row.record):
            raise Conflict(f"{link.name} is not the link that we made ({describe(row.record)}); rename or delete it")
        if not self._is_ours(link, row.record):
            log.info("%s was made anew by somebody else, and is left to them", link.name)
            await self._table.drop(link.name)
        elif not link.up:
            await self._kernel.set_up(link.name)
        return False

    def _is_ours(self, link: LinkFact, record: LinkRecord) -> bool:
        """Whether this is the very link that we made. Without an index in the record the driver died while it made it;
        records of earlier versions have no boot."""
        same_boot = record.boot in {"", self._boot}
        return same_boot and record.index in {0, link.index} and is_what_we_made(link, record)


def is_what_we_made(link: LinkFact, record: LinkRecord) -> bool:
    """Whether a link still is what the record says: somebody may have put another one of that name in its place."""
    return link.kind == record.kind and (record.kind == "dummy" or link.vlan_id == record.vlan_id)


def describe(record: LinkRecord) -> str:
    """A link of ours in words."""
    if record.kind == "dummy":
        return f"dummy {record.name}"
    return f"sub-interface {record.name} (VLAN {record.vlan_id} on {record.master})"
