"""Subnets in which a host may have addresses: told before its first address there, and until it has none."""

import asyncio

import pytest

from macvlan_global.errors import Unavailable
from macvlan_global.ipam.subnet_use import UNUSED_SECONDS, SubnetUse, is_kept_by
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import AddressRecord, NetworkClaim
from macvlan_global.store.table import Tables
from testkit.fake_clock import FakeClock
from testkit.faults import Faults, FaultyStore

LAN, DMZ = ("s", "10.8.0.0/24"), ("s", "10.9.0.0/24")


class Site:
    """A store that two hosts share, and the use of one of them, `a`."""

    def __init__(self) -> None:
        """Nobody has anything yet."""
        self.shared, self.clock, self.faults = MemoryStore(), FakeClock(0), Faults()
        self.tables = Tables(FaultyStore(self.shared, self.faults), MemoryStore())
        self.use = self.restarted()

    def restarted(self, host: str = "a") -> SubnetUse:
        """Another run of a driver."""
        return SubnetUse(self.tables, host, shared=True, steady=self.clock)

    async def keys(self) -> list[str]:
        """What the store has."""
        return [each.key for each in await self.shared.scan("used/")]

    async def end(self, *subnets: tuple[str, str], use: SubnetUse | None = None) -> list[str]:
        """Look, and end what is not used; what is left."""
        use = use or self.use
        await use.end_unused(subnets, use.moment)
        return await self.keys()


@pytest.fixture
def site() -> Site:
    """Nobody has anything yet."""
    return Site()


async def test_the_first_use_is_told_and_each_other_costs_nothing(site: Site) -> None:
    """However many begin at once."""
    await asyncio.gather(*(site.use.begin(*LAN) for _ in range(5)))
    assert await site.keys() == ["used/a/s/10.8.0.0_24"]
    site.faults.away = True
    await site.use.begin(*LAN)
    with pytest.raises(Unavailable):
        await site.use.begin(*DMZ)


async def test_a_host_alone_tells_nothing(site: Site) -> None:
    """All that there is is its own."""
    alone = SubnetUse(site.tables, "a", shared=False)
    await alone.begin(*LAN)
    assert (await alone.own(), await site.keys()) == ([], [])


async def test_another_run_knows_what_the_last_one_told(site: Site) -> None:
    """Whatever became of the state folder; and not what other hosts told."""
    await site.use.begin(*LAN)
    await site.restarted("b").begin(*DMZ)
    assert await site.restarted().own() == [LAN]


@pytest.mark.parametrize("claimed", [True, False])
async def test_what_the_store_has_lost_is_told_again(site: Site, claimed: bool) -> None:
    """It was restored from an older copy: what this host used since is there, and must be found."""
    await site.use.begin(*LAN)
    for entry in await site.shared.scan("used/"):
        await site.shared.delete(entry)
    assert await site.use.own() == [LAN]
    assert await site.use.own() == [LAN], "it is not forgotten meanwhile"
    if claimed:
        await site.use.begin(*LAN)
    else:
        await site.end()
    assert await site.keys() == ["used/a/s/10.8.0.0_24"]


async def test_another_run_knows_what_the_store_has_lost(site: Site) -> None:
    """It was restored from an older copy, and the driver died before it knew: an address that the last run asked for
    may have arrived there afterwards."""
    await site.use.begin(*LAN)
    for entry in await site.shared.scan("used/"):
        await site.shared.delete(entry)
    later = site.restarted()
    assert await later.own() == [LAN]
    assert await site.end(use=later) == ["used/a/s/10.8.0.0_24"]
    site.clock.advance(UNUSED_SECONDS + 1)
    assert await site.end(LAN, use=later) == []
    assert await site.restarted().own() == [], "it has ended, in this host's own state too"


async def test_what_an_earlier_run_told_is_known_to_the_next_one_though_this_one_does_not_use_it(site: Site) -> None:
    """A run that had no rows in its state, of an older version or with a copy of the folder put back, told of it."""
    await site.use.begin(*LAN)
    await site.tables.used_here.drop("a", *LAN)
    assert await site.restarted().own() == [LAN]
    for entry in await site.shared.scan("used/"):
        await site.shared.delete(entry)
    assert await site.restarted().own() == [LAN]


async def test_rows_of_this_host_s_own_state_are_read_once(site: Site) -> None:
    """Two who ask for them at once, one of whom adds a row meanwhile."""
    await site.use.begin(*LAN)
    later = site.restarted()
    own, _ = await asyncio.gather(later.own(), later.begin(*DMZ))
    assert LAN in own
    assert await later.own() == sorted([LAN, DMZ])


async def test_it_ends_only_a_while_after_its_last_use(site: Site) -> None:
    """A write whose answer was lost may arrive late. A use that comes after the look keeps it, too."""
    await site.use.begin(*LAN)
    site.clock.advance(UNUSED_SECONDS)
    assert await site.end(LAN) == ["used/a/s/10.8.0.0_24"]
    seen = site.use.moment + 1
    await site.use.begin(*LAN)
    await site.use.end_unused([LAN], seen)
    assert len(await site.keys()) == 1
    site.clock.advance(UNUSED_SECONDS + 1)
    assert await site.end(LAN) == []
    await site.use.begin(*LAN)
    assert len(await site.keys()) == 1


async def test_another_run_ends_it_only_a_while_after_its_start(site: Site) -> None:
    """A write of the run before may be on its way."""
    await site.use.begin(*LAN)
    site.clock.advance(10 * UNUSED_SECONDS)
    later = site.restarted()
    assert len(await site.end(LAN, use=later)) == 1, "nothing is ended that was not read"
    await later.own()
    assert len(await site.end(LAN, use=later)) == 1
    site.clock.advance(UNUSED_SECONDS + 1)
    assert await site.end(LAN, use=later) == []


async def test_an_end_that_arrives_late_does_not_end_the_next_use(site: Site) -> None:
    """The row is written anew, so that the deletion does not find the one that it has read."""
    await site.use.begin(*LAN)
    row = await site.tables.used.get("a", *LAN)
    assert row
    await site.restarted().begin(*LAN)
    assert not await site.tables.used.delete(row)


def _record(kind: str, host: str, network: str = "", sharer: tuple[str, str] = ("", "")) -> AddressRecord:
    claim = NetworkClaim(kind="aux", network=sharer[0], host=sharer[1])
    return AddressRecord(
        space="s",
        subnet="10.8.0.0/24",
        address="10.8.0.9",
        kind=kind,  # type: ignore[arg-type]  # a literal
        network=network,
        host=host,
        incarnation="r",
        at=0,
        sharers=[claim] if sharer[0] else [],
    )


@pytest.mark.parametrize(
    ("record", "kept"),
    [
        (_record("reserved", "a"), True),
        (_record("endpoint", "a", "known"), True),
        (_record("host", "a", "known"), True),
        (_record("endpoint", "b", "known"), False),
        (_record("gateway", "a", "known"), False),
        (_record("gateway", "a", "gone"), True),
        (_record("gateway", "b", "gone"), False),
        (_record("gateway", "b", "known", ("gone", "a")), True),
        (_record("endpoint", "b", "known", ("known", "a")), False),
    ],
)
def test_a_host_keeps_what_nobody_else_looks_for(record: AddressRecord, kept: bool) -> None:
    """Its containers' addresses, its reservations, and claims of networks that nobody knows."""
    assert is_kept_by(record, "a", {"known"}) is kept
