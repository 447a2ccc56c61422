"""Containers of other hosts of the cluster, as the store has them: looked up by address, and remembered for a while."""

import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from macvlan_global.conflicts.judge import Holding
from macvlan_global.errors import Internal, Unavailable
from macvlan_global.store.table import Tables
from macvlan_global.subnets import Address

REMEMBERED_SECONDS = 300.0
NOBODY_SECONDS = 60.0
"""An address that no container of another host had may be given to one at any time."""
RECENT_SECONDS = 5.0
"""A container's record that was read so lately holds for a claim of another MAC too. That there was none does not: it
may have been made since, and a device that claims its address once must not pass for one outside."""
REMEMBERED_MOST = 4096
LOOKUPS_MOST = 50
"""Addresses that are looked up for one judgement: a device may claim any number, and the store is everybody's."""


@dataclass(frozen=True, slots=True)
class RemoteAddress:
    """The record of an address: `holding` if a container of another host has it, `is_ours` if anybody of ours. It was
    read for a claim of `mac`, and is remembered `until` then."""

    holding: Holding | None = None
    is_ours: bool = False
    mac: str = ""
    at: float = 0.0
    until: float = 0.0

    def holds_for(self, mac: str, now: float) -> bool:
        """Whether a claim of this MAC may be judged by it. One that is new on this address may be a container's that
        was made after the record was read: its record is written before its first frame."""
        if now >= self.until:
            return False
        if self.holding is None:
            return self.mac == mac
        return mac in {self.mac, self.holding.mac} or now < self.at + RECENT_SECONDS


NOBODY = RemoteAddress()


class RemoteContainers:
    """Reads the shared tables. A host alone has none, and looks nothing up."""

    def __init__(self, tables: Tables, host: str, host_name: Callable[[str], str], *, shared: bool) -> None:
        """`host` is the id of this host, `host_name` gives the name of another one; `shared`: others write the tables
        too."""
        self._tables = tables
        self._host = host
        self._host_name = host_name
        self.shared = shared
        self._known: OrderedDict[tuple[str, Address], RemoteAddress] = OrderedDict()
        self._lookups = 0

    def forget(self) -> None:
        """Look everything up anew."""
        self._known.clear()

    def begin(self) -> None:
        """A judgement begins, which may look up some addresses."""
        self._lookups = LOOKUPS_MOST

    async def find(self, space: str, address: Address, network: str, mac: str, now: float) -> RemoteAddress:
        """The record of an address that `mac` claims, as it was read lately. While the store is away, and when enough
        was looked up for this judgement, nothing is known, so that it may be anybody's of ours."""
        if not self.shared:
            return NOBODY
        known = self._known.get((space, address))
        if known and known.holds_for(mac, now):
            return known
        if not self._lookups:
            return RemoteAddress(is_ours=True)
        self._lookups -= 1
        try:
            found = await self._read(space, address, network)
        except Unavailable:
            return RemoteAddress(is_ours=True)
        except Internal:  # nobody can tell whose it is
            found = RemoteAddress(is_ours=True)
        self._known.pop((space, address), None)
        until = now + (REMEMBERED_SECONDS if found.holding else NOBODY_SECONDS)
        self._known[space, address] = found = replace(found, mac=mac, at=now, until=until)
        if len(self._known) > REMEMBERED_MOST:
            self._known.popitem(last=False)
        return found

    def is_container(self, space: str, address: Address) -> bool:
        """Whether a container of another host had an address when it was read last."""
        known = self._known.get((space, address))
        return known is not None and known.holding is not None

    async def still_has(self, holding: Holding) -> bool:
        """Whether the store has this container as the holder of the address now."""
        keys = [key for key, each in self._known.items() if each.holding == holding]
        for space, address in keys:
            del self._known[space, address]
            try:
                found = await self._read(space, address, holding.network)
            except (Unavailable, Internal):
                return False
            return found.holding == holding
        return False

    async def named(self, holding: Holding) -> Holding:
        """The holding with the name of its container, if that is in the store."""
        with contextlib.suppress(Unavailable):
            row = await self._tables.names.find(*holding.endpoint.split("/"))
            if row and row.record.names:
                return replace(holding, name=row.record.names[0])
        return holding

    async def _read(self, space: str, address: Address, network: str) -> RemoteAddress:
        row = await self._tables.addresses.get(space, str(address))
        if row is None:
            return NOBODY
        record = row.record
        if record.kind != "endpoint" or record.host == self._host:
            return RemoteAddress(is_ours=True)
        holding = Holding(
            address,
            "container",
            record.endpoint[:12],
            network,
            self._host_name(record.host),
            record.mac,
            endpoint=f"{record.network}/{record.host}/{record.endpoint}",
        )
        return RemoteAddress(holding, is_ours=True)
