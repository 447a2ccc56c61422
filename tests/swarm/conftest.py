"""A swarm of two nodes with the managed plugin, on each engine."""

from collections.abc import Iterator

import pytest

from lab import ENGINES
from plugin.__main__ import BUILD, is_current, make
from tests.swarm.swarm_site import SwarmSite


@pytest.fixture(scope="session")
def _built() -> None:
    if not is_current(BUILD / "plugin"):
        make(BUILD / "plugin")


@pytest.fixture(scope="session", params=reversed(ENGINES))
def _running(request: pytest.FixtureRequest, _built: None) -> Iterator[SwarmSite]:
    with SwarmSite(request.param, request.param) as swarm:
        yield swarm


@pytest.fixture
def swarm(_running: SwarmSite) -> Iterator[SwarmSite]:
    """A manager and a worker, the same ones for all tests; afterwards nothing may be left on them."""
    yield _running
    _running.clean()
