"""When a host reports about itself: for a page that some host serves, at each change, and else not at all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from macvlan_global.admin.views import Views
from macvlan_global.config import Config
from macvlan_global.conflicts.gateways import GatewayCheck
from macvlan_global.conflicts.service import ConflictService
from macvlan_global.conflicts.vendors import Vendors
from macvlan_global.doctor.findings import Finding
from macvlan_global.errors import Unavailable
from macvlan_global.metrics.counts import Metrics
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.engine_follower import EngineFollower
from macvlan_global.web.feed import LiveFeed, Viewer
from macvlan_global.web.messages import HostReport
from macvlan_global.web.reporter import LOOK_SECONDS, HostReporter
from testkit.fake_engine import Subnet
from testkit.rig import Rig
from tests.unit.conflicts.test_watch import Watched
from tests.unit.conflicts.wire import DEVICE, announced

pytestmark = pytest.mark.virtual_time

LAN = Subnet("192.168.1.0/24", gateway="192.168.1.254")
NOTE = Finding("note", "kernel", "seen", "do")
HOUR, SOON = 3600.0, 0.15


@dataclass
class Reporting:
    """A host with the network lan and a container on it, and its reporter, which runs."""

    rig: Rig
    watched: Watched
    reconciler: Reconciler
    wanted: asyncio.Event
    views: Views = field(init=False)
    reporter: HostReporter = field(init=False)
    reports: list[HostReport] = field(default_factory=list)
    examined: list[float] = field(default_factory=list)

    async def examine(self) -> list[Finding]:
        """The doctor's."""
        self.examined.append(asyncio.get_running_loop().time())
        return [NOTE]

    async def stored(self) -> list[str]:
        """Parents of the networks in the report that other hosts read; [] if there is none."""
        rows = await self.rig.driver.tables.reports.scan()
        return [each["parent"] for row in rows for each in row.record.report["networks"]]

    async def soon(self, holds: Callable[[], bool]) -> None:
        """Return once it holds, as soon as the page promises."""
        async with asyncio.timeout(SOON):
            while not holds():  # noqa: ASYNC110 - a timer of the loop costs nothing
                await asyncio.sleep(0.01)


