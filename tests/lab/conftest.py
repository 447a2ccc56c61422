"""The lab's own tests: root, real namespaces, real engines, a real guest kernel."""

import pytest

from lab import reap_leftovers


@pytest.fixture(scope="session", autouse=True)
def _clean_start() -> None:
    """Start from nothing: what an interrupted run left behind goes first."""
    reap_leftovers()
