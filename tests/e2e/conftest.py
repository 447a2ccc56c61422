"""A host with a real engine and our driver, for each engine version."""

from collections.abc import Iterator

import pytest

from lab import ENGINES, Host, Wire
from lab.driver import Driver
from lab.site import Site, links


@pytest.fixture(scope="module", params=ENGINES)
def _running(request: pytest.FixtureRequest) -> Iterator[Site]:
    with Wire() as wire, Host("e2e") as host:
        wire.plug(host)
        driver = Driver(host)
        driver.start()
        host.start_engine(request.param)
        yield Site(wire, host, driver, request.param)
        driver.stop()


@pytest.fixture
def site(_running: Site) -> Iterator[Site]:
    """A host with engine and driver, shared by a module's tests; afterwards nothing may be left on it."""
    yield _running
    _running.clean()
    assert _running.driver.admin.addresses() == []
    assert _running.driver.admin.networks() == []
    leftover = [name for name in links(_running.host) if name.startswith(("mg-", "dm-"))]
    assert leftover == []
