"""Gathers what a repair rests on, and applies its corrections one by one."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from functools import singledispatchmethod

from macvlan_global.driver.driver import Driver
from macvlan_global.driver.endpoints import EndpointRequest, describe_endpoint
from macvlan_global.driver.requests import NetworkRequest, SubnetRequest
from macvlan_global.engine.ports import Engine, EngineNetwork
from macvlan_global.errors import Conflict, Internal, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.reconcile import plan as r
from macvlan_global.store.records import EndpointRecord

log = logging.getLogger(__name__)


class Reconciler:
    """Puts right what a crash left behind. Safe beside requests of the engine."""

    def __init__(
        self,
        driver: Driver,
        *,
        grace: float,
        our_ipam: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`grace` in seconds; `our_ipam` is the name of our IPAM driver in the engine."""
        self._driver = driver
        self.grace = grace
        self._our_ipam = our_ipam
        self._now = now
        self._mending = asyncio.Lock()
        self.problems: list[str] = []
        """What the last repair could not put right, in words."""
        self._unclaimed: dict[str, list[str]] = {}  # endpoints by id, and which of these words are about them

    async def look(self, engine: Engine | None, grace: float | None = None) -> list[r.Correction]:
        """What would be corrected. Without an engine, or if it does not answer, only what the kernel proves.

        `grace` in seconds stands in for the configured one.
        """
        seen: tuple[EngineNetwork, ...] | None = None
        # the engine is asked after the state is read: what it learnt meanwhile is then never taken for unknown to it
        facts = await self._facts(self.grace if grace is None else grace)
        if engine:
            try:
                seen = tuple(await engine.networks())
            except Unavailable as error:
                log.info("repair goes without the engine: %s", error)
        return r.plan(facts(seen))

    async def mend(self, engine: Engine | None, grace: float | None = None) -> list[r.Correction]:
        """Correct, and say what was corrected. One that fails is logged and the others go on."""
        async with self._mending:  # two at once would both do what one does
            return await self._correct(engine, grace)

    async def claim_again(self) -> None:
        """Try once more to claim the addresses that endpoints use and that the last repair found with others.

        They are given back some time, and must not go to third ones then. This costs a look at these addresses only.
        """
        async with self._mending:
            for endpoint, words in list(self._unclaimed.items()):
                with contextlib.suppress(MacvlanGlobalError):
                    await self._driver.endpoints.claim_again(endpoint)
                    log.info("repair: endpoint %s has its addresses again, or is gone", endpoint[:12])
                    del self._unclaimed[endpoint]
                    self.problems = [each for each in self.problems if each not in words]

    async def _correct(self, engine: Engine | None, grace: float | None) -> list[r.Correction]:
        await self._driver.attacher.remover.finish()
        done = []
        problems = []
        unclaimed: dict[str, list[str]] = {}
        for correction in await self.look(engine, grace):
            try:
                await self._apply(correction, engine)
            except MacvlanGlobalError as error:
                log.warning("repair: %s (%s) failed: %s", correction.subject, correction.reason, error)
                problems.append(f"{correction.subject} ({correction.reason}): {error}")
                if isinstance(correction, r.ClaimAddress) and correction.holder.endpoint:
                    unclaimed.setdefault(correction.holder.endpoint, []).append(problems[-1])
            else:
                log.info("repair: %s %s: %s", type(correction).__name__, correction.subject, correction.reason)
                done.append(correction)
        self.problems, self._unclaimed = problems, unclaimed
        return done

    async def _facts(self, grace: float) -> Callable[[tuple[EngineNetwork, ...] | None], r.ReconcileFacts]:
        now = self._now()
        # what is held is read before who holds it: who comes in between is then never taken for missing. And who was
        # there before surely held something.
        settled = {each.id for each in await self._driver.endpoints.all()}
        settled |= {each.id for each in await self._driver.networks.all() if each.subnets}
        shared = await self._shared()
        owned = tuple((await self._driver.owned.owned()).values())
        links = {link.name: link for link in await self._driver.kernel.links()}
        endpoints = tuple(await self._driver.endpoints.all())
        networks = tuple(await self._driver.networks.all())
        later = self._now()
        return lambda engine: r.ReconcileFacts(
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
            engine=engine,
            later=later,
        )

    async def _shared(self) -> r.Shared | None:
        tables = self._driver.tables
        try:
            return r.Shared(
                addresses=tuple(await self._driver.pools.addresses()),
                pools=tuple(await self._driver.pools.pools()),
                removed=frozenset(row.record.id for row in await tables.removed.scan()),
                defined=frozenset(row.record.id for row in await tables.definitions.scan()),
            )
        except Unavailable as error:
            log.info("repair goes without the store: %s", error)
            return None

    async def _take_what_was_left(self, endpoint: EndpointRecord, engine: Engine | None) -> None:
        """Delete a link that we made inside a container of the engine, which does not know it: it would stay for good.

        That the engine runs the container is asked, as it may be another one than that which asked for the link.
        """
        # most endpoints that the engine does not know ended with their containers: only for the others it is asked
        if not (engine and endpoint.is_inside and await self._driver.endpoints.is_in_use(endpoint)):
            return
        if endpoint.sandbox in await engine.sandboxes():
            await self._driver.attacher.take_out(endpoint)

    async def _refuse_if_in_use(self, endpoint: EndpointRecord) -> None:
        """The engine may be another one, or know less than it should: what the kernel shows in use is left alone."""
        if await self._driver.endpoints.is_in_use(endpoint):
            raise Conflict(f"{describe_endpoint(endpoint)} is in use, though the engine does not know it")

    @singledispatchmethod
    async def _apply(self, correction: r.Correction, engine: Engine | None) -> None:
        raise Internal(f"no way to apply {type(correction).__name__}")

    @_apply.register
    async def _(self, correction: r.RestoreLink, _engine: Engine | None) -> None:
        await self._driver.owned.restore(correction.link)

    @_apply.register
    async def _(self, correction: r.RemoveLink, _engine: Engine | None) -> None:
        await self._driver.networks.remove_parent(correction.name)

    @_apply.register
    async def _(self, correction: r.DeleteStray, _engine: Engine | None) -> None:
        await self._driver.kernel.delete(correction.name)

    @_apply.register
    async def _(self, correction: r.DeleteNetwork, _engine: Engine | None) -> None:
        for endpoint in await self._driver.networks.endpoints(correction.network):
            await self._refuse_if_in_use(endpoint)
        # that it was removed is a guess, from which nothing follows for other hosts
        await self._driver.networks.delete(correction.network, everywhere=False)

    @_apply.register
    async def _(self, correction: r.DeleteEndpoint, engine: Engine | None) -> None:
        for endpoint in await self._driver.networks.endpoints(correction.network):
            if endpoint.id == correction.endpoint:
                await self._take_what_was_left(endpoint, engine)
                await self._refuse_if_in_use(endpoint)
        await self._driver.endpoints.delete(correction.network, correction.endpoint, release_follows=False)

    @_apply.register
    async def _(self, correction: r.GiveBackAddress, _engine: Engine | None) -> None:
        await self._driver.pools.give_back(correction.address)

    @_apply.register
    async def _(self, correction: r.GiveBackPool, _engine: Engine | None) -> None:
        await self._driver.pools.give_back_pool(correction.pool)

    @_apply.register
    async def _(self, correction: r.ForgetNetwork, _engine: Engine | None) -> None:
        await self._driver.pools.drop_network(correction.network, if_empty=True)

    @_apply.register
    async def _(self, correction: r.RestorePool, _engine: Engine | None) -> None:
        await self._driver.pools.restore_pool(correction.pool)

    @_apply.register
    async def _(self, correction: r.ClaimAddress, _engine: Engine | None) -> None:
        if correction.holder.kind == "endpoint":  # it may have gone meanwhile
            await self._driver.endpoints.claim_again(correction.holder.endpoint)
            return
        await self._driver.pools.claim(correction.pool, correction.address, correction.holder)

    @_apply.register
    async def _(self, correction: r.AdoptNetwork, _engine: Engine | None) -> None:
        network = correction.network
        ours = network.ipam_driver == self._our_ipam
        held = {pool.subnet for pool in await self._driver.pools.pools() if pool.network == network.id}
        for subnet in network.subnets if ours else ():
            if subnet.subnet in held:  # only the network was lost
                continue
            await self._driver.pools.request_pool(
                subnet.subnet, subnet.range, network.ipam_options, ipv6=":" in subnet.subnet
            )
        wanted = NetworkRequest(
            id=network.id,
            options=network.options,
            internal=network.internal,
            subnets=tuple(
                SubnetRequest(DEFAULT_SPACE if ours else "", each.subnet, each.gateway, each.aux)
                for each in network.subnets
            ),
        )
        await self._driver.networks.create(wanted, strict=False)
        await self._driver.networks.name(network.id, network.name)

    @_apply.register
    async def _(self, correction: r.AdoptEndpoint, engine: Engine | None) -> None:
        found = correction.endpoint
        wanted = EndpointRequest(correction.network, found.id, found.address, found.address6, found.mac)
        sandbox = await engine.sandbox(found.container_id) if engine and found.container_id else ""
        if found.container_id and not sandbox:
            raise NotFound(f"container {found.container} has gone meanwhile")
        await self._driver.endpoints.adopt(wanted, sandbox=sandbox, container=found.container)
