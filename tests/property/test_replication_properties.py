"""Networks of two hosts under operators who come and go, with views of the store that lag, and a store restored."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from macvlan_global.errors import Conflict
from macvlan_global.reconcile.engine_follower import learn_names
from macvlan_global.replication import decide
from macvlan_global.replication.apply import Executor
from macvlan_global.replication.definition import cluster_id
from macvlan_global.replication.mirror import MirroredTable
from macvlan_global.replication.observe import Observer
from macvlan_global.replication.replicator import Replicator
from macvlan_global.store.memory import MemoryStore, Saved
from macvlan_global.store.records import DefinitionRecord, IdentityRecord, RemovedRecord
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_engine import OUR_DRIVER, Subnet
from tests.property.examples import examples

NAMES = ("lan",)
HOSTS = ("a", "b")
"""Few, so that what is rare meets: names do not touch each other, and a third host sees what the second one does."""
ENOUGH = 60
"""Steps after which whatever is not settled never will be."""

T = TypeVar("T")
host_names, network_names = st.sampled_from(HOSTS), st.sampled_from(NAMES)


class _Host:
    """An engine, and what replication on it knows and does, one step at a time."""

    def __init__(self, name: str, host: ClusterHost, store: MemoryStore) -> None:
        self.host = host
        self.engine = host.engine
        self.tables = tables = host.driver.tables
        self.definitions = MirroredTable[DefinitionRecord](store, tables.definitions, lambda _: None, lambda: None)
        self.removed = MirroredTable[RemovedRecord](store, tables.removed, lambda _: None, lambda: None)
        mirrors = (self.definitions, self.removed)
        networks = host.driver.networks
        self.observer = Observer(tables, self.engine, *mirrors, host=name, now=host.clock)
        self.executor = Executor(tables, self.engine, networks, *mirrors)
        self.on_engine_up = Replicator(store, tables, self.engine, networks, name, now=host.clock).on_engine_up
        self.containers = 0

    async def learn(self) -> None:
        """What networks are called, as the driver learns from the engine's events."""
        await learn_names(self.host.driver, self.engine)

    async def refresh(self) -> None:
        """The watches caught up."""
        for mirror, rows in (
            (self.definitions, await self.tables.definitions.scan()),
            (self.removed, await self.tables.removed.scan()),
        ):
            mirror.rows.clear()
            for row in rows:
                with mirror.asking(row.entry.key.rpartition("/")[2]) as question:
                    mirror.put(question, row)  # type: ignore[arg-type]

    async def step(self, name: str) -> decide.Action:
        """Look at a name once."""
        before = self.engine.has(name)
        action = decide.decide(await self.observer.observe(name))
        if isinstance(action, decide.Remove):
            assert before, "what is removed is there"
            assert not before.endpoints, "a network with containers is left alone"
        await self.executor.apply(action)
        if isinstance(action, decide.InConflict | decide.Keep | decide.Settled | decide.Wait):
            assert self.engine.has(name) == before, "nothing is touched"
        return action


