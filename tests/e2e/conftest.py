"""A host with a real engine and our driver, for each engine version."""

import os
from collections.abc import Iterator
from typing import Literal

import pytest

from lab import ENGINES, Host, Wire
from lab.driver import Driver
from lab.process import wait_until
from lab.site import Site, links


def _scope(fixture_name: str, config: pytest.Config) -> Literal["session", "module"]:
    """In the slow guest kernel all modules share a host; elsewhere each has its own."""
    del fixture_name, config
    return "session" if os.environ.get("MACVLAN_GLOBAL_TESTS_GUEST") == "1" else "module"


@pytest.fixture(scope=_scope, params=ENGINES)
def _running(request: pytest.FixtureRequest) -> Iterator[Site]:
    with Wire() as wire, Wire() as other_wire, Host("e2e") as host:
        wire.plug(host)
        other_wire.plug(host, "eth0")
        driver = Driver(host)
        driver.start()
        host.start_engine(request.param)
        yield Site(wire, host, driver, request.param)
        driver.stop()


@pytest.fixture
def site(_running: Site) -> Iterator[Site]:
    """A host with engine and driver, shared by a module's tests; afterwards nothing may be left on it.

    It has eth1 and eth0, each on a wire of its own.
    """
    before = links(_running.host)
    yield _running
    _running.clean()
    assert _running.driver.admin.addresses() == []
    assert _running.driver.admin.networks() == []
    wait_until(lambda: _running.state() == [], "end of all records", explain=lambda: str(_running.state()))
    assert links(_running.host) == before
