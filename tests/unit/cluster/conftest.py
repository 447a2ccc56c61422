"""Tests of this room run on virtual time: leases, grace periods and retries take none."""

import asyncio
from collections.abc import Callable, Mapping

from testkit.virtual_time import VirtualLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """For pytest-asyncio: the loop of every test below this folder."""
    return {"virtual": VirtualLoop}
