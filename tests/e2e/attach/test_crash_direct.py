"""The driver dies before every single change, while links are made inside containers and taken out of them."""

from collections.abc import Iterator

import pytest

from lab import ENGINES
from lab.process import wait_until
from tests.e2e.attach.legs_seen import names
from tests.e2e.crash_site import CrashSite, crash_at_every_change


@pytest.fixture(scope="module")
def inside() -> Iterator[CrashSite]:
    """A host with the newest engine, on whose networks links are made inside."""
    with CrashSite.with_talk(ENGINES[-1]) as site:
        site.options = ("-oifname=lan",)
        yield site


def test_a_link_that_is_made_inside_survives_a_crash_at_every_change(inside: CrashSite) -> None:
    """A container that was being started runs with its addresses, or holds none."""
    crash_at_every_change(inside, inside.with_network, inside.start_container, at_least=6)
    inside.with_container()
    assert names(inside, "one") == ["lan0"]
    assert "0% packet loss" in inside.run("mac", "alpine", "ping", "-c1", "-W2", "192.168.1.10")


def test_the_removal_of_a_link_inside_survives_a_crash_at_every_change(inside: CrashSite) -> None:
    """A container that was being removed gives its addresses back."""
    crash_at_every_change(inside, inside.with_container, inside.without_container, at_least=5)


def test_a_connect_survives_a_crash_at_every_change(inside: CrashSite) -> None:
    """A container that runs is connected whole, or not at all."""
    crash_at_every_change(inside, inside.with_bird_apart, inside.connect_bird, at_least=6)
    assert names(inside, "bird") == (["eth0", "lan0"] if inside.has_bird() else ["eth0"])


def test_a_disconnect_survives_a_crash_at_every_change(inside: CrashSite) -> None:
    """A container that runs is disconnected whole: its link goes, and its addresses are given back."""
    crash_at_every_change(inside, inside.with_bird_on_it, inside.disconnect_bird, at_least=5)
    wait_until(lambda: names(inside, "bird") == ["eth0"], "end of the second link of bird")
