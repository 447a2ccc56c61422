"""Shared by all suites: number of examples of hypothesis, leftovers of the lab, and tests for the guest kernel.

Hypothesis is bounded, without a deadline, and draws the same examples every time in CI. `make test` draws the full
number. `make unit` is run after every change and draws a twentieth: it sets `MACVLAN_GLOBAL_TESTS_BRIEF`, and so does
the run that measures coverage.

Tests marked `virtual_time` run on an event loop where waiting takes no time.

Tests that want kernel modules which this kernel lacks run in the guest kernel instead. Tests marked `by_turns` run on
one engine, unless `MACVLAN_GLOBAL_TESTS_EVERY_ENGINE` is 1.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lab import ENGINES, kernel_has, reap_leftovers
from lab.again import notes
from testkit.brief import BRIEF
from testkit.virtual_time import LoopbackLoop
from tests.property.examples import FULL

settings.register_profile(
    "bounded",
    max_examples=FULL,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    # a driver over fakes is built for each example, inside the test: nothing is shared between examples
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("brief", settings.get_profile("bounded"), max_examples=FULL // 20)
settings.load_profile("brief" if BRIEF else "bounded")

NO_LAB = ("unit", "property", "simulation")
"""Folders whose tests make nothing on the host: neither root nor the lab is needed."""

IN_GUEST_ONLY = "MACVLAN_GLOBAL_TESTS_GUEST"
"""Set in the guest: only the tests that the kernel outside could not run are wanted there."""

EVERY_ENGINE = "MACVLAN_GLOBAL_TESTS_EVERY_ENGINE"
"""Set by hand: tests that run on the engines by turns run on each of them."""


@pytest.fixture(scope="session", autouse=True)
def _clean_start(request: pytest.FixtureRequest) -> None:
    """Start from nothing: what an interrupted run left behind goes first."""
    here = Path(__file__).parent
    if any(item.path.relative_to(here).parts[0] not in NO_LAB for item in request.session.items):
        reap_leftovers()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The kind of event loop of a test."""
    if item.get_closest_marker("virtual_time"):
        return {"virtual": LoopbackLoop}
    return {"real": asyncio.new_event_loop}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what this kernel can run; in the guest, only what the one outside could not."""
    in_guest = os.environ.get(IN_GUEST_ONLY) == "1"
    if in_guest:
        keep = _by_turns([item for item in items if _wants_guest(item)])
    else:
        keep = [item for item in items if not _wants_guest(item) or _kernel_can(item)]
        if os.environ.get(EVERY_ENGINE) != "1":
            turning = [item for item in keep if item.get_closest_marker("by_turns")]
            passed_over = set(turning).difference(_by_turns(turning))
            keep = [item for item in keep if item not in passed_over]
    if len(keep) < len(items):
        kept = set(keep)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = keep


def _by_turns(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Each test on one of the engines that it has a case for, the next test on the next one.

    In the slow guest that halves the time: the links which the kernel outside lacks are made by us, and what an engine
    does with a container's link is tested outside, on each engine. A kernel that has such links runs all cases. Outside
    it is done with long tests whose subject is not the engine: crashes of the driver, names, nodes that die.
    """
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        cases.setdefault(item.nodeid.partition("[")[0] if _engine_of(item) else item.nodeid, []).append(item)
    return [each[number % len(each)] for number, each in enumerate(cases.values())]


def _engine_of(item: pytest.Item) -> str:
    """Label of the engine in the test's id, "" if it names none."""
    return next((label for label in ENGINES if label in item.nodeid.partition("[")[2]), "")


def _wants_guest(item: pytest.Item) -> bool:
    return item.get_closest_marker("needs") is not None


def _kernel_can(item: pytest.Item) -> bool:
    return all(kernel_has(kind) for mark in item.iter_markers("needs") for kind in mark.args)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what began again since an engine had not time enough: tests that pass print nothing."""
    if notes:
        terminalreporter.section("began again, as an operator would")
        for line in notes:
            terminalreporter.write_line(line)
