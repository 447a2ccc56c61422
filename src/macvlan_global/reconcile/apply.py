"""Reconciliation: observe records, kernel, engine and store, plan the corrections, and apply them one by one.

`reconcile.plan` decides; this module does the I/O on both sides of it. The operator's command for it is `repair`.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from typing import assert_never

from macvlan_global.driver.driver import Driver
from macvlan_global.driver.holders import describe_endpoint
from macvlan_global.driver.requests import EndpointRequest
from macvlan_global.engine.ports import Engine, EngineNetwork
from macvlan_global.errors import Conflict, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.ipam.cache import OwnClaim
from macvlan_global.ipam.held_addresses import OwnAddresses
from macvlan_global.ipam.owners import network_claims
from macvlan_global.ipam.subnet_use import SpaceSubnet, is_kept_by
from macvlan_global.kernel.names import link_name
from macvlan_global.metrics.counts import TimeBuckets
from macvlan_global.reconcile.adoption import request_of
from macvlan_global.reconcile.corrections import (
    AdoptEndpoint,
    AdoptNetwork,
    ClaimAddress,
    Correction,
    DeleteEndpoint,
    DeleteNetwork,
    DeleteStray,
    ForgetNetwork,
    GiveBackAddress,
    GiveBackPool,
    HoldAddress,
    RemoveLink,
    RestoreLink,
    RestorePool,
)
from macvlan_global.reconcile.other_names import as_ours, by_other_names, problem_of
from macvlan_global.reconcile.plan import (
    ReconcileFacts,
    Shared,
    parts_with,
    plan,
    plan_foreign,
    plan_nameless,
    space_of,
    unknown_subnets,
)
from macvlan_global.reconcile.strays import Strays
from macvlan_global.store.records import EndpointRecord, NetworkRecord

log = logging.getLogger(__name__)

_OF_STORE = RestorePool | ClaimAddress | HoldAddress | GiveBackAddress | GiveBackPool | ForgetNetwork
"""Corrections of what the store has."""


class Reconciler:
    """Reconciles this host. Safe beside requests of the engine."""

    def __init__(
        self,
        driver: Driver,
        *,
        grace: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`grace` in seconds."""
        self._driver = driver
        self.grace = grace
        self._now = now
        self._applying = asyncio.Lock()
        self.problems: list[str] = []
        """The corrections that failed last time, for the operator."""
        self.on_problems: Callable[[], None] = lambda: None
        """Called when `problems` changed."""
        self.broken_off = ""
        """The error by which the store went away while corrections were applied last time; "" if it did not."""
        self._unclaimed: dict[str, list[str]] = {}  # by endpoint id, those of `problems` that are about its addresses
        self.corrections: Counter[tuple[str, str]] = Counter()
        """Corrections since the driver began, by kind and outcome: applied or failed."""
        self.durations = TimeBuckets()
        """Durations of reconciliations."""
        self._planned: tuple[ReconcileFacts, list[Correction]] | None = None  # at the last time
        self._last: tuple[ReconcileFacts, list[Correction]] | None = None  # the same, of the last reconciliation
        self._marked = False
        self._strays = Strays()
        self._unused: tuple[frozenset[SpaceSubnet], float] = frozenset(), 0.0  # subnets, and when they were looked at
        # of containers here, and all that the store had afterwards
        self._claims: tuple[list[OwnClaim], OwnAddresses] | None = None

    async def plan(
        self, engine: Engine | None, grace: float | None = None, *, needs_store: bool = False
    ) -> list[Correction]:
        """The corrections that are due. Without an engine, or if it does not answer, only what the kernel proves.

        `grace` in seconds replaces the configured one.

        Raises:
            Unavailable: with `needs_store`, the store does not answer.
        """
        seen: tuple[EngineNetwork, ...] | None = None
        foreign: tuple[EngineNetwork, ...] = ()
        misnamed: tuple[EngineNetwork, ...] = ()
        # the engine is asked last: an object that it gets meanwhile then never looks unknown to it
        grace = self.grace if grace is None else grace
        facts = await self._observe(grace, removes=engine is not None, needs_store=needs_store)
        if engine:
            asked = self._driver.liveness.moment()
            try:
                foreign = tuple(await engine.ipam_networks())
                found = tuple(await engine.networks())
                lacking = {each.id for each in facts(None).networks} - {each.id for each in (*found, *foreign)}
                misnamed = await by_other_names(engine, lacking)
                seen = (*found, *(as_ours(each) for each in misnamed))
            except Unavailable as error:
                log.info("repair compares with the kernel only: %s", error)
            else:
                self._driver.liveness.learn((each.id for network in seen for each in network.endpoints), asked)
                await self._disown_lost((*seen, *foreign))
        known = await self._strays.learn(replace(facts(seen), foreign=foreign, misnamed=misnamed), engine)
        self._planned = known, plan(known)
        return self._planned[1]

    async def reconcile(
        self, engine: Engine | None, grace: float | None = None, *, needs_store: bool = False
    ) -> list[Correction]:
        """Apply the corrections that are due; those that were applied. A failed one is logged and the others go on.

        Raises:
            Unavailable: with `needs_store`, the store does not answer; nothing was done.
        """
        async with self._applying:  # two at once would both apply the same ones
            started = time.perf_counter()
            try:
                return await self._reconcile(engine, grace, needs_store=needs_store)
            finally:
                self.durations.add(time.perf_counter() - started)

    def passed_over(self) -> frozenset[tuple[str, str]] | None:
        """The corrections, by kind and subject, that the last reconciliation left because something may be too young;
        None if the engine did not answer: then nothing is known."""
        if self._last is None or self._last[0].engine is None:
            return None
        facts, due = self._last
        of_any_age = plan(replace(facts, grace=0, clock_set=False))
        left, found = ({(type(each).__name__, each.subject) for each in some} for some in (of_any_age, due))
        return frozenset(left - found)

    async def claim_foreign(self, engine: Engine) -> None:
        """Claim pools and addresses of networks of other drivers: the engine has just created one. A failed claim is
        logged, and the next look tries again, or repair. Safe beside a repair, for which no request is to wait."""
        try:
            await self._claim_new(engine)
        except Unavailable as error:
            log.info("networks of other drivers are left to repair: %s", error)

    async def _claim_new(self, engine: Engine) -> None:
        """See `claim_foreign`. Only networks are looked at whose pools were not known to be theirs."""
        pools = self._driver.pools
        look, new = pools.looks.begin(), tuple(pools.unclaimed())
        networks = parts_with(await engine.ipam_networks(), new) if new else []
        subnets = {(space_of(network), each.subnet) for network in networks for each in network.subnets}
        shared = Shared(pools=new, addresses=tuple(await self._driver.addresses.held.within_each(subnets)))
        plan = plan_foreign(networks, shared, self._driver.identity.host, self._now())
        # what a container asked for is known; the engine may show one that has just ended
        claims = [each for each in plan if not isinstance(each, HoldAddress)]
        done, _, _ = await self._apply_all(claims, engine, self.grace)
        held, _, _ = await self._apply_all(plan_nameless(networks, pools.nameless()), engine, self.grace)
        await self._end_removed(done + held, engine)
        if all(each in done for each in claims if isinstance(each, RestorePool)):
            pools.looks.end(look)
        if any(isinstance(each, RestorePool | HoldAddress) for each in done + held):
            self._driver.networks.leftovers.suspect("requests of another driver's network came before it was known")

    async def claim_again(self) -> None:
        """Retry the claims of addresses that endpoints use and that somebody else held at the last reconciliation.

        Once released, such an address must not go to a third holder. Only these addresses are read.
        """
        async with self._applying:
            for endpoint, words in list(self._unclaimed.items()):
                with contextlib.suppress(MacvlanGlobalError):
                    await self._driver.endpoints.claim_again(endpoint)
                    log.info("repair: endpoint %s has its addresses again, or is gone", endpoint[:12])
                    del self._unclaimed[endpoint]
                    self._set_problems([each for each in self.problems if each not in words])

    def _set_problems(self, problems: list[str]) -> None:
        before, self.problems = self.problems, problems
        if before != problems:
            self.on_problems()

    async def _reconcile(self, engine: Engine | None, grace: float | None, *, needs_store: bool) -> list[Correction]:
        self.broken_off = ""
        await self._driver.attacher.deferred.resume()
        if engine and not self._marked:
            await self._mark_links()
        due = await self.plan(engine, grace, needs_store=needs_store)
        self._last = self._planned
        done, problems, unclaimed = await self._apply_all(due, engine, self.grace if grace is None else grace)
        if self._claims is None:  # the store was not read: what was lost there still is
            kept = {each: words for each, words in self._unclaimed.items() if each not in unclaimed}
            problems += [word for words in kept.values() for word in words if word not in problems]
            unclaimed |= kept
        self._unclaimed = unclaimed
        self._set_problems(problems + [problem_of(each) for each in self._last[0].misnamed] if self._last else problems)
        if engine:
            with contextlib.suppress(Unavailable):  # the next repair finds it
                await self._end_removed(done, engine)
        await self._driver.host_access.update(observe=True)
        with contextlib.suppress(Unavailable):  # the next repair looks again
            await self._driver.addresses.held.use.end_unused(*self._unused)
        return done

    async def _apply_all(
        self, corrections: Iterable[Correction], engine: Engine | None, grace: float
    ) -> tuple[list[Correction], list[str], dict[str, list[str]]]:
        """Apply corrections one by one; those that were applied, the problems of the others, and, by endpoint, those
        that are about its addresses."""
        done = []
        problems = []
        unclaimed: dict[str, list[str]] = {}
        for correction in corrections:
            try:
                await self._apply(correction, engine, grace)
            except MacvlanGlobalError as error:
                log.warning("repair: %s (%s) failed: %s", correction.subject, correction.reason, error)
                self.corrections[type(correction).__name__, "failed"] += 1
                problems.append(f"{correction.subject} ({correction.reason}): {error}")
                if isinstance(error, Unavailable) and isinstance(correction, _OF_STORE):
                    self.broken_off = str(error)
                if isinstance(correction, ClaimAddress) and correction.holder.endpoint:
                    unclaimed.setdefault(correction.holder.endpoint, []).append(problems[-1])
            else:
                log.info("repair: %s %s: %s", type(correction).__name__, correction.subject, correction.reason)
                self.corrections[type(correction).__name__, "applied"] += 1
                done.append(correction)
        return done, problems, unclaimed

    async def _mark_links(self) -> None:
        """Give the links that an earlier version made the alias by which they are known whatever their container does
        to them. Once in a run, and not before the driver serves: each costs a look into a container."""
        for endpoint in await self._driver.endpoints.all():
            if endpoint.boot == self._driver.identity.boot and not endpoint.is_inside:
                with contextlib.suppress(MacvlanGlobalError):  # it is known by its MAC until the next run
                    await self._driver.attacher.mark(endpoint)
        self._marked = True

    async def _observe(
        self, grace: float, *, removes: bool, needs_store: bool
    ) -> Callable[[tuple[EngineNetwork, ...] | None], ReconcileFacts]:
        """Everything but the engine's view. `removes` says that parents of ours may be planned to be removed."""
        now = self._now()
        clock_set = self._driver.liveness.was_clock_set(grace)
        # addresses are read before their holders: a holder that comes in between is then never taken for missing. One
        # that was recorded before that, and complete, surely has its claims.
        settled = {each.id for each in await self._driver.endpoints.all()}
        settled |= {each.id for each in await self._driver.networks.all() if each.subnets}
        try:
            shared = await self._shared()
        except Unavailable as error:
            if needs_store:
                raise
            log.info("repair leaves the store out: %s", error)
            shared = None
        owned = tuple((await self._driver.owned.owned()).values())
        links = {link.name: link for link in await self._driver.kernel.links()}
        stood_on = {each.name for each in owned if removes and await self._driver.kernel.upper_of(each.name)}
        unreadable = {link_name(key.rpartition("/")[2]) for key in await self._driver.tables.endpoints.unreadable()}
        endpoints = tuple(await self._driver.endpoints.all())
        host_access, on_shims, host_access_known = await self._host_access()
        networks = tuple(await self._driver.networks.all())
        later = self._now()
        # meanwhile: what was written before that looks old at both times
        clock_set |= self._driver.liveness.was_clock_set(grace)
        return lambda engine: ReconcileFacts(
            host=self._driver.identity.host,
            boot=self._driver.identity.boot,
            now=now,
            grace=grace,
            networks=networks,
            endpoints=endpoints,
            owned=owned,
            settled=frozenset(settled),
            shared=shared,
            links=links,
            stood_on=frozenset(stood_on),
            unreadable=frozenset(unreadable),
            host_access=host_access,
            on_shims=on_shims,
            host_access_known=host_access_known,
            engine=engine,
            later=later,
            clock_set=clock_set,
        )

    async def _host_access(self) -> tuple[frozenset[tuple[str, str]], frozenset[str], bool]:
        """The addresses that this host was given, with their spaces; those that it has on a shim besides; and whether
        these are all. A shim outlives a driver, and its state folder."""
        table = self._driver.tables.host_access
        given = frozenset((row.record.space, row.record.address) for row in await table.scan())
        on_shims = {str(address) for shim in await self._driver.kernel.shims.all() for address in shim.addresses}
        return given, frozenset(on_shims - {address for _, address in given}), not await table.unreadable()

    async def _defined_and_removed(self, named: AbstractSet[str]) -> tuple[frozenset[str], frozenset[str], bool]:
        """The networks that have a definition, those that have a tombstone, and whether others cannot be read. `named`
        are networks that have something: if one is neither, its tombstone may have come since."""
        tables = self._driver.tables
        tombstones = await tables.removed.read_all(await tables.removed.entries())
        definitions = await tables.definitions.read_all(await tables.definitions.entries())
        defined = frozenset(row.record.id for _, row in definitions if row)
        # a removal writes the tombstone first, and then deletes the definition
        if named - defined - {row.record.id for _, row in tombstones if row}:
            tombstones += await tables.removed.read_all(await tables.removed.entries())
        removed = frozenset(row.record.id for _, row in tombstones if row)
        return defined, removed, any(row is None for _, row in (*tombstones, *definitions))

    async def _shared(self, foreign: Iterable[EngineNetwork] = ()) -> Shared:
        """The records of the store that concern this host: addresses of the subnets in which it may have some, and of
        those of networks of other drivers; of its other networks their gateways and aux addresses. See also
        `unknown_subnets`."""
        held = self._driver.addresses.held
        begun, claims = held.use.moment, self._driver.pools.claims_of_containers()
        self._claims = None  # unless the store answers
        networks = await self._driver.networks.all()
        used = {each.network for each in await self._driver.endpoints.all()}
        here = {each for network in networks if network.id in used for each in _subnets_of(network)}
        here |= {(space_of(network), each.subnet) for network in foreign for each in network.subnets}
        pools = tuple(await self._driver.pools.all())
        besides = unknown_subnets(pools, networks, self._driver.identity.host)
        own = await held.own(here | besides, partial(_fixed, networks))
        named = {each.network for each in pools}
        named |= {claim.network for each in own.records for claim in network_claims(each)}
        named -= {"", *(each.shared_id for each in networks)}
        defined, removed, some_unreadable = await self._defined_and_removed(named)
        if not some_unreadable:  # their tombstones may be gone; and whoever defined one again may be a newer release
            removed |= {each.shared_id for each in networks if each.removed} - defined
        shared = Shared(
            addresses=tuple(own.records),
            pools=pools,
            removed=removed,
            defined=defined,
            some_unreadable=some_unreadable,
            seen=own.subnets,
        )
        self._claims = claims, own
        self._driver.pools.disown_others({network.shared_id for network in self._driver.networks.known()})
        known = {network.shared_id for network in networks}
        left = {
            (each.space, each.subnet) for each in own.records if is_kept_by(each, self._driver.identity.host, known)
        }
        self._unused = (own.subnets or frozenset()) - here - left, begun
        return shared

    async def _disown_lost(self, networks: Iterable[EngineNetwork]) -> None:
        """See `Pools.disown_lost`. A record of an endpoint may be unreadable, or lost: then the engine has it."""
        used = {address for each in await self._driver.endpoints.all() for address in each.addresses}
        used |= {ip_address(each) for network in networks for one in network.endpoints for each in one.addresses}
        if self._claims:
            self._driver.pools.disown_lost(*self._claims, used)

    async def _delete_direct_link(self, endpoint: EndpointRecord, engine: Engine | None) -> None:
        """Delete the direct link of an endpoint that the engine does not know, in a container that it runs: nobody else
        would. The engine is asked for its containers, as it may be another one than the one that requested the link."""
        # most such endpoints ended with their containers, so the engine is asked for the others only
        if not (engine and endpoint.is_inside and await self._driver.liveness.is_in_use(endpoint)):
            return
        if endpoint.sandbox in await engine.sandboxes():
            await self._driver.attacher.delete_inside(endpoint)

    async def _refuse_if_in_use(self, endpoint: EndpointRecord) -> None:
        """Raise Conflict if the kernel shows the link in use: the engine may be another one, or have lost its data."""
        if await self._driver.liveness.is_in_use(endpoint):
            raise Conflict(f"{describe_endpoint(endpoint)} is in use, though the engine does not know it")

    async def _apply(  # noqa: C901, PLR0912 - one case for each correction
        self, correction: Correction, engine: Engine | None, grace: float
    ) -> None:
        """Apply one correction. It may be applied twice, and is refused if it would take away what is in use by now.

        Raises:
            MacvlanGlobalError: it cannot be applied now.
        """
        driver = self._driver
        match correction:
            case RestoreLink():
                await driver.owned.restore(correction.link)
            case RemoveLink():
                await driver.networks.remove_parent(correction.name)
            case DeleteStray():
                await driver.kernel.delete(correction.name)
            case DeleteNetwork():
                await self._delete_network(correction)
            case DeleteEndpoint():
                await self._delete_endpoint(correction, engine, grace)
            case GiveBackAddress() if correction.network:
                await driver.addresses.end_claims(correction.address, correction.network)
            case GiveBackAddress():
                await driver.addresses.give_back(correction.address)
            case GiveBackPool():
                await driver.pools.give_back(correction.pool)
            case ForgetNetwork():
                await driver.pools.drop_network(correction.network, if_empty=True, subnets=correction.subnets)
            case RestorePool() | HoldAddress() | ClaimAddress() if correction.pool.driver:
                await self._claim_foreign(correction, engine)
            case RestorePool():
                restore = partial(driver.claims.restore_pool, correction.pool)
                await driver.networks.while_known(correction.network, restore)
            case HoldAddress():
                await driver.claims.hold(correction.pool, ip_address(correction.address))
            case ClaimAddress():
                await self._claim_address(correction)
            case AdoptNetwork():
                await self._adopt_network(correction.network)
            case AdoptEndpoint():
                await self._adopt_endpoint(correction, engine)
            case _:
                assert_never(correction)

    async def _delete_network(self, correction: DeleteNetwork) -> None:
        for endpoint in await self._driver.networks.endpoints(correction.network):
            await self._refuse_if_in_use(endpoint)
        # that it was removed is a guess, from which nothing follows for other hosts
        await self._driver.networks.delete(correction.network, everywhere=False)

    async def _delete_endpoint(self, correction: DeleteEndpoint, engine: Engine | None, grace: float) -> None:
        if self._driver.liveness.was_requested(correction.endpoint, grace):
            raise Conflict(f"{correction.subject} was requested by the engine just now")
        for endpoint in await self._driver.networks.endpoints(correction.network):
            if endpoint.id == correction.endpoint:
                await self._delete_direct_link(endpoint, engine)
                await self._refuse_if_in_use(endpoint)
        await self._driver.endpoints.delete(correction.network, correction.endpoint, release_follows=False)

    async def _claim_address(self, correction: ClaimAddress) -> None:
        if correction.holder.kind == "endpoint":  # it may have gone meanwhile
            await self._driver.endpoints.claim_again(correction.holder.endpoint)
            return
        address = ip_address(correction.address)
        claim = partial(self._driver.claims.claim, correction.pool, address, correction.holder)
        await self._driver.networks.while_known(correction.network, claim)

    async def _claim_foreign(self, correction: RestorePool | HoldAddress | ClaimAddress, engine: Engine | None) -> None:
        """Claim a pool or an address of a network of another driver, if the engine has that still."""
        claims, pool = self._driver.claims, correction.pool
        if engine and any(each.id == pool.network for each in await engine.every_network()):
            match correction:
                case RestorePool():
                    await claims.restore_pool(pool)
                case HoldAddress():
                    await claims.hold(pool, ip_address(correction.address))
                case ClaimAddress():
                    await claims.claim(pool, ip_address(correction.address), correction.holder)

    async def _end_removed(self, done: Iterable[Correction], engine: Engine) -> None:
        """End what was claimed for networks of other drivers that were removed meanwhile: nobody knew of them then."""
        claims = (each for each in done if isinstance(each, RestorePool | HoldAddress | ClaimAddress))
        claimed = {each.pool.network for each in claims if each.pool.driver}
        if claimed:
            for network in sorted(claimed - {each.id for each in await engine.every_network()}):
                await self._driver.pools.end_foreign(network)

    async def _adopt_network(self, network: EngineNetwork) -> None:
        request = request_of(network, ours=not network.ipam_driver, host=self._driver.identity.host, at=self._now())
        await self._driver.networks.create(request, strict=False)
        await self._driver.networks.name(network.id, network.name)

    async def _adopt_endpoint(self, correction: AdoptEndpoint, engine: Engine | None) -> None:
        found = correction.endpoint
        request = EndpointRequest.read(correction.network, found.id, found.address, found.address6, found.mac)
        sandbox = await engine.sandbox(found.container_id) if engine and found.container_id else ""
        if found.container_id and not sandbox:
            raise NotFound(f"container {found.container} has gone meanwhile")
        await self._driver.endpoints.adopt(request, sandbox=sandbox, container=found.container)


def _subnets_of(network: NetworkRecord) -> Iterator[SpaceSubnet]:
    return ((each.space, each.subnet) for each in network.subnets if each.space)


def _fixed(networks: Iterable[NetworkRecord], seen: Collection[SpaceSubnet]) -> Iterator[tuple[str, str]]:
    """The gateways and aux addresses of networks, but in the subnets of which all addresses were seen."""
    for subnet in (each for network in networks for each in network.subnets):
        if subnet.space and (subnet.space, subnet.subnet) not in seen:
            yield from ((subnet.space, each) for each in dict.fromkeys((subnet.gateway, *subnet.aux.values())) if each)