@asynccontextmanager
async def reporting(*, wanted: bool) -> AsyncIterator[Reporting]:
    """It has reported once if reports are wanted."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("lan", LAN, options={"parent": "eth0"})
    await rig.engine.run("web", "lan", ip="192.168.1.20")
    rig.clock.advance(10)
    reconciler = Reconciler(rig.driver, grace=0, now=rig.clock)
    watched = Watched.on(rig.driver, rig.clock)
    host = Reporting(rig, watched, reconciler, asyncio.Event())
    follower = EngineFollower(rig.driver, rig.engine, reconciler, Metrics())
    conflicts = ConflictService(watched.watch, GatewayCheck(rig.driver, watched.watch), Vendors())
    host.views = views = Views(Config(), rig.driver, follower, reconciler, Metrics(), None, conflicts)
    host.reporter = reporter = HostReporter(views, rig.driver, host.examine, wanted=host.wanted)
    reporter.on_change = host.reports.append
    views.tell_of_problems(reporter.on_problems)
    running = asyncio.get_running_loop().create_task(reporter.run())
    try:
        if wanted:
            host.wanted.set()
            await host.soon(lambda: bool(host.reports))
        yield host
    finally:
        running.cancel()


async def test_no_host_reports_while_none_serves_the_page() -> None:
    """Hours with changes: nothing is written, and no doctor comes; with the first page both are there."""
    async with reporting(wanted=False) as host:
        for _ in range(3):
            await asyncio.sleep(HOUR)
            await host.watched.see(announced("192.168.1.20"))
            await host.rig.kernel.set_down("eth0")
        assert (host.reports, host.examined, await host.stored()) == ([], [], [])
        host.wanted.set()
        await host.soon(lambda: bool(host.examined))
        await host.soon(lambda: bool(host.reports) and bool(host.reports[-1].findings))
        assert await host.stored() == ["eth0"]
        assert [DEVICE in each for each in host.reports[0].problems] == [True]


async def test_reports_end_with_the_last_page() -> None:
    """A change after it is in the report of the next page only."""
    async with reporting(wanted=True) as host:
        host.wanted.clear()
        await asyncio.sleep(HOUR)  # what was due before is done
        told = len(host.reports)
        await host.watched.see(announced("192.168.1.20"))
        await asyncio.sleep(HOUR)
        assert len(host.reports) == told
        host.wanted.set()
        await host.soon(lambda: len(host.reports) > told)
        assert any(DEVICE in each for each in host.reports[-1].problems)


async def test_a_conflict_is_in_the_report_at_once() -> None:
    """Nobody looks at intervals for it; its end is seen at the next look."""
    async with reporting(wanted=True) as host:
        await host.watched.see(announced("192.168.1.20"))
        await host.soon(lambda: any(DEVICE in each for each in host.reports[-1].problems))
        host.rig.clock.advance(601)
        await asyncio.sleep(61)
        assert host.reports[-1].problems == []


async def test_the_end_of_a_conflict_is_told_to_the_page() -> None:
    """It comes in silence, at the next look, and the conflict is kept as one that is over."""
    async with reporting(wanted=True) as host, asyncio.TaskGroup() as tasks:
        feed = LiveFeed(host.views, host.rig.driver)
        host.reporter.on_change = feed.on_report
        running = tasks.create_task(feed.run())
        with feed.viewing() as viewer:
            await host.watched.see(announced("192.168.1.20"))
            await _told_of_conflicts(viewer)
            assert [each.current for each in await host.views.conflicts()] == [True]
            host.rig.clock.advance(601)
            await _told_of_conflicts(viewer)
            assert [each.current for each in await host.views.conflicts()] == [False]
        running.cancel()


async def _told_of_conflicts(viewer: Viewer) -> None:
    """Return once whoever looks is told to read conflicts anew, a minute later at most."""
    async with asyncio.timeout(LOOK_SECONDS + SOON):
        while (event := await viewer.get()) is None or b'"conflicts"' not in event[1]:
            pass


async def test_a_problem_of_repair_is_in_the_report_at_once() -> None:
    """A correction that fails, and that it works the next time."""
    async with reporting(wanted=True) as host:
        await host.rig.engine.create_network("guests", Subnet("10.66.0.0/24"), options={"parent": "eth0.7"})
        await host.rig.kernel.delete("eth0.7")
        host.rig.kernel.failing["add_vlan"] = Unavailable("not now")
        await host.reconciler.reconcile(host.rig.engine)
        await host.soon(lambda: any("not now" in each for each in host.reports[-1].problems))
        host.rig.kernel.failing.clear()
        await host.reconciler.reconcile(host.rig.engine)
        await host.soon(lambda: host.reports[-1].problems == [])


async def test_reports_that_are_made_at_one_time_are_whole() -> None:
    """A page that reads while the host looks by itself: what is told and written has every network."""
    async with reporting(wanted=True) as host:
        told: list[list[str]] = []
        host.reporter.on_change = lambda report: told.append([each.state for each in report.networks])
        await host.rig.kernel.set_down("eth0")
        host.reporter.look()
        await asyncio.gather(host.reporter.refresh(), host.reporter.refresh())
        assert told == [["down"]]


async def test_links_that_cannot_be_read_once_are_read_again() -> None:
    """The next report has the networks: a failure is no answer."""
    async with reporting(wanted=True) as host:
        host.rig.kernel.failing["links"] = Unavailable("not now")
        host.reporter.look()
        with pytest.raises(Unavailable):
            await host.reporter.refresh()
        assert [each.parent for each in (await host.reporter.refresh()).networks] == ["eth0"]


async def test_a_link_that_changes_while_the_report_is_made_is_in_the_next_one() -> None:
    """What was read before it changed is not kept."""
    async with reporting(wanted=True) as host:
        host.reporter.look()
        host.rig.kernel.faults.arm(0)
        making = asyncio.get_running_loop().create_task(host.reporter.refresh())
        while "links" not in host.rig.kernel.faults.taken:  # noqa: ASYNC110 - a turn of the loop each
            await asyncio.sleep(0)
        await host.rig.kernel.set_down("eth0")
        host.reporter.look()
        assert [each.state for each in (await making).networks] == ["up"]
        assert [each.state for each in (await host.reporter.refresh()).networks] == ["down"]
