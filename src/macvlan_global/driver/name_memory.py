"""Addresses that stay with the names of containers: a container made anew under its name gets what it had.

Engines from 29.0 on tell the IPAM driver the name of the container that an address is for, and no engine tells it the
network driver. So RequestAddress notes for whom an address was reserved, and CreateEndpoint finds it here: the MAC is
derived from network and name, and the addresses are remembered in a row of the store (`ipam.remembered_names`).

The row is written beside the claim, and whatever becomes of it, the container starts: if its name is another host's
just now, or the store does not take the row, its MAC is random and nothing is remembered. What can wait is queued here,
each once however often it is due, and done together by `run`: with Consul every write makes every host read all rows.

Age is observed: a row grows old while a driver runs and nobody writes it. Rows of containers that run are written
once a day for that.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

from macvlan_global.driver.endpoint_table import EndpointTable
from macvlan_global.driver.networks import Networks
from macvlan_global.errors import Conflict, Internal, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.ipam.addresses import Addresses
from macvlan_global.ipam.cache import ParsedPool
from macvlan_global.ipam.remembered_names import Name
from macvlan_global.store.observed_age import ObservedAges
from macvlan_global.store.records import (
    EndpointRecord,
    NetworkRecord,
    PoolRecord,
    RememberedRecord,
    StaticAddressRecord,
)
from macvlan_global.store.table import Tables
from macvlan_global.subnets import Address
from macvlan_global.tasks import forever, when

log = logging.getLogger(__name__)

REMEMBERED_SECONDS = 30 * 86400.0
"""Age up to which an address is remembered, as observed by a host since the row was written last."""
LOOK_SECONDS = 3600.0
"""Interval at which ages are compared."""
AGAIN_SECONDS = 86400.0
"""Age at which the row of a container that runs is written anew."""
OWN_SECONDS = 0.5
PREPARE_SECONDS = 2.0
"""Time that a request of the engine leaves to the first read of the names on a network."""
"""The longest wait of a claim for the row beside it."""
RETRY_SECONDS = 5.0
TOGETHER_SECONDS = 30.0
"""Time for which writes that can wait are gathered. Nothing but the order of last uses is late by it."""
LEAVE_SECONDS = 1.0
"""Time for what is queued when the driver ends."""
NAME_MOST = 255
"""Length of the longest name that is remembered: some stores refuse long keys."""
ASKED_MOST = 1024
"""Reservations that wait for their CreateEndpoint."""
KNOWN_MOST = 256
QUEUED_MOST = 4096
"""Writes that wait for a store that is away; what comes then is not remembered."""


@dataclass(frozen=True, slots=True)
class RememberedAddress:
    """An address that is remembered: by network (id in the cluster) and name, or as a static one, without either.
    `at` is in seconds since the epoch, by the clock of the host that wrote it last."""

    space: str
    address: str
    network: str
    name: str
    mac: str
    host: str
    at: float


class NameMemory:
    """The memory of one process. `run` does what can wait."""

    def __init__(  # noqa: PLR0913 - each of another owner
        self,
        tables: Tables,
        addresses: Addresses,
        networks: Networks,
        endpoints: EndpointTable,
        host: str,
        *,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
    ) -> None:
        """`host` is the id of this host; `steady` is a clock that nobody sets."""
        self._held = tables.addresses
        self._avoided = addresses.avoided
        self._names = addresses.avoided.names
        self._names.name_of = self._name_of
        self._networks = networks
        self._endpoints = endpoints
        self._host = host
        self._now = now
        self._ages = ObservedAges(tables, "remembered", total="total-remembered", steady=steady or time.monotonic)
        self._wanted: dict[str, bool] = {}  # by network, whether it remembers: that never changes
        self._asked: OrderedDict[tuple[str, str], Name] = OrderedDict()  # by space and address
        # by what is written: the end of a name's container, or an address that a name has no longer
        self._queue: dict[tuple[Name, str], Callable[[], Awaitable[object]]] = {}
        self._something = asyncio.Event()

    # ------------------------------------------------------ an address is asked for

    async def name_on(self, pool: PoolRecord, container: str) -> Name | None:
        """The name that a container's address of this pool is remembered by; None if it is not."""
        if not 0 < len(container) <= NAME_MOST or not container.isprintable() or not pool.network or pool.driver:
            return None
        if pool.network not in self._wanted:
            network = await self._networks.find_shared(pool.network)
            if network is None:  # it is being made, and has no containers
                return None
            if len(self._wanted) >= KNOWN_MOST:
                self._wanted.clear()
            self._wanted[pool.network] = network.options.sticky
        return (pool.network, container) if self._wanted[pool.network] else None

    async def prepare(self, pool: PoolRecord) -> None:
        """Read the names of the network of a pool, unless they are followed: before an address of it is chosen. Never
        raises, and takes two seconds at most: without them a container may get another address than it had."""
        if not (pool.network and self._avoided.is_shared):
            return
        try:
            async with asyncio.timeout(PREPARE_SECONDS):
                await self._names.ensure(pool.network)
        except (MacvlanGlobalError, TimeoutError) as error:
            log.info("addresses that stay with names are not known: %s", error or "the store is slow")

    def preferred(self, pool: ParsedPool, name: Name) -> Address | None:
        """The address of a pool that the last container of this name had, if it may be handed out unasked."""
        record = self._names.get(name)
        if record is None or record.space != pool.record.space:
            return None
        first, stop = pool.window
        found = (ip_address(each) for each in record.addresses)
        return next((each for each in found if each in pool.subnet and first <= int(each) < stop), None)

    def note(self, pool: PoolRecord, address: Address, name: Name | None) -> None:
        """An address was reserved for a container of this name, or for one whose name is not known."""
        key = pool.space, str(address)
        self._asked.pop(key, None)
        if name:
            self._asked[key] = name
            if len(self._asked) > ASKED_MOST:
                self._asked.popitem(last=False)

    # ------------------------------------------------------ an endpoint comes and goes

    def name_for(self, network: NetworkRecord, addresses: tuple[Address, ...]) -> str:
        """The name of the container for which the addresses of a new endpoint were reserved, "" if it is not known."""
        names = {
            self._asked.get((subnet.space, str(each))) if (subnet := network.subnet_of(each)) else None
            for each in addresses
        }
        name = names.pop() if len(names) == 1 else None
        return name[1] if name and name[0] == network.shared_id else ""

    def may_be_of_another(self, network: NetworkRecord, name: str, mac: str) -> bool:
        """Whether a container of another name, on whichever host, has or had this MAC. From memory."""
        return self._names.another_has((network.shared_id, name), mac)

    async def own(self, network: NetworkRecord, endpoint: EndpointRecord) -> bool:
        """Whether this endpoint is the one of its name, which has the MAC of the name and is remembered. Never raises,
        and takes half a second at most."""
        try:
            async with asyncio.timeout(OWN_SECONDS):
                return await self._names.own(self._record(network, endpoint))
        except (MacvlanGlobalError, TimeoutError) as error:
            log.warning("the addresses of container %s are not remembered: %s", endpoint.name, error or "store is slow")
            return False

    def created(self, network: NetworkRecord, endpoint: EndpointRecord) -> None:
        """An endpoint has its addresses: those that had them before get others from now on."""
        for each in endpoint.addresses:
            if subnet := network.subnet_of(each):
                told = self._asked.pop((subnet.space, str(each)), None)
                # the row of its own name stays, also if it could not be written this time
                name = (network.shared_id, endpoint.name) if endpoint.name else told
                for record, address in self._names.others(subnet.space, [str(each)], name):
                    other = record.network, record.name
                    self._later((other, address), partial(self._names.forget, record, address))

    def deleted(self, network: NetworkRecord, endpoint: EndpointRecord) -> None:
        """The endpoint of a name is gone: its addresses are the ones that were used last."""
        if endpoint.name:
            record = self._record(network, endpoint)
            name = record.network, record.name
            self._names.moved_up(name)
            self._later((name, ""), partial(self._names.touch, record, record.at))

    # ---------------------------------------------------------------- operators

    def known(self) -> list[RememberedAddress]:
        """Every address that is remembered, as far as this host needs to know."""
        found = [_of_name(each, address) for each in self._names.rows() for address in each.addresses]
        return found + [_static(each) for each in self._avoided.static()]

    async def all(self) -> list[RememberedAddress]:
        """Every address that is remembered, on whichever network.

        Raises:
            Unavailable: the store does not answer.
        """
        found = [_of_name(each, address) for each in await self._names.all() for address in each.addresses]
        return found + [_static(each) for each in self._avoided.static()]

    def counts(self) -> tuple[int, int]:
        """Number of addresses that stay with a name, and of static ones."""
        return self._names.count, self._avoided.known.count_static()

    async def forget(self, address: Address) -> list[RememberedAddress]:
        """Forget an address, whoever had it; what was forgotten.

        Raises:
            NotFound: it is not remembered.
            Conflict: a container has it.
            Unavailable: the store does not answer.
        """
        bare = str(address)
        names = await self._names.all()
        found = [_of_name(each, bare) for each in names if bare in each.addresses]
        found += [_static(each) for each in self._avoided.static() if each.address == bare]
        if not found:
            raise NotFound(
                f"address {bare} is not remembered; macvlan-global addresses --remembered lists those that are"
            )
        for space in sorted({each.space for each in found}):
            if row := await self._held.get(space, bare):
                raise Conflict(
                    f"address {bare} is in use ({row.record.kind}) and stays remembered; remove its container first"
                )
        for record in names:
            if bare in record.addresses:
                await self._names.forget(record, bare)
        for static in self._avoided.static():
            if static.address == bare:
                await self._avoided.forget(static)
        return found

    # ------------------------------------------------------------------- later

    async def run(self) -> None:
        """Write what was queued, and forget what is old, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                forever("remembering addresses", self._write_queued, first=RETRY_SECONDS, last=RETRY_SECONDS)
            )
            tasks.create_task(forever("forgetting old addresses", self._look, first=RETRY_SECONDS, last=LOOK_SECONDS))

    async def leave(self) -> None:
        """Write what is queued, if that is quick: the driver ends."""
        with contextlib.suppress(MacvlanGlobalError, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self.settle()

    async def settle(self) -> None:
        """Do what was queued.

        Raises:
            Unavailable: the store does not answer; the rest waits on.
        """
        while self._queue:
            what, work = next(iter(self._queue.items()))
            try:
                await work()
            except Unavailable:
                raise
            except MacvlanGlobalError as error:  # a row that cannot be read is left alone
                log.info("an address is not remembered: %s", error)
            if self._queue.get(what) is work:  # not due again by now
                del self._queue[what]

    async def look(self) -> None:
        """Write the rows of containers that run if they are old, and forget those that nobody used for long.

        Raises:
            Unavailable: the store does not answer, or the disk cannot be written.
        """
        if not self._names.is_read:
            return
        await self._ages.update({_version(each) for each in self._all_records()})
        for endpoint in await self._endpoints.all():
            network = await self._networks.find(endpoint.network) if endpoint.name else None
            if network and self._names.has_read(network.shared_id):
                with contextlib.suppress(Internal):  # a row that cannot be read is left alone, here and below
                    await self._keep_young(self._record(network, endpoint))
        for each in self._all_records():
            if self._ages.age(_version(each)) > REMEMBERED_SECONDS:
                with contextlib.suppress(Internal):
                    await self._forget(each)
        for record in self._names.surplus():
            with contextlib.suppress(Internal):
                await self._names.expire(record)

    # ------------------------------------------------------------------ inside

    async def _name_of(self, endpoint_id: str) -> str:
        """The name of the container of an endpoint of this host; "" if it is not known."""
        endpoint = await self._endpoints.find(endpoint_id)
        return (endpoint.name or endpoint.container) if endpoint else ""

    async def _keep_young(self, record: RememberedRecord) -> None:
        known = self._names.get((record.network, record.name))
        if known is None:  # the store lost it
            await self._names.own(record)
        elif self._ages.age(_version(known)) > AGAIN_SECONDS:
            await self._names.touch(record, self._now())

    async def _forget(self, record: RememberedRecord | StaticAddressRecord) -> None:
        if isinstance(record, RememberedRecord):
            await self._names.expire(record)
        else:
            await self._avoided.forget(record)

    def _all_records(self) -> list[RememberedRecord | StaticAddressRecord]:
        return [*self._names.rows(), *self._avoided.static()]

    def _record(self, network: NetworkRecord, endpoint: EndpointRecord) -> RememberedRecord:
        subnet = network.subnet_of(endpoint.addresses[0])
        return RememberedRecord(
            network=network.shared_id,
            name=endpoint.name,
            space=subnet.space if subnet else "",
            address=endpoint.address,
            address6=endpoint.address6,
            mac=endpoint.mac,
            host=self._host,
            at=self._now(),
        )

    def _later(self, what: tuple[Name, str], work: Callable[[], Awaitable[object]]) -> None:
        self._queue.pop(what, None)  # by its time it is the last of all
        if len(self._queue) < QUEUED_MOST:
            self._queue[what] = work
        self._something.set()

    async def _write_queued(self) -> None:
        async with when(self._something, settle=TOGETHER_SECONDS):
            await self.settle()

    async def _look(self) -> None:
        await self.look()
        await asyncio.sleep(LOOK_SECONDS)


def _version(record: RememberedRecord | StaticAddressRecord) -> str:
    """An id of a record as it was written: the next write of it has another one."""
    own = (record.network, record.name) if isinstance(record, RememberedRecord) else (record.space, record.address)
    text = "\0".join((*own, record.host, repr(record.at)))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _of_name(record: RememberedRecord, address: str) -> RememberedAddress:
    return RememberedAddress(record.space, address, record.network, record.name, record.mac, record.host, record.at)


def _static(record: StaticAddressRecord) -> RememberedAddress:
    return RememberedAddress(record.space, record.address, "", "", "", record.host, record.at)
