"""What every suite shares: tests that want kernel modules which this kernel lacks run in the guest kernel instead."""

import os

import pytest

from lab import kernel_has, reap_leftovers

IN_GUEST_ONLY = "MACVLAN_GLOBAL_TESTS_GUEST"
"""Set in the guest: only the tests that the kernel outside could not run are wanted there."""


@pytest.fixture(scope="session", autouse=True)
def _clean_start() -> None:
    """Start from nothing: what an interrupted run left behind goes first."""
    reap_leftovers()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what this kernel can run; in the guest, only what the one outside could not."""
    in_guest = os.environ.get(IN_GUEST_ONLY) == "1"
    keep = [item for item in items if in_guest == _wants_guest(item)]
    if not in_guest:
        keep = [item for item in items if not _wants_guest(item) or _kernel_can(item)]
    dropped = [item for item in items if item not in keep]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = keep


def _wants_guest(item: pytest.Item) -> bool:
    return item.get_closest_marker("needs") is not None


def _kernel_can(item: pytest.Item) -> bool:
    return all(kernel_has(kind) for mark in item.iter_markers("needs") for kind in mark.args)
