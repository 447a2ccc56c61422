"""Passive conflict watch: address resolution on the parents of this host's networks, compared with the books.

Each parent has a socket that is read on the event loop, at most `FRAMES_MOST` frames each `READ_SECONDS`; the kernel
drops what does not fit. Frames are counted by the claim they make, and claims are judged every `JUDGE_SECONDS`: then
this host's networks and endpoints are read anew, so that a container that was made meanwhile is known.

Nothing is sent, but two things: a container's address is defended by an announcement, at most every `DEFEND_SECONDS`
(RFC 5227 section 2.4 (b)); and a few probes for the address of a container of another host, if a device claims it while
the container is not heard here.
"""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import replace
from functools import partial
from ipaddress import ip_address

from macvlan_global.attach.container_interface import container_link
from macvlan_global.conflicts.books import SegmentBooks, books_of, since, with_hosts
from macvlan_global.conflicts.claimants import Claimants, Suspects
from macvlan_global.conflicts.claims import AddressClaim
from macvlan_global.conflicts.judge import OURS, ConflictVerdict, Holding, Sighting, judge
from macvlan_global.conflicts.ledger import AddressConflict, Ledger
from macvlan_global.conflicts.remote import RemoteContainers
from macvlan_global.conflicts.tallies import Tallies, Tally
from macvlan_global.driver.driver import Driver
from macvlan_global.errors import MacvlanGlobalError, NotFound
from macvlan_global.store.records import HostAccessRecord
from macvlan_global.subnets import Address
from macvlan_global.tasks import attempt, forever, when

log = logging.getLogger(__name__)

READ_SECONDS = 0.25
FRAMES_MOST = 500
JUDGE_SECONDS = 2.0
LOOK_SECONDS = 5.0
"""Interval at which the networks of this host are compared with the parents that are watched."""
DEFEND_SECONDS = 10.0
SEEN_SECONDS = 300.0
"""An address is passed over for so long after the last frame of the device that uses it."""
REST_SECONDS = 30.0
"""A device outside that goes on with what it does is not looked at for so long, unless a container gets its address."""
STEADY_SECONDS = 10.0
"""Time for which a device must use an address that may have been a container's a moment ago, before it counts."""
OURS_SECONDS = 600.0
OURS_MOST = 8192
CONFIRM_MOST = 50
"""Conflicts with a container that are confirmed in its namespace at a time: each costs a millisecond."""
PUT_OFF_SECONDS = 30.0
"""Time for which a claim that could not be judged is judged again."""
SUSPECTS_MOST, PROBE_WAIT_SECONDS = 10, 0.1
"""Suspects that are probed for at a time, and the wait for the first answer: the others pass the watch as well."""
LINES_MOST, LINES_SECONDS = 10, 60.0
AGAIN_SECONDS = 3600.0
"""A conflict that goes on is logged again after so long."""
LOST_SECONDS = 3600.0
STEP_SECONDS = 5.0
"""A clock that differs by more from the one that nobody sets was set."""


class Segment:
    """The segment of one parent: what claims are made there, when, and by whom."""

    def __init__(self, parent: str) -> None:
        """Nothing was received yet."""
        self.parent = parent
        self.vlan = 0
        self.tallies = Tallies()
        self.claimants = Claimants()
        self.suspects = Suspects()
        self.problem = ""
        self.doubt = ""
        self.watched = False
        self.lost = 0
        self.lost_at = 0.0


