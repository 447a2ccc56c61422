"""The live feed: changes of the stores, as events for those who look at the page.

Writes of this process to its own store are told by `store.notify`, those of other hosts by watches of the cluster
store, which are open only while somebody looks. Addresses that changed are sent with their holders, as
`macvlan-global addresses --json` has them; of all else the path below /api/ is named that is to be read anew.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import msgspec

from macvlan_global import __version__
from macvlan_global.admin.views import Views
from macvlan_global.driver.driver import Driver
from macvlan_global.errors import Invalid
from macvlan_global.store.address_keys import unpadded
from macvlan_global.store.follow import PrefixFollower
from macvlan_global.store.ports import Batch, ClusterStore, Entry
from macvlan_global.store.records import AddressRecord, EndpointRecord, NameRecord, ReportRecord
from macvlan_global.store.table import AVOIDED
from macvlan_global.subnets import Address, parse_address
from macvlan_global.tasks import forever, when
from macvlan_global.web.messages import AddressKey, AddressNews, Hello, HostReport, Topics

SETTLE_SECONDS = 0.03
"""Changes within this time are told together."""
BACKLOG = 200
"""Events that wait for a client; with more it is too slow, and begins anew."""
VIEWERS_MOST = 32
TOUCHED_MOST = 2000
"""Of so many addresses in one moment each is told; of more that all are to be read anew."""
REMOVED_SETTLE, REMOVED_SECONDS, REMOVED_LAST = 0.1, 0.5, 60.0
"""The wait before the row of a host that is being removed is looked for, and the interval of further looks, which
doubles up to the last one: a removal may break off, and be repeated by an operator hours later."""
TOPICS = {
    "networks": ("networks",),
    "pools": ("networks",),
    "definitions": ("networks",),
    "links": ("networks",),
    "alive": ("hosts",),
    "avoided": ("addresses/remembered",),
    "reports": ("reports",),
}
"""Paths below /api/ that answer otherwise when a key below a prefix changes."""
FOLLOWED = ("addresses/", "names/", "pools/", "definitions/", "alive/", "reports/", AVOIDED)

Key = tuple[str, str]
Event = tuple[str, bytes]
"""Name and JSON of an event."""


class Viewer:
    """Queue of the events for one client, each a name and its JSON. `lost` says that it was too slow."""

    def __init__(self) -> None:
        """Nothing waits yet."""
        self._waiting: asyncio.Queue[Event | None] = asyncio.Queue(BACKLOG)
        self.lost = False

    def put(self, event: Event) -> None:
        """Add an event, unless too many wait already."""
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            self.lost = True

    def end(self) -> None:
        """Have `get` give None: the feed stops."""
        self.lost = True
        with contextlib.suppress(asyncio.QueueFull):
            self._waiting.put_nowait(None)

    async def get(self) -> Event | None:
        """The next event; None if the stream is to end."""
        event = await self._waiting.get()
        return None if self.lost else event


class LiveFeed:
    """Turns changes into events for viewers. `run` does the work."""

    def __init__(
        self, views: Views, driver: Driver, shared: ClusterStore | None = None, *, settle: float = SETTLE_SECONDS
    ) -> None:
        """`shared` is the cluster store, None without one; changes within `settle` seconds are told together."""
        self._views = views
        self._driver = driver
        self._settle = settle
        self._viewers: set[Viewer] = set()
        self._watched = asyncio.Event()  # somebody looks
        self._idle = asyncio.Event()  # nobody does any more
        self._due = asyncio.Event()
        self._touched: dict[Key, AddressRecord | None] = {}
        self._unclear: list[EndpointRecord | NameRecord] = []
        self._topics: set[str] = set()
        self._removed: set[str] = set()  # hosts whose rows are about to go
        self._removing = asyncio.Event()
        self._look_again = REMOVED_SECONDS
        self._followers = [self._follower(shared, each) for each in FOLLOWED] if shared else []
        self._awaited = set(FOLLOWED if shared else ())
        """Prefixes that no watch has given yet, or not since the store was away."""

    @property
    def viewers(self) -> int:
        """Number of those who look."""
        return len(self._viewers)

    @contextlib.contextmanager
    def viewing(self) -> Iterator[Viewer]:
        """Encloses the time for which somebody looks. The first event is `hello`; another one comes when the watches of
        the store are open."""
        viewer = Viewer()
        self._viewers.add(viewer)
        self._idle.clear()
        self._watched.set()
        viewer.put(self._encoded("hello", self._hello()))
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)
            if not self._viewers:
                self._watched.clear()
                self._idle.set()

    def end(self) -> None:
        """End the streams of all who look."""
        for each in self._viewers:
            each.end()

    async def run(self) -> None:
        """Follow and tell until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(forever("telling the page of changes", self._tell, first=0.5, last=10.0))
            if self._followers:
                tasks.create_task(forever("following the store for the page", self._follow, first=0.5, last=10.0))
                tasks.create_task(forever("seeing hosts removed", self._see_removed, first=0.5, last=10.0))

    def on_report(self, report: HostReport) -> None:
        """This host reported something new about itself. A conflict may have ended: nobody else tells of that."""
        self._send("report", report)
        self.on_problems()

    def on_problems(self) -> None:
        """Problems or conflicts of this host may have changed: no store has them."""
        if self._viewers:
            self._change("conflicts")

    def on_entry(self, key: str, entry: Entry | None) -> None:
        """A key changed; None if it was deleted."""
        table, _, rest = key.partition("/")
        if not self._viewers:
            return
        if entry is None:
            self._note_removed(key)
        if table == "addresses":
            space, _, part = rest.rpartition("/")
            try:
                address = unpadded(part)
            except ValueError:  # nobody could read that record either
                return
            row = self._driver.tables.addresses.read(entry) if entry else None
            self._touched[space, address] = row.record if row else None
            self._due.set()
        elif table == "endpoints" and entry and (endpoint := self._driver.tables.endpoints.read(entry)):
            self._unclear.append(endpoint.record)
            self._due.set()
        elif table == "names" and entry and (name := self._driver.tables.names.read(entry)):
            self._unclear.append(name.record)
            self._due.set()
        elif table in TOPICS:
            self._change(*TOPICS[table])

    def _note_removed(self, key: str) -> None:
        """Look for the row of a host if something went that only a removal takes. The row goes last, and `hosts/` is
        not followed: there is something new in it each minute from every host."""
        tables = self._driver.tables
        for prefix in (tables.reports.prefix, tables.host_addresses.prefix):
            if key.startswith(prefix):
                self._removed.add(key.removeprefix(prefix))
                self._look_again = REMOVED_SECONDS
                self._removing.set()

    def _change(self, *topics: str) -> None:
        self._topics.update(topics)
        self._due.set()

    # --------------------------------------------------------------- telling

    async def _tell(self) -> None:
        async with when(self._due, settle=self._settle):
            touched, unclear, topics = self._touched, self._unclear, self._topics
            self._touched, self._unclear, self._topics = {}, [], set()
            if not self._viewers:
                return
            try:
                await self._tell_addresses(touched, unclear, topics)
            except Exception:  # what was not told now is read anew later, whatever was wrong
                self._topics |= {*topics, "addresses"}
                raise
            if topics:
                self._send("changed", Topics(changed=sorted(topics)))

    async def _tell_addresses(
        self, touched: dict[Key, AddressRecord | None], unclear: list[EndpointRecord | NameRecord], topics: set[str]
    ) -> None:
        if len(touched) + len(unclear) <= TOUCHED_MOST:
            for each in unclear:
                await self._find_addresses(each, touched, topics)
        else:
            topics.add("addresses")
        if "addresses" in topics or not touched:
            return
        put = await self._views.address_views([each for each in touched.values() if each])
        gone = [AddressKey(space=space, address=address) for (space, address), record in touched.items() if not record]
        self._send("addresses", AddressNews(put=put, gone=gone))

    async def _find_addresses(
        self, holder: EndpointRecord | NameRecord, touched: dict[Key, AddressRecord | None], topics: set[str]
    ) -> None:
        """Add the addresses of a container that changed; all are to be read anew if no pool of ours has them."""
        networks = await self._driver.networks.all()
        network = next((each for each in networks if holder.network in {each.id, each.shared_id}), None)
        for text in filter(None, (holder.address, holder.address6)):
            address = _address(text)
            subnet = network.subnet_of(address) if network and address else None
            if subnet is None or not subnet.space:
                topics.add("addresses")
            elif (subnet.space, str(address)) not in touched:
                row = await self._driver.tables.addresses.get(subnet.space, str(address))
                if row:
                    touched[subnet.space, str(address)] = row.record

    async def _see_removed(self) -> None:
        """Tell of hosts once the rows of those that are being removed are gone."""
        at_most = self._look_again if self._removed else None
        async with when(self._removing, at_most=at_most, settle=REMOVED_SETTLE):
            self._look_again = min(2 * self._look_again, REMOVED_LAST)
            if not self._viewers:
                self._removed.clear()
            for each in sorted(self._removed):
                if await self._driver.tables.hosts.find(each) is None:
                    self._removed.discard(each)
                    self._change("hosts")

    def _hello(self) -> Hello:
        return Hello(
            host=self._driver.identity.name,
            version=__version__,
            live=not self._awaited,
            cluster=bool(self._followers),
            watching=self._views.watches_conflicts,
        )

    def _send(self, name: str, message: msgspec.Struct) -> None:
        if self._viewers:
            event = self._encoded(name, message)
            for each in self._viewers:
                each.put(event)

    @staticmethod
    def _encoded(name: str, message: msgspec.Struct) -> Event:
        return name, msgspec.json.encode(message)

    # ------------------------------------------------------------- following

    def _follower(self, store: ClusterStore, prefix: str) -> PrefixFollower:
        async def take(batch: Batch) -> None:
            if batch.whole or prefix in self._awaited:  # a watch may also go on where it was
                self._awaited.discard(prefix)
                if not self._awaited:
                    self._send("hello", self._hello())
            if batch.whole:
                return
            for each in batch.entries:
                self._take(each)
            for key in batch.gone:
                self.on_entry(key, None)

        def lose() -> None:
            if self._viewers and not self._awaited:
                self._awaited.add(prefix)
                self._send("hello", self._hello())
            self._awaited.add(prefix)

        return PrefixFollower(store, prefix, take, on_lost=lose)

    def _take(self, entry: Entry) -> None:
        if not entry.key.startswith(self._driver.tables.reports.prefix):
            self.on_entry(entry.key, entry)
            return
        row = self._driver.tables.reports.read(entry)
        if row:
            self._removed.discard(row.record.id)  # it is back
        if row and row.record.id != self._driver.identity.host and (report := read_report(row.record)):
            self._send("report", report)

    async def _follow(self) -> None:
        """Keep the watches open for as long as somebody looks."""
        await self._watched.wait()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each.run()) for each in self._followers]
            await self._idle.wait()
            for each in running:
                each.cancel()


def _address(text: str) -> Address | None:
    """The address that a container has as its record says; None if it is none: anybody may have written a name."""
    try:
        return parse_address(text, "address")
    except Invalid:
        return None


def read_report(record: ReportRecord) -> HostReport | None:
    """The report of a host; None if another version wrote it in a form that this one cannot read."""
    try:
        return msgspec.convert(record.report, HostReport)
    except msgspec.ValidationError:
        return None
