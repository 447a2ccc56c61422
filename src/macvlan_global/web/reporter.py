"""The report of this host for the page: parents and why they were chosen, problems, and the doctor's findings.

In a cluster each host writes its report into the store when it changes, so that the page of any host shows all of them.
Nobody follows the reports but a host whose page is open, and no host makes one while no living host serves the page.
Changes are heard of, and not looked for: what nobody tells of is seen within `LOOK_SECONDS`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from macvlan_global import __version__
from macvlan_global.admin.messages import ChoiceView, NetworkView
from macvlan_global.admin.views import Views
from macvlan_global.doctor.findings import Finding
from macvlan_global.driver.driver import Driver
from macvlan_global.errors import MacvlanGlobalError
from macvlan_global.kernel.ports import LinkFact
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import ReportRecord
from macvlan_global.tasks import Crowd, forever, when
from macvlan_global.web.messages import HostReport, NetworkReport, ParentState

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.05
LOOK_SECONDS = 60.0
"""Interval at which the report is made anew though nothing told of a change: files of parents may have changed, and
conflicts end in silence."""
CHOOSE_SECONDS = 55.0
"""Parents are chosen anew at each such look, and not for each problem that comes or goes."""
DOCTOR_SECONDS = 900.0
FIRST_DOCTOR_SECONDS = 15.0
FIRST_REPORTS_SECONDS = 10.0
"""Time over which the hosts of a large cluster spread their reports when the first page comes."""
NETWORKS_MOST, LINES_MOST = 200, 100
"""A report is one value in the store, which may have no more than half a megabyte."""

Examine = Callable[[], Awaitable[list[Finding]]]


class HostReporter:
    """Keeps the report of this host up to date. `run` does the work."""

    def __init__(
        self,
        views: Views,
        driver: Driver,
        examine: Examine,
        *,
        wanted: asyncio.Event | None = None,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`examine` gives the doctor's findings. In a cluster `wanted` is set while some host serves the page, and the
        others are told; on a host alone it is None."""
        self._views = views
        self._driver = driver
        self._examine = examine
        self._shared = wanted is not None
        self._wanted = wanted or _always()
        self._now = now
        self._steady = steady
        self._crowd = Crowd()
        self._due = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._networks: list[NetworkReport] | None = None
        self._chosen_at = 0.0
        self._looks = 0
        self._findings: list[Finding] = []
        self._written: HostReport | None = None
        self.report = HostReport(id=driver.identity.host, name=driver.identity.name, version=__version__)
        self.on_change: Callable[[HostReport], None] = lambda _report: None
        """Called with each report that differs from the one before."""

    async def run(self) -> None:
        """Look, follow the kernel's links, and have the doctor look, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(forever("reporting this host", self._look, first=1.0, last=30.0))
            tasks.create_task(forever("following links for the report", self._follow, first=1.0, last=30.0))
            tasks.create_task(forever("examining this host", self._see_doctor, first=30.0, last=DOCTOR_SECONDS))

    def look(self) -> None:
        """Have the report made anew soon: links or networks may have changed."""
        self._looks += 1
        self._networks = None
        self._due.set()

    def on_problems(self) -> None:
        """Have problems looked at soon: they may have changed."""
        self._due.set()

    def on_entry(self, key: str, _entry: Entry | None) -> None:
        """A key of this host's own store changed."""
        if key.startswith((self._driver.tables.networks.prefix, self._driver.tables.links.prefix)):
            self.look()

    async def examine(self) -> list[Finding]:
        """The doctor's findings now."""
        return await self._examine()

    async def refresh(self) -> HostReport:
        """Make the report anew, and tell of it if it changed."""
        async with self._one_at_a_time:  # one that took longer would put older facts in the place of newer ones
            report = await self._make()
            if msgspec.structs.replace(report, at=self.report.at) != self.report:
                self.report = report
                self.on_change(report)
            return self.report

    async def _look(self) -> None:
        if not self._wanted.is_set():
            await self._wanted.wait()
            self._crowd.hosts = self._views.living
            await asyncio.sleep(self._crowd.spread(FIRST_REPORTS_SECONDS))
            self.look()
        async with when(self._due, at_most=LOOK_SECONDS, settle=SETTLE_SECONDS):
            report = await self.refresh()
            if self._shared and report is not self._written:
                record = ReportRecord(id=report.id, report=msgspec.to_builtins(report), at=report.at)
                await self._driver.tables.reports.put(record, report.id)
                self._written = report

    async def _follow(self) -> None:
        async with contextlib.aclosing(self._driver.kernel.shims.changes()) as changes:
            async for _ in changes:
                self.look()

    async def _see_doctor(self) -> None:
        await asyncio.sleep(FIRST_DOCTOR_SECONDS)
        while True:
            await self._wanted.wait()
            self._findings = [each for each in await self.examine() if each.level != "ok"]
            self._due.set()
            await asyncio.sleep(DOCTOR_SECONDS)

    async def _make(self) -> HostReport:
        own = await self._driver.hosts.refresh()
        return HostReport(
            id=self._driver.identity.host,
            name=self._driver.identity.name,
            version=__version__,
            networks=await self._network_reports(),
            problems=(await self._views.problems())[:LINES_MOST],
            findings=self._findings[:LINES_MOST],
            addresses=sorted({each.address for each in own if not each.gateway})[:LINES_MOST],
            at=self._now(),
        )

    async def _network_reports(self) -> list[NetworkReport]:
        if self._networks is not None and self._steady() - self._chosen_at < CHOOSE_SECONDS:
            return self._networks
        looks, begun = self._looks, self._steady()
        networks = await self._views.networks_here([])
        links = await self._driver.kernel.links() if networks else []
        reports = [network_report(each, await self._choice(each), links) for each in networks[:NETWORKS_MOST]]
        if looks == self._looks:  # what changes meanwhile has them made again
            self._networks, self._chosen_at = reports, begun
        return reports

    async def _choice(self, network: NetworkView) -> ChoiceView | str:
        try:
            return await self._views.choice(network.id)
        except MacvlanGlobalError as error:  # its parent file cannot be read, or it went meanwhile
            return str(error)


def _always() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def network_report(network: NetworkView, choice: ChoiceView | str, links: Iterable[LinkFact]) -> NetworkReport:
    """The report of one network. `choice` is text if there is none, and says why."""
    known = list(links)
    parent = next((each for each in known if each.name == network.parent), None)
    return NetworkReport(
        id=network.cluster or network.id,
        name=network.name,
        parent=network.parent,
        state=_state(parent),
        made=network.parent_made,
        vlan=parent.vlan_id if parent else 0,
        members_down=_members_down(parent, known) if parent else [],
        chosen="" if isinstance(choice, str) else choice.chosen,
        source="" if isinstance(choice, str) else choice.source,
        verdicts=[] if isinstance(choice, str) else choice.verdicts,
        problem=network.problem or (choice if isinstance(choice, str) else ""),
    )


def _state(parent: LinkFact | None) -> ParentState:
    if parent is None:
        return "missing"
    if not parent.up:
        return "down"
    return "up" if parent.carrier else "no carrier"


def _members_down(parent: LinkFact, links: list[LinkFact]) -> list[str]:
    """Members without a carrier of the bond or bridge that the parent is, or that it stands on."""
    lower = next((each for each in links if parent.lower and each.index == parent.lower), None)
    names = {parent.name, lower.name if lower else parent.name}
    return sorted(each.name for each in links if each.master in names and not (each.up and each.carrier))
