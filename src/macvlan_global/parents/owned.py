"""Parents that the driver makes and deletes: VLAN sub-interfaces and dummies, each with a record of ownership.

The record is written before a link is made and dropped after it is deleted, so a crash between the two leaves a record
that the next start settles, never a link without an owner. An interface without a record is the operator's: it is
neither changed nor deleted.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from macvlan_global.errors import Conflict, MacvlanGlobalError, NotFound
from macvlan_global.kernel.names import OUR_ALIAS
from macvlan_global.kernel.ports import Kernel, LinkFact
from macvlan_global.parents.rules import Parent
from macvlan_global.store.records import LinkRecord
from macvlan_global.store.table import Table

log = logging.getLogger(__name__)

PAUSES = (0.05, 0.1, 0.2)
"""Seconds to wait before it is looked again whether a link stands on one that is to be deleted."""


class OwnedParents:
    """Makes, restores and removes parents. Interfaces that existed before are never changed."""

    def __init__(
        self, kernel: Kernel, table: Table[LinkRecord], boot: str = "", now: Callable[[], float] = time.time
    ) -> None:
        """`table` holds the links of this host only; `boot` is the kernel's boot id: no link outlives its boot."""
        self._kernel = kernel
        self._table = table
        self._boot = boot
        self._now = now
        self._one_at_a_time = asyncio.Lock()

    async def owned(self) -> dict[str, LinkRecord]:
        """Records of the links that the driver made, by name."""
        return {row.record.name: row.record for row in await self._table.scan()}

    async def ensure(self, parent: Parent) -> bool:
        """Make the parent unless it exists, with the master that it needs, and set it up if it is ours; whether it was
        made. Idempotent.

        Raises:
            NotFound, Unavailable, Conflict: the kernel could not make it; nothing of it is left.
        """
        async with self._one_at_a_time:
            return await self._ensure(parent)

    async def _ensure(self, parent: Parent) -> bool:
        found = await self._kernel.link(parent.name)
        if found:
            return await self._ensure_up(found)
        if parent.kind == "existing":
            raise NotFound(f"parent {parent.name} was deleted while it was being used; try again")
        master_is_new = parent.below is not None and await self._ensure(parent.below)
        record = LinkRecord(
            name=parent.name,
            kind=parent.kind,
            master=parent.master,
            vlan_id=parent.vlan_id,
            boot=self._boot,
            at=self._now(),
        )
        is_new = await self._table.get(parent.name) is None
        await self._table.put(record, parent.name)
        try:
            await self._make(record, is_new=is_new)
        except MacvlanGlobalError:
            if master_is_new:
                await self._remove(parent.master)
            raise
        log.info("made %s", describe(record))
        return True

    async def restore(self, record: LinkRecord) -> bool:
        """Make a link of ours again that a reboot or somebody deleted; whether it was made. `record` was read earlier:
        nothing is made if it was dropped meanwhile, with the last network on the link.

        Raises:
            NotFound, Unavailable, Conflict: not now (its master is not there yet, say).
        """
        async with self._one_at_a_time:
            found = await self._kernel.link(record.name)
            if found:
                return await self._ensure_up(found)
            row = await self._table.get(record.name)
            if row is None:
                return False
            master = await self._master(row.record)
            again = msgspec.structs.replace(row.record, master=master, boot=self._boot, index=0)
            await self._table.put(again, record.name)
            await self._make(again, is_new=False)
            log.info("made %s again: it had been deleted", describe(again))
            return True

    async def _master(self, record: LinkRecord) -> str:
        """The master on which a sub-interface of ours is made again. It was asked for by the name that is in the name
        of the sub-interface, and an alternative name may be another link's since the host was booted."""
        asked, _, _ = record.name.rpartition(".")
        link = await self._kernel.link(asked) if asked not in {"", record.master} else None
        return link.name if link else record.master

    async def remove(self, name: str) -> bool:
        """Delete a link of ours; False (and nothing done) if it is not ours, or another link stands on it.

        The kernel would delete links that stand on it too, in whichever network namespace: a sub-interface of it, an
        operator's macvlan, the interface of a container of another driver.

        Raises:
            Unavailable: the links of this host cannot be listed, so it is not known whether one stands on it.
        """
        async with self._one_at_a_time:
            return await self._remove(name)

    async def _remove(self, name: str) -> bool:
        row = await self._table.get(name)
        if row is None:
            return False
        link = await self._kernel.link(name)
        if link and self._is_ours(link, row.record):
            if above := await self._upper_of(name):
                log.info("%s is kept: %s needs it", describe(row.record), above)
                return False
            await self._kernel.delete(name)
            log.info("deleted %s: no network uses it any more", describe(row.record))
        await self._table.drop(name)
        return True

    async def _upper_of(self, name: str) -> str:
        """A link that stands on this one, "" if there is none. The links of a container that ended just now go with its
        namespace, which the kernel takes down a moment later."""
        above = await self._kernel.upper_of(name)
        for pause in PAUSES:
            if not above:
                break
            await asyncio.sleep(pause)
            above = await self._kernel.upper_of(name)
        return above

    async def _make(self, record: LinkRecord, *, is_new: bool) -> None:
        """Make the link of a record that was just written. If that fails, a new record goes, once nothing is there."""
        made = False
        try:
            if record.kind == "dummy":
                await self._kernel.add_dummy(record.name)
            else:
                await self._add_vlan(record)
            made = True
            await self._kernel.set_up(record.name)
            link = await self._kernel.link(record.name)
            await self._table.put(msgspec.structs.replace(record, index=link.index if link else 0), record.name)
        except MacvlanGlobalError as error:
            # without an answer it may have been made all the same; only a conflict tells that it is somebody else's
            if made or not isinstance(error, Conflict):
                await self._kernel.delete(record.name)
            if is_new:
                await self._table.drop(record.name)
            raise

    async def _add_vlan(self, record: LinkRecord) -> None:
        """Make a sub-interface; a refusal because that VLAN is there already names the link that has it."""
        try:
            await self._kernel.add_vlan(record.name, record.master, record.vlan_id)
        except Conflict as error:
            links = {link.index: link for link in await self._kernel.links()}
            if any(link.name == record.name for link in links.values()):
                raise
            for link in links.values():
                master = links.get(link.lower)
                if (link.kind, link.vlan_id) == ("vlan", record.vlan_id) and master and master.name == record.master:
                    raise Conflict(
                        f"VLAN {record.vlan_id} of {record.master} is {link.name} here; use -o parent={link.name}"
                    ) from error
            raise Conflict(
                f"{error}; it is not seen on this host, so look in other network namespaces (containers, ip netns)"
            ) from error

    async def _ensure_up(self, link: LinkFact) -> bool:
        row = await self._table.get(link.name)
        if row is None:
            return False
        if not is_what_we_made(link, row.record):
            raise Conflict(
                f"interface {link.name} is not the one that macvlan-global made ({describe(row.record)}), but has its "
                "name; rename or delete it"
            )
        if not self._is_ours(link, row.record):
            log.info("%s was made again by somebody else, and is theirs from now on", link.name)
            await self._table.drop(link.name)
        elif not link.up:
            await self._kernel.set_up(link.name)
        return False

    def _is_ours(self, link: LinkFact, record: LinkRecord) -> bool:
        """Whether a link is the very one that the record is about, not one made again under its name and of its kind.

        Without an index in the record a making failed, was broken off, or the driver died in it. Our link has its alias
        before the kernel has answered; one that somebody else made meanwhile has not. Records of 0.1.0 have no boot.
        """
        if record.boot not in {"", self._boot} or not is_what_we_made(link, record):
            return False
        if record.boot and not record.index:
            return link.alias == OUR_ALIAS
        return record.index in {0, link.index}


def is_what_we_made(link: LinkFact, record: LinkRecord) -> bool:
    """Whether a link is of the kind, and has the VLAN id, of the record: another one may have taken its name."""
    return link.kind == record.kind and (record.kind == "dummy" or link.vlan_id == record.vlan_id)


def describe(record: LinkRecord) -> str:
    """A link of ours in words, for errors and logs."""
    if record.kind == "dummy":
        return f"dummy {record.name}"
    return f"sub-interface {record.name} (VLAN {record.vlan_id} on {record.master})"