class Cluster(RuleBasedStateMachine):
    """Operations on any host, between steps of replication on any host."""

    @initialize()
    def begin(self) -> None:
        """Two hosts without networks."""
        self.loop = asyncio.new_event_loop()
        rig = self._do(ClusterRig.build(new_ids=True))
        self.clock, self.store = rig.clock, rig.shared
        self.hosts = {name: _Host(name, self._do(rig.host(name)), self.store) for name in HOSTS}
        for name, host in self.hosts.items():
            self._do(host.tables.identity.put(IdentityRecord(id=name), "this"))
            self._do(host.on_engine_up())
        self.made = 0
        self.dismissed: set[str] = set()
        """Ids in the cluster of networks that an operator removed somewhere."""
        self.mine: dict[str, tuple[str, str]] = {}
        """Networks that an operator made and nobody removed, by their ids: host and name."""
        self.saved: Saved | None = None
        self.restored = False

    def _do(self, what: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(what)

    @rule(host=host_names, name=network_names, ours=st.sampled_from([True, True, True, False]))
    def create(self, host: str, name: str, *, ours: bool) -> None:
        """`docker network create`, seldom with another driver."""
        on = self.hosts[host]
        if on.engine.has(name) is None and on.host.plugin.runs:
            self.made += 1
            subnet, driver = Subnet(f"10.{self.made}.0.0/24"), OUR_DRIVER if ours else "bridge"
            made = self._do(on.engine.create_network(name, subnet, options={"parent": "eth0"}, driver=driver))
            self._do(on.learn())
            self.mine[made] = (host, name)

    @rule(host=host_names, name=network_names)
    def remove(self, host: str, name: str) -> None:
        """`docker network rm`. A copy that goes in the moment before it is noted as made comes back."""
        on = self.hosts[host]
        found = on.engine.has(name)
        if found and not found.endpoints:
            row = self._do(on.tables.networks.get(found.id))
            self._do(on.engine.remove_network(name))
            if cluster_id(found) == found.id or (row and row.record.published):
                self.dismissed.add(cluster_id(found))
            self.mine.pop(found.id, None)

    @rule(host=host_names, name=network_names)
    def start_container(self, host: str, name: str) -> None:
        """A container on whatever network has the name."""
        on = self.hosts[host]
        if on.engine.has(name) and on.host.plugin.runs:
            on.containers += 1
            self._do(on.engine.run(f"{host}{on.containers}", name))

    @rule(host=host_names, name=network_names)
    def use_it_elsewhere(self, host: str, name: str) -> None:
        """The usual case: all are up to date, and one host has containers when another one's operator removes."""
        self.all_catch_up("nobody")
        self.start_container(host, name)
        for other in HOSTS:
            self.remove(other, name)

    @rule(host=host_names)
    def stop_containers(self, host: str) -> None:
        """All of a host."""
        on = self.hosts[host]
        for name in list(on.engine.containers):
            self._do(on.engine.stop(name))

    @rule(host=host_names, runs=st.sampled_from([True, True, True, False]))
    def driver(self, host: str, *, runs: bool) -> None:
        """It is stopped or started; the engine goes on without it."""
        self.hosts[host].host.plugin.runs = runs

    @rule(host=host_names)
    def lose_engine(self, host: str) -> None:
        """Its data are gone; what it had is made again, unless only this host had it. So is what was removed while
        its driver did not run: nobody knows of that any more."""
        on = self.hosts[host]
        on.engine.lose_data()
        forgotten = self.dismissed - {row.record.id for row in self._do(on.tables.removed.scan())}
        self.dismissed -= forgotten
        self.mine = {made: where for made, where in self.mine.items() if where[0] != host and made not in forgotten}

    @rule(host=host_names)
    def engine_comes(self, host: str) -> None:
        """The driver hears of its engine; until then it acts on what it knew."""
        self._do(self.hosts[host].on_engine_up())

    @rule(host=host_names)
    def watches_catch_up(self, host: str) -> None:
        """Until then a host acts on what it knew."""
        self._do(self.hosts[host].refresh())

    @rule(aside=st.sampled_from((*HOSTS, "nobody", "nobody")))
    def all_catch_up(self, aside: str) -> None:
        """Everybody does all there is to do, but one whose watches hang."""
        for _ in range(3):
            for host in HOSTS:
                if host != aside and self.hosts[host].host.plugin.runs:
                    self._do(self.hosts[host].refresh())
                    for name in NAMES:
                        self._step(host, name)

    @rule(host=host_names, name=network_names)
    def replicate(self, host: str, name: str) -> None:
        """One step of a running driver."""
        if self.hosts[host].host.plugin.runs:
            self._step(host, name)

    @rule(seconds=st.sampled_from([1.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        """Young records grow old."""
        self.clock.advance(seconds)

    @precondition(lambda self: self.saved is None)
    @rule()
    def save(self) -> None:
        """A snapshot of the store."""
        self.saved = self.store.save()

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self) -> None:
        """The store is what it was; a network that was removed since may come back, and be removed again."""
        assert self.saved
        self.store.restore(self.saved)
        self.saved, self.restored = None, True

    @invariant()
    def nothing_vanishes(self) -> None:
        """A network that an operator created is there until an operator removes it, wherever that is told first."""
        for made, (host, name) in self.mine.items():
            found = self.hosts[host].engine.has(name)
            assert made in self.dismissed or (found and found.id == made)

    def teardown(self) -> None:
        """Once everything runs and all views are fresh, all hosts agree."""
        if hasattr(self, "loop"):
            try:
                self._settle()
                self._agree()
            finally:
                self.loop.close()

    def _settle(self) -> None:
        self.clock.advance(120)
        for host in HOSTS:
            self.hosts[host].host.plugin.runs = True
            self.stop_containers(host)
            self.engine_comes(host)
        for _ in range(ENOUGH):
            actions = []
            for host in HOSTS:
                self._do(self.hosts[host].refresh())
                actions += [self._step(host, name) for name in NAMES]
            if all(isinstance(each, decide.Settled | decide.InConflict) for each in actions):
                return
        raise AssertionError(f"this goes on for ever: {actions}")

    def _agree(self) -> None:
        for name in NAMES:
            row = self._do(self.hosts["a"].tables.definitions.get(name))
            for host in self.hosts.values():
                found = host.engine.has(name)
                if row and (found is None or not found.driver):
                    assert found, f"{name} is missing"
                    conflicts = isinstance(self._do(host.step(name)), decide.InConflict)
                    assert conflicts or cluster_id(found) == row.record.id
                elif row is None:
                    assert found is None or found.driver, f"{name} is of nobody"
                if row and not self.restored:
                    assert row.record.id not in self.dismissed, f"{name} came back"
                if found and not self.restored:
                    assert cluster_id(found) not in self.dismissed, f"{name} was removed"

    def _step(self, host: str, name: str) -> decide.Action:
        try:
            return self._do(self.hosts[host].step(name))
        except Conflict as error:  # the engine has the name meanwhile, or containers
            return decide.Wait(str(error))


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=examples(200), stateful_step_count=30, deadline=None)