class ConflictWatch:
    """Watches for conflicts on this host. One per process."""

    def __init__(
        self,
        driver: Driver,
        *,
        host_name: Callable[[str], str] = str,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`host_name` gives the name of another host by its id; `steady` is a clock that nobody sets."""
        self._driver = driver
        self._now = now
        self._steady = steady
        self._host_name = host_name
        self._offset = now() - steady()
        self._remote = RemoteContainers(
            driver.tables, driver.identity.host, host_name, shared=driver.outbox is not None
        )
        self._avoided = driver.addresses.avoided.known
        self.ledger = Ledger()
        self.segments: dict[str, Segment] = {}
        self.on_conflict: Callable[[], None] = lambda: None
        """Called when a conflict is in the ledger that was not, or was seen again."""
        self.unseen = 0
        """Frames that were not looked at."""
        self._listeners: dict[str, asyncio.Task[None]] = {}
        self._due = asyncio.Event()
        self._own_macs: frozenset[str] = frozenset()
        self._own_due = True
        self._confirmations = CONFIRM_MOST
        self._probes = SUSPECTS_MOST
        self._ours: OrderedDict[str, float] = OrderedDict()  # MACs of containers, and when they were last known
        self._own_since: dict[Address, float] | None = None
        self._defended: dict[str, float] = {}
        self._logged: dict[tuple[str, ...], float] = {}
        self._lines: list[float] = []

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(forever("judging claims on addresses", self._judge_due, first=1.0, last=30.0))

            async def follow() -> None:
                await self.follow(group)
                await asyncio.sleep(LOOK_SECONDS)

            group.create_task(forever("following the parents of networks", follow, first=1.0, last=30.0))

    async def follow(self, group: asyncio.TaskGroup) -> None:
        """Listen on each parent that a network of this host uses, and on no other."""
        wanted = {each.parent for each in await self._driver.networks.all() if each.parent}
        for parent in wanted - self.segments.keys():
            self.segments[parent] = segment = Segment(parent)
            listening = forever(
                f"watching {parent} for conflicts",
                lambda segment=segment: self._listen(segment),  # type: ignore[misc]
                first=1.0,
                last=LOOK_SECONDS * 2,
                level=logging.DEBUG,
            )
            self._listeners[parent] = group.create_task(listening)
        for parent in self.segments.keys() - wanted:
            del self.segments[parent]
            self._listeners.pop(parent).cancel()

    def notices(self) -> list[str]:
        """Reasons why conflicts are not seen, in words for operators."""
        now, segments = self._now(), self.segments.values()
        texts = [text for each in segments for text in (each.problem, each.doubt) if text]
        texts += [_lost_text(each) for each in segments if each.lost and now - each.lost_at < LOST_SECONDS]
        return list(dict.fromkeys(texts))

    def problems(self) -> list[str]:
        """The conflicts of the last minutes in words for operators, the newest first."""
        current = self.current()
        shown = [each.text for each in reversed(current[-LINES_MOST:])]
        if len(current) > len(shown):
            shown.append(f"{len(current) - len(shown)} more addresses are in conflict; see macvlan-global conflicts")
        return shown

    def current(self) -> list[AddressConflict]:
        """The conflicts of the last minutes."""
        return self.ledger.current(self._now())

    # ---------------------------------------------------------------- listening

    async def _listen(self, segment: Segment) -> AsyncGenerator[None]:
        """Receive what passes a parent; each item says that it works."""
        try:
            link = await self._driver.kernel.link(segment.parent)
            segment.vlan = link.vlan_id if link else 0
            opened = await self._driver.kernel.watch_neighbours(segment.parent)
        except NotFound:  # the parent comes back, or the network gets another one
            segment.problem = ""
            raise
        except MacvlanGlobalError as error:
            text = f"conflicts are not seen: {error}"
            if segment.problem != text:
                log.warning("%s", text)
            segment.problem = text
            raise
        segment.problem = ""
        segment.watched = True
        try:
            while True:
                await opened.wait()
                frames = opened.take(FRAMES_MOST)
                segment.tallies.add(frames, self._now())
                self._due.set()
                self._note_lost(segment, opened.dropped())
                yield
                await asyncio.sleep(READ_SECONDS)
        finally:
            segment.watched = False
            await opened.close()

    def _note_lost(self, segment: Segment, dropped: int) -> None:
        lost = dropped + segment.tallies.overflow
        segment.tallies.overflow = 0
        if not lost:
            return
        now = self._now()
        if not segment.lost or now - segment.lost_at > LOST_SECONDS:
            log.warning("more address resolution passes %s than is looked at: some of it is not seen", segment.parent)
        segment.lost += lost
        self.unseen += lost
        segment.lost_at = now

    # ---------------------------------------------------------------- judging

    async def _judge_due(self) -> None:
        async with when(self._due, settle=JUDGE_SECONDS):
            await self.judge_now()

    async def judge_now(self) -> None:
        """Judge the claims that were made since the last call."""
        networks, endpoints = await self._driver.networks.all(), await self._driver.endpoints.all()
        given = [row.record for row in await self._driver.tables.host_access.scan()]
        await self._driver.hosts.refresh()
        now = self._now()
        self._follow_clock(now)
        self._note_own(given, now)
        # some containers were there for less than the time between two looks
        self._remember_ours([*self._driver.endpoints.take_macs(), *(each.mac for each in endpoints)], now)
        self._avoided.expire(now)
        self._confirmations, self._probes, self._own_due = CONFIRM_MOST, SUSPECTS_MOST, True
        self._remote.begin()
        for segment in list(self.segments.values()):
            books = books_of(segment.parent, networks, endpoints, self._driver.identity.name, given, now=now)
            doubt = ""
            for seen, tally in segment.tallies.take(now, partial(self._concern, books)):
                try:
                    await self._act_on(segment, books, seen, tally)
                except MacvlanGlobalError as error:  # of this one: the namespace of a container cannot be entered, say
                    if self._is_put_off(seen, tally):
                        doubt = f"a claim on {seen.claim.address} on {segment.parent} cannot be judged: {error}"
            if doubt and not segment.doubt:
                log.warning("%s", doubt)
            segment.doubt = doubt

    async def _act_on(self, segment: Segment, books: SegmentBooks, seen: Sighting, tally: Tally) -> None:
        """Judge a claim, and do what follows.

        Raises:
            MacvlanGlobalError: that could not be done.
        """
        verdict = await self._judged(segment, books, seen)
        if verdict.judged == "outside":
            self._note_outside(books, seen, tally)
        elif verdict.judged == "conflict" and self._confirmations:
            self._confirmations -= 1
            await self._confirm(segment, books, seen, verdict)
        elif verdict.judged == "suspect":
            await self._probe_for(segment, seen)

    def _is_put_off(self, seen: Sighting, tally: Tally) -> bool:
        """Have a claim judged again for a while, with what was seen of it: its device may announce itself once only.
        False once that was for long enough."""
        if self._now() - seen.last >= PUT_OFF_SECONDS:
            return False
        tally.hits += seen.count
        self._due.set()
        return True

    def _follow_clock(self, now: float) -> None:
        """Begin anew if the host's clock was set: times of before and after cannot be compared, and one in the future
        would hide conflicts, or keep an address from containers, for as long."""
        offset = now - self._steady()
        if abs(offset - self._offset) > STEP_SECONDS:
            for each in self.segments.values():
                each.tallies, each.claimants, each.suspects = Tallies(), Claimants(), Suspects()
            self._remote.forget()
            self._avoided.clear_seen()
            self._own_since = None
            self._ours.clear()
            self._logged.clear()
            self._lines.clear()
        self._offset = offset

    def _note_own(self, given: Iterable[HostAccessRecord], now: float) -> None:
        """Note since when this host has its own addresses: late frames of a container that had one are no conflict.
        Those that are there at the start were there before."""
        own = self._avoided.of_host(self._driver.identity.host)
        addresses = {each.address for each in own if not each.gateway} | {each.address for each in given}
        known, first = self._own_since or {}, 0.0 if self._own_since is None else now
        self._own_since = {each: known.get(each, first) for each in map(ip_address, addresses)}

    def _concern(self, books: SegmentBooks, claim: AddressClaim) -> bool:
        """Whether a claim concerns an address of the books, or of a container elsewhere that is known by now."""
        spaces = {space for _, space, _ in books.subnets}
        return books.concern(claim) or any(self._remote.is_container(each, claim.address) for each in spaces)

    async def _judged(self, segment: Segment, books: SegmentBooks, seen: Sighting) -> ConflictVerdict:
        claim = seen.claim
        address, same_mac = claim.address, books.by_mac.get(claim.mac, ())
        on_hosts = self._avoided.on_hosts(address)
        found = books.subnet_of(address)
        known = books.holdings.get(address, [])
        if not (known or found or on_hosts or same_mac):
            return OURS  # nothing of ours: another subnet on the same segment
        if on_hosts:
            known = with_hosts(known, address, on_hosts, books, self._driver.identity.host, self._named)
        if found and found[1] and not any(each.kind == "container" for each in known):
            space, network = found[1], found[2]
            remote = await self._remote.find(space, address, network.shown, claim.mac, self._now())
            if remote.holding:
                self._remember_ours([remote.holding.mac], self._now())
                known = [*(each for each in known if each.kind != "gateway"), remote.holding]
            elif remote.is_ours and not known:
                return OURS
        known = since(known, self._own_since or {})
        if not known:
            return judge(seen, known, self._own_macs, {}, same_mac)
        if claim.how == "probes for":
            spans = segment.claimants.of(address)
        else:
            spans = segment.claimants.note(address, claim.mac, seen.first, seen.last)
        return judge(seen, known, self._own_macs, spans, same_mac)

    def _note_outside(self, books: SegmentBooks, seen: Sighting, tally: Tally) -> None:
        """Have an address passed over that a device uses. One that may have been a container's must be used for some
        time: late frames of a container that is gone are not to keep its address from others. It sent them itself, or
        they were to one receiver: an answer to another container of this host passes the parent as received."""
        found = books.subnet_of(seen.claim.address)
        if found is None or not found[1]:
            tally.rests_until = seen.last + REST_SECONDS
            return
        doubtful = seen.outgoing or seen.to_one or self._remote.shared or seen.claim.mac in self._ours
        if doubtful and (tally.steady < STEADY_SECONDS or self._is_gone(books, seen.claim.mac)):
            return
        self._avoided.see(found[1], seen.claim.address, seen.last, seen.last + SEEN_SECONDS)
        tally.rests_until = seen.last + REST_SECONDS

    def _is_gone(self, books: SegmentBooks, mac: str) -> bool:
        """Whether a MAC was a container's that is gone."""
        return mac in self._ours and mac not in books.by_mac

    async def _confirm(self, segment: Segment, books: SegmentBooks, seen: Sighting, verdict: ConflictVerdict) -> None:
        """Report a conflict, unless what was read anew explains it."""
        if seen.claim.mac not in self._own_macs and self._own_due:
            self._own_due = False
            await self._read_own_macs()
            verdict = await self._judged(segment, books, seen)
        holding = verdict.holding
        if verdict.judged != "conflict" or holding is None:
            return
        holder_mac = verdict.holder_mac
        if holding.kind == "container" and holding.here:
            endpoint = await self._driver.endpoints.find(holding.endpoint)
            if endpoint is None or await self._driver.liveness.is_dead(endpoint):
                return
            current = await self._driver.kernel.mac_in_sandbox(container_link(endpoint)) if endpoint.sandbox else ""
            if not verdict.same_mac and (verdict.mac == current or (seen.outgoing and not current)):
                return  # the container changed its MAC, or nobody can tell
            holder_mac = current or holder_mac
        elif holding.kind == "container" and not await self._remote.still_has(holding):
            await self._probe_for(segment, seen)  # another one of ours has it by now
            return
        await self._report(segment, books, seen, replace(verdict, holder_mac=holder_mac))

    async def _probe_for(self, segment: Segment, seen: Sighting) -> None:
        """Have the holder of an address and the device that claims it both answer, where the watch hears them: their
        other frames may pass elsewhere."""
        claim = seen.claim
        if not self._probes or not segment.suspects.is_due(claim.address, claim.mac, self._now()):
            return
        self._probes -= 1
        work = self._driver.kernel.probe(segment.parent, str(claim.address), tries=1, wait=PROBE_WAIT_SECONDS)
        await attempt(f"probing for {claim.address} on {segment.parent}", work, level=logging.DEBUG)

    async def _report(self, segment: Segment, books: SegmentBooks, seen: Sighting, verdict: ConflictVerdict) -> None:
        assert verdict.holding  # noqa: S101 - so it is in a conflict
        holding = verdict.holding
        if holding.kind == "container" and not holding.here:
            holding = await self._remote.named(holding)
        conflict, is_new = self.ledger.add(
            AddressConflict(
                holding=holding,
                holder_mac=verdict.holder_mac,
                mac=verdict.mac,
                how=seen.claim.how,
                parent=segment.parent,
                vlan=segment.vlan,
                first=seen.first,
                last=seen.last,
                count=seen.count,
                other=self._other(books, verdict),
                claimed=str(seen.claim.address) if verdict.same_mac else "",
                same_mac=verdict.same_mac,
            )
        )
        self._log(conflict, is_new=is_new)
        self.on_conflict()
        if holding.kind == "container" and holding.here and not verdict.same_mac and seen.claim.how != "probes for":
            await self._defend(holding)

    async def _defend(self, holding: Holding) -> None:
        now = self._steady()
        self._defended = {each: at for each, at in self._defended.items() if now - at < DEFEND_SECONDS}
        if holding.endpoint in self._defended:
            return
        self._defended[holding.endpoint] = now
        if endpoint := await self._driver.endpoints.find(holding.endpoint):
            work = self._driver.kernel.advertise(container_link(endpoint))
            await attempt(f"defending the address {holding.address}", work, level=logging.DEBUG)

    def _other(self, books: SegmentBooks, verdict: ConflictVerdict) -> str:
        """The device of a conflict in words, if it is of ours; else ""."""
        if verdict.same_mac:
            return ""
        if verdict.mac in self._own_macs:
            return f"host {self._driver.identity.name}"
        containers = books.by_mac.get(verdict.mac, ())
        return f"container {containers[0].name}" if containers else ""

    def _log(self, conflict: AddressConflict, *, is_new: bool) -> None:
        now = self._now()
        if not is_new and now - self._logged.get(conflict.key, 0.0) < AGAIN_SECONDS:
            return
        self._lines = [at for at in self._lines if now - at < LINES_SECONDS]
        if len(self._lines) < LINES_MOST:
            log.warning("%s", conflict.text)
        elif len(self._lines) == LINES_MOST:
            log.warning("more addresses are in conflict than are logged; see macvlan-global conflicts")
        if len(self._lines) <= LINES_MOST:
            self._lines.append(now)
        known = {each.key for each in self.ledger.all()}
        self._logged = {key: at for key, at in self._logged.items() if key in known} | {conflict.key: now}

    async def _read_own_macs(self) -> None:
        with contextlib.suppress(MacvlanGlobalError):  # those read before are as good as any
            self._own_macs = frozenset(each.mac for each in await self._driver.kernel.links() if not each.loopback)

    def _remember_ours(self, macs: Iterable[str], now: float) -> None:
        for mac in macs:
            self._ours.pop(mac, None)
            self._ours[mac] = now
        while self._ours and (len(self._ours) > OURS_MOST or now - next(iter(self._ours.values())) > OURS_SECONDS):
            self._ours.popitem(last=False)

    def _named(self, host: str) -> str:
        own = self._driver.identity
        return own.name if host == own.host else self._host_name(host)


def _lost_text(segment: Segment) -> str:
    return (
        f"more address resolution passes {segment.parent} than is looked at: {segment.lost} frames were not seen; look "
        "for a device that floods the segment, or a loop"
    )
