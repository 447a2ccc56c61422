"""The host of the pages, shared by those who type their commands and run their files."""

from collections.abc import Iterator

import pytest

from lab.site import Site, links
from tests.docs.session import host_of_the_pages


@pytest.fixture(scope="session")
def _running() -> Iterator[Site]:
    with host_of_the_pages() as site:
        yield site


@pytest.fixture
def site(_running: Site) -> Iterator[Site]:
    """The host of the pages; afterwards nothing may be left on it."""
    yield _running
    _running.clean()
    assert _running.driver.admin.addresses() == []
    assert [name for name in links(_running.host) if name not in {"lo", "eth0", "eth1"}] == []
