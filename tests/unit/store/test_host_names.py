"""Addresses of members of a store that are given by name."""

import threading
from collections.abc import Iterator

import pytest

from macvlan_global.store.remote.host_names import HostNames

TOO_LARGE = 1 << 46
"""Bytes of a stack that no process can have: no thread can be started with it."""


@pytest.fixture
def no_threads() -> Iterator[None]:
    """A process that can have no more threads."""
    usual = threading.stack_size(TOO_LARGE)
    yield
    threading.stack_size(usual)


async def test_a_name_without_a_thread_to_ask_for_it(no_threads: None) -> None:
    """The limit of the service's tasks plays it: an error of the connection, so that another member is tried."""
    with pytest.raises(OSError, match="the name localhost cannot be resolved: can't start new thread"):
        await HostNames().resolve("localhost", 80)


async def test_a_known_name_keeps_its_addresses_without_a_thread() -> None:
    """As if the resolver did not answer."""
    names = HostNames(seconds=30)
    known = await names.resolve("localhost", 80)
    usual = threading.stack_size(TOO_LARGE)
    try:
        assert await names.resolve("localhost", 80) == known != []
    finally:
        threading.stack_size(usual)
