"""The driver dies by SIGKILL before every single change it makes, and is started again: nothing is left over."""

from collections.abc import Iterator

import pytest

from lab import ENGINES
from tests.e2e.crash_site import CrashSite, crash_at_every_change

pytestmark = pytest.mark.by_turns


@pytest.fixture(scope="module", params=ENGINES)
def crash(request: pytest.FixtureRequest) -> Iterator[CrashSite]:
    """A host with an engine, a driver that can be told to die, and two containers that talk throughout."""
    with CrashSite.with_talk(request.param) as site:
        yield site


def test_network_create_survives_a_crash_at_every_change(crash: CrashSite) -> None:
    """A network that was being created is there whole, or not at all."""
    crash_at_every_change(crash, crash.without_network, crash.create_network, at_least=8)


def test_container_start_survives_a_crash_at_every_change(crash: CrashSite) -> None:
    """A container that was being started runs with its addresses, or holds none."""
    crash_at_every_change(crash, crash.with_network, crash.start_container, at_least=7)
    crash.with_container()
    assert "0% packet loss" in crash.run("mac", "alpine", "ping", "-c1", "-W2", "192.168.1.10")


def test_container_removal_survives_a_crash_at_every_change(crash: CrashSite) -> None:
    """A container that was being removed gives its addresses back."""
    crash_at_every_change(crash, crash.with_container, crash.without_container, at_least=5)


def test_network_removal_survives_a_crash_at_every_change(crash: CrashSite) -> None:
    """A network that was being removed leaves nothing behind."""
    crash_at_every_change(crash, crash.with_network, crash.remove_network, at_least=4)
