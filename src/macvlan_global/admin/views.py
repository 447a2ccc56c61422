"""Answers of the admin socket, assembled from the driver's rooms."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from macvlan_global import __version__
from macvlan_global.admin import messages as a
from macvlan_global.admin.address_views import address_view, given_by_others
from macvlan_global.admin.conflict_views import conflict_views, watch_view
from macvlan_global.attach.attach import plain_against_wish
from macvlan_global.config import Config
from macvlan_global.conflicts.service import ConflictService
from macvlan_global.driver.driver import Driver
from macvlan_global.driver.name_memory import RememberedAddress
from macvlan_global.driver.requests import is_no_subnet
from macvlan_global.engine.ports import Engine
from macvlan_global.errors import Invalid, NotFound, Unavailable
from macvlan_global.metrics.counts import Metrics
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.corrections import Correction
from macvlan_global.reconcile.engine_follower import EngineFollower, learn_names
from macvlan_global.store.records import AddressRecord, EndpointRecord, NameRecord, NetworkRecord, PoolRecord
from macvlan_global.store.table import AT_ONCE
from macvlan_global.subnets import parse_address

if TYPE_CHECKING:  # a host alone needs no resolver, and its start is not to pay for one
    from macvlan_global.cluster.host_list import HostLine
    from macvlan_global.cluster.reclaimer import Reclaimer
    from macvlan_global.global_scope import GlobalScope

FEW = 50
"""Names of so many containers are read one by one."""
ENGINE_SECONDS = 3.0
"""Timeout for facts that only the engine knows, while an operator waits."""


class Views:
    """Reads everything, changes nothing but by `repair`, `remove_host` and `forget_address`."""

    def __init__(  # noqa: PLR0913, PLR0917 - each of another owner
        self,
        config: Config,
        driver: Driver,
        follower: EngineFollower,
        reconciler: Reconciler,
        metrics: Metrics,
        scope: "GlobalScope | None" = None,
        conflicts: ConflictService | None = None,
    ) -> None:
        """All of these are the running driver's; `scope` is None in local scope, `conflicts` if they are not watched
        for."""
        self._config = config
        self._driver = driver
        self._engine = follower.engine
        self._follower = follower
        self._reconciler = reconciler
        self._metrics = metrics
        self._scope = scope
        self._conflicts = conflicts
        self._started = time.monotonic()
        self.page_token = ""  # "" if the page needs none
        self.listeners: list[Callable[[], str]] = []  # why the page or metrics cannot be served, "" if they are

    async def status(self) -> a.Status:
        """The driver in one view. Asks the engine."""
        version = problem = ""
        sees = swarm = live_restore = False
        try:
            async with asyncio.timeout(ENGINE_SECONDS):
                info = await self._engine.info()
            version, swarm, live_restore = info.version, info.swarm, info.live_restore
            sees = self._config.driver_name in info.plugins
        except Unavailable as error:
            problem = str(error)
        except TimeoutError:
            problem = f"the Docker Engine at {self._config.docker_host} does not answer within {ENGINE_SECONDS:g} s"
        return a.Status(
            version=__version__,
            pid=os.getpid(),
            host=self._config.effective_host_name(),
            scope=self._config.effective_scope(),
            store=self._config.used_store(),
            unused_store=self._config.unused_store(),
            socket=self._config.socket,
            state_dir=self._config.state_dir,
            up_seconds=round(time.monotonic() - self._started, 1),
            engine=version,
            engine_problem=problem,
            engine_sees_plugin=sees,
            engine_followed=self._follower.following,
            swarm=swarm,
            live_restore=live_restore,
            host_id=self._driver.identity.host,
            problems=await self.problems(),
            waiting=len(await self._driver.outbox.waiting()) if self._driver.outbox else 0,
            hosts=sorted(each.name for each in self._scope.heartbeat.live().values()) if self._scope else [],
            resolver=self._resolver(),
            watch=watch_view(self._conflicts),
            **await self._counts(),
        )

    async def problems(self) -> list[str]:
        """Problems of this host in words, its conflicts last. Asks neither the engine nor the store."""
        return [
            *self._reconciler.problems,
            *await self._network_problems(),
            *await self._driver.probe.problems(),
            *self._driver.host_access.problems,
            *(problem for each in self.listeners if (problem := each())),
            *(self._conflicts.watch.problems() if self._conflicts else []),
        ]

    @property
    def pages(self) -> asyncio.Event | None:
        """Event that is set while a living host of the cluster serves the page; None on a host alone."""
        return self._scope.heartbeat.pages if self._scope else None

    @property
    def living(self) -> int:
        """Number of hosts that live, this one among them."""
        return max(1, len(self._scope.heartbeat.live())) if self._scope else 1

    def tell_of_problems(self, told: Callable[[], None]) -> None:
        """Have `told` called at once when problems or conflicts may have changed, as far as anybody tells of it."""
        self._reconciler.on_problems = self._driver.host_access.on_problems = told
        if self._scope:
            self._scope.replicator.problems.on_change = told
        if self._conflicts:
            self._conflicts.watch.on_conflict = told

    @property
    def watches_conflicts(self) -> bool:
        """Whether this host watches for conflicts."""
        return self._conflicts is not None

    def page(self) -> a.PageView:
        """The address of the page.

        Raises:
            Invalid: it is off.
        """
        if not self._config.page:
            raise Invalid(
                'the page is off on this host; add page = "127.0.0.1:8153" to the configuration and restart the driver'
            )
        return a.PageView(address=self._config.page, host=self._config.effective_host_name(), token=self.page_token)

    async def _counts(self) -> dict[str, Any]:
        """Number of networks, endpoints and addresses on this host: of addresses without a cluster all that are held,
        else those that its containers have. In a cluster one key is read, to see that the store answers.
        """
        driver = self._driver
        endpoints = await driver.endpoints.all()
        found: dict[str, Any] = {"networks": len(await driver.networks.all()), "endpoints": len(endpoints)}
        found["addresses"] = sum(len(each.addresses) for each in endpoints) if self._scope else None
        try:
            if self._scope:
                await driver.tables.alive.entry(driver.identity.host)
            else:
                found["addresses"] = len(await driver.addresses.all()) + len(await self._given_by_others())
            found["foreign_records"] = await driver.tables.left_alone()
        except Unavailable as error:
            found["store_problem"] = str(error)
        return found

    async def _network_problems(self) -> list[str]:
        found = [each.text for each in self._scope.replicator.problems.all()] if self._scope else []
        networks, endpoints = await self._driver.networks.all(), await self._driver.endpoints.all()
        found += [
            f"no container can start on network {each.shown}: {wrong}"
            for each in networks
            if (wrong := self._driver.networks.wrong_with(each))
        ]
        found += [told for each in networks if (told := plain_against_wish(each, endpoints))]
        found += [gone for each in networks if (gone := await self._without_parent(each, endpoints))]
        inside, why_not = sum(each.is_inside for each in endpoints), self._driver.attacher.quirks.why_not_inside()
        if inside and why_not:  # live-restore can be switched on under running containers
            found.append(f"{inside} containers have links in attach mode direct; restart them: {why_not}")
        return found

    async def _without_parent(self, network: NetworkRecord, endpoints: Sequence[EndpointRecord]) -> str:
        """The problem of a network whose parent is gone from under its containers; "" if it has none."""
        there = sum(each.network == network.id and each.is_live for each in endpoints)
        if not (there and network.parent) or await self._driver.networks.parent_link(network):
            return ""
        return (
            f"the parent {network.parent} of network {network.shown} is not there, and {there} of its containers run: "
            f"it was renamed or removed; name it {network.parent} again (ip link set NAME name {network.parent}), or "
            "stop the containers and start them on another parent of the network"
        )

    def _resolver(self) -> a.ResolverView | None:
        if self._scope is None or self._scope.resolver is None:
            return None
        state = self._scope.resolver.state()
        return a.ResolverView(
            address=state.address,
            listening=state.listening,
            known=state.known,
            names=state.names,
            queries=state.queries,
            problem=state.problem,
        )

    async def conflicts(self) -> list[a.ConflictView]:
        """The latest conflicts, the one seen last at the end. For errors see `conflict_views`."""
        return await conflict_views(self._conflicts)

    async def networks(self) -> list[a.NetworkView]:
        """Every network of this host."""
        await self._learn_names()
        try:
            pools = await self._driver.pools.all()
            if self._scope:
                here = {each.shared_id for each in await self._driver.networks.all()}
                await self._driver.pools.read_anew(each for each in pools if each.network in here)
        except Unavailable:  # how full they are is then not known
            pools = []
        return await self.networks_here(pools)

    async def networks_here(self, pools: list[PoolRecord]) -> list[a.NetworkView]:
        """Every network of this host, with the usage of these pools. Asks neither the engine nor the store."""
        owned = await self._driver.owned.owned()
        endpoints = await self._driver.endpoints.all()
        return [
            await self._network_view(each, made=each.parent in owned, endpoints=endpoints, pools=pools)
            for each in await self._driver.networks.all()
        ]

    async def addresses(self, network: str = "") -> list[a.AddressView]:
        """Every address that is held, or those of one network (name, id or the beginning of an id).

        Of those that another IPAM driver or a swarm gives, the ones that containers of this host have.

        Raises:
            NotFound: no such network.
        """
        await self._learn_names()
        wanted = (await self._find(network)).shared_id if network else ""
        records = [each for each in await self._driver.addresses.all() if not wanted or each.network == wanted]
        return await self.address_views(records) + await self._given_by_others(wanted)

    async def address_views(self, records: Sequence[AddressRecord]) -> list[a.AddressView]:
        """These addresses with their holders. Of many, others have their turn in between.

        Raises:
            Unavailable: the store cannot be reached.
        """
        networks = {each.shared_id: each for each in await self._driver.networks.all()}
        endpoints = {each.id: each for each in await self._driver.endpoints.all()}
        names = await self._names_of(records, endpoints)
        found = []
        for number, each in enumerate(records, 1):
            holder = endpoints.get(each.endpoint) or names.get(each.endpoint)
            found.append(address_view(each, networks, holder, self._host(each.host)))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return found

    async def _names_of(
        self, records: Sequence[AddressRecord], known: Mapping[str, EndpointRecord]
    ) -> dict[str, NameRecord]:
        """Published names of containers of other hosts, by endpoint: of few one by one, else of their networks."""
        if self._scope is None:
            return {}
        table = self._driver.tables.names
        others = [each for each in records if each.kind == "endpoint" and each.network and each.endpoint not in known]
        asked = {(each.network, each.host, each.endpoint) for each in others}
        if len(asked) > FEW:
            read = [row for each in {each.network for each in others} for row in await table.scan(each)]
        else:
            read = [row for key in sorted(asked) if (row := await table.find(*key))]
        return {row.record.endpoint: row.record for row in read}

    async def remembered(self, network: str = "") -> list[a.RememberedView]:
        """Every address that is remembered, or those of one network, the longest unused first.

        Raises:
            NotFound: no such network.
        """
        await self._learn_names()
        wanted = (await self._find(network)).shared_id if network else ""
        held = {(each.space, each.address) for each in await self._driver.addresses.all()}
        found = [each for each in await self._driver.memory.all() if wanted in {"", each.network}]
        return await self._remembered_views(found, held)

    async def forget_address(self, address: str) -> list[a.RememberedView]:
        """Forget an address that is remembered; what it was remembered for.

        Raises:
            Invalid: it is no address.
            NotFound: it is not remembered.
            Conflict: a container has it.
            Unavailable: the store cannot be reached.
        """
        forgotten = await self._driver.memory.forget(parse_address(address, "address"))
        await self._learn_names()
        return await self._remembered_views(forgotten, set())

    async def _remembered_views(
        self, found: list[RememberedAddress], held: set[tuple[str, str]]
    ) -> list[a.RememberedView]:
        networks = {each.shared_id: each.shown for each in await self._driver.networks.all()}
        return [
            a.RememberedView(
                address=each.address,
                space=each.space,
                network=networks.get(each.network, each.network[:12]),
                name=each.name,
                mac=each.mac,
                host=self._host(each.host),
                at=each.at,
                in_use=(each.space, each.address) in held,
            )
            for each in found
        ]

    async def _given_by_others(self, wanted: str = "") -> list[a.AddressView]:
        """Addresses that containers of this host have and no pool of ours, as those of a swarm; by the shared id."""
        networks = {each.id: each for each in await self._driver.networks.all() if wanted in {"", each.shared_id}}
        return [
            view
            for each in await self._driver.endpoints.all()
            if each.network in networks
            for view in given_by_others(each, networks[each.network], self._driver.identity.name)
        ]

    def _host(self, host: str) -> str:
        """The name of the host with this id."""
        if host == self._driver.identity.host:
            return self._driver.identity.name
        return self._scope.heartbeat.name_of(host) if self._scope else host

    async def parents(self, network: str) -> a.ChoiceView:
        """The choice of a network's parent as it would be made now, with its reasons.

        Raises:
            NotFound: no such network.
            Invalid: its parent file cannot be read.
        """
        await self._learn_names()
        return await self.choice(network)

    async def choice(self, network: str) -> a.ChoiceView:
        """As `parents`, by the names that are known."""
        found = await self._find(network)
        choice = await self._driver.networks.explain(found)
        options = found.options
        source = f"parent-file={options.parent_file}" if options.parent_file else f"parent={options.parent}"
        return a.ChoiceView(
            network=found.shown,
            current=found.parent,
            chosen=choice.parent.name if choice.parent else "",
            source=source if options.parent or options.parent_file else "no parent given",
            verdicts=[
                a.VerdictView(entry=each.entry, usable=each.usable, reason=each.reason) for each in choice.verdicts
            ],
        )

    async def repair(self, *, dry_run: bool, grace: float | None = None) -> a.RepairView:
        """Compare state, kernel and engine, and correct what differs unless `dry_run`.

        `grace` in seconds stands in for the configured age beyond which what is unused counts as abandoned.
        """
        try:
            await self._engine.info()
            engine: Engine | None = self._engine
        except Unavailable:
            engine = None
        planned = await self._reconciler.plan(engine, grace)
        done = [] if dry_run else await self._reconciler.reconcile(engine, grace)
        self._metrics.corrected(len(done))
        left = [] if dry_run else await self._reconciler.plan(engine, grace)
        failed = [each for each in left if any(each.is_like(other) for other in planned)]
        return a.RepairView(
            dry_run=dry_run,
            engine=engine is not None,
            corrections=[_correction_view(each) for each in (planned if dry_run else done)],
            failed=[_correction_view(each) for each in failed],
        )

    async def hosts(self) -> list[a.HostView]:
        """Every host of the cluster, by name.

        Raises:
            Invalid: this driver runs in local scope.
            Unavailable: the store cannot be reached.
        """
        return [_host_view(line, self._driver.identity.host) for line in await self._reclaimer().host_list()]

    async def remove_host(self, name: str, *, force: bool) -> a.HostRemovalView:
        """Give back the addresses, names and pools of a host that is gone for good; see `Reclaimer.remove`.

        Raises:
            Invalid: this driver runs in local scope.
            NotFound: no such host.
            Conflict: it is alive, or several are meant.
            Unavailable: the store cannot be reached.
        """
        removal = await self._reclaimer().remove(name, force=force)
        outcome = removal.outcome
        return a.HostRemovalView(
            id=removal.host.id,
            name=removal.host.name,
            removed=removal.forgotten,
            given_back=[each.address for each in outcome.given],
            kept=[a.KeptAddressView(address=each.record.address, reason=each.reason) for each in outcome.kept],
            names=outcome.names,
            pools=outcome.pools,
        )

    def _reclaimer(self) -> "Reclaimer":
        if self._scope is None:
            raise Invalid(
                "this driver runs in local scope and knows no other hosts; hosts are those that share a cluster store "
                "(store = consul://... or etcd://... in the configuration)"
            )
        return self._scope.reclaimer

    async def _find(self, name: str) -> NetworkRecord:
        networks = await self._driver.networks.all()
        for each in networks:
            if name in {each.name, each.id}:
                return each
        starting = [each for each in networks if each.id.startswith(name)]
        if len(starting) == 1:
            return starting[0]
        known = ", ".join(sorted(each.shown for each in networks)) or "none yet"
        raise NotFound(f"there is no network {name!r} of macvlan-global on this host; there is: {known}")

    async def _learn_names(self) -> None:
        with contextlib.suppress(Unavailable, TimeoutError):  # names are a courtesy; ids are shown instead
            async with asyncio.timeout(ENGINE_SECONDS):
                await learn_names(self._driver, self._engine)

    async def _network_view(
        self, network: NetworkRecord, *, made: bool, endpoints: list[EndpointRecord], pools: list[PoolRecord]
    ) -> a.NetworkView:
        link = await self._driver.kernel.link(network.parent)
        usage = {pool.subnet: self._driver.pools.usage(pool) for pool in pools if pool.network == network.shared_id}
        subnets = []
        for each in network.subnets:
            if is_no_subnet(each.space, each.subnet):
                continue  # recorded by an earlier release for --ipam-driver null
            used, size = usage.get(each.subnet, (0, 0))
            subnets.append(
                a.SubnetView(
                    subnet=each.subnet,
                    range=each.range,
                    gateway=each.gateway,
                    aux=each.aux,
                    space=each.space,
                    used=used,
                    size=size,
                )
            )
        return a.NetworkView(
            id=network.id,
            name=network.shown,
            parent=network.parent,
            parent_state="missing" if link is None else "up" if link.up else "down",
            parent_made=made,
            mode=network.options.mode,
            internal=network.internal,
            options=network.given,
            subnets=subnets,
            endpoints=sum(1 for each in endpoints if each.network == network.id),
            cluster=network.cluster,
            problem=self._problem_of(network),
        )

    def _problem_of(self, network: NetworkRecord) -> str:
        problems = self._scope.replicator.problems.all() if self._scope else []
        return next(
            (each.text for each in problems if each.id == network.id), self._driver.networks.wrong_with(network)
        )


def _correction_view(correction: Correction) -> a.CorrectionView:
    return a.CorrectionView(action=type(correction).__name__, subject=correction.subject, reason=correction.reason)


def _host_view(line: "HostLine", own: str) -> a.HostView:
    record = line.record
    return a.HostView(
        id=record.id,
        name=record.name,
        state="up" if line.live else "down",
        this=record.id == own,
        version=record.version,
        engine=record.engine,
        seen=record.seen,
        networks=record.networks,
        endpoints=record.endpoints,
        addresses=line.addresses,
    )
