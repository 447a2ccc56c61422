"""The scope that the engine's labels ask for: read when it answers, remembered when it does not."""

import pytest

from macvlan_global.cluster.identity import load_identity
from macvlan_global.config import scope_of_labels
from macvlan_global.engine.ports import EngineInfo
from macvlan_global.errors import Conflict, Unavailable
from macvlan_global.scope_label import ScopeLabel
from macvlan_global.store.known_engine import KnownEngine
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.table import Tables
from testkit.fake_engine import FakeEngine
from testkit.plugin_calls import InProcess
from testkit.rig import Rig


class Labelled(FakeEngine):
    """An engine with labels; None if it does not answer."""

    labels: tuple[str, ...] | None = ()

    async def info(self) -> EngineInfo:
        """See `Engine.info`."""
        if self.labels is None:
            raise Unavailable("the engine is not there")
        return EngineInfo("28.5.2", (), swarm=False, live_restore=False, labels=self.labels)


async def labelled() -> tuple[ScopeLabel, Labelled, Tables]:
    """A label to ask for, on a host whose identity is known."""
    store = MemoryStore()
    tables = Tables(store, store)
    await load_identity(tables.identity, "machine")
    rig = await Rig.build()
    engine = Labelled(InProcess(rig.driver), rig.kernel)
    return ScopeLabel(KnownEngine(tables), engine), engine, tables


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([], ""),
        (["region=eu"], ""),
        (["macvlan-global.scope=global"], "global"),
        (["region=eu", "macvlan-global.scope=local"], "local"),
        (["com.docker.network.driver.macvlan=global"], "global"),
        (["com.docker.network.driver.macvlan.scope=local"], "local"),
        (["macvlan-global.scope=swarm"], ""),
        (["macvlan-global.scope"], ""),
    ],
)
def test_the_labels_that_count(labels: list[str], expected: str) -> None:
    """Ours, and both that the seed's driver was given."""
    assert scope_of_labels(labels) == expected


async def test_an_engine_that_answers_is_believed() -> None:
    """Now, and by the next run that finds it away."""
    label, engine, tables = await labelled()
    engine.labels = ("macvlan-global.scope=local",)
    assert await label.ask() == "local"
    engine.labels = None
    assert await ScopeLabel(KnownEngine(tables), engine).ask() == "local"


async def test_a_label_that_came_meanwhile_makes_the_driver_start_anew() -> None:
    """It ran with another scope; the next run knows."""
    label, engine, tables = await labelled()
    engine.labels = None
    assert await label.ask() == ""
    hear = label.listen("")
    engine.labels = ("macvlan-global.scope=local",)
    with pytest.raises(Conflict, match="label sets scope local"):
        await hear(None)
    engine.labels = None
    assert await ScopeLabel(KnownEngine(tables), engine).ask() == "local"


async def test_a_scope_that_is_configured_is_stronger() -> None:
    """Whatever the label says."""
    label, engine, _ = await labelled()
    hear = label.listen("global")
    engine.labels = ("macvlan-global.scope=local",)
    await hear(None)
    assert await label.ask() == "local"
