"""The parts of the page, wired: the report of this host, the live feed, and the server."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from macvlan_global.admin.http_listener import split_address
from macvlan_global.admin.views import Views
from macvlan_global.config import Config
from macvlan_global.doctor.findings import Finding
from macvlan_global.driver.driver import Driver
from macvlan_global.store.notify import NotifyingStore
from macvlan_global.store.ports import ClusterStore, Entry
from macvlan_global.web.access import is_loopback, load_token
from macvlan_global.web.reporter import HostReporter

if TYPE_CHECKING:  # a host of a cluster without a page needs the report alone
    from macvlan_global.web.feed import LiveFeed
    from macvlan_global.web.server import PageServer

Examine = Callable[[Config], list[Finding]]


class Page:
    """The page of this host. Without `page` in the configuration it is no more than the report for other hosts."""

    def __init__(
        self, reporter: HostReporter, feed: "LiveFeed | None" = None, server: "PageServer | None" = None
    ) -> None:
        """Both `feed` and `server`, or none of them."""
        self._reporter = reporter
        self._feed = feed
        self._server = server

    @classmethod
    def build(
        cls,
        config: Config,
        driver: Driver,
        views: Views,
        local: NotifyingStore,
        shared: ClusterStore | None,
        *,
        look: Examine | None = None,
    ) -> Self:
        """Wire the parts; nothing runs yet. `local` is the store of this host, which tells of its writes,
        and `shared` the cluster store; `look` is the doctor, another one for tests.

        Raises:
            Unavailable: the file of the token cannot be used.
        """
        doctor = look or examine_host
        reporter = HostReporter(views, driver, lambda: asyncio.to_thread(doctor, config), wanted=views.pages)
        local.on_change = reporter.on_entry
        views.tell_of_problems(reporter.on_problems)
        if not config.page:
            return cls(reporter)
        # imported here: see above
        from macvlan_global.web.api import PageData  # noqa: PLC0415
        from macvlan_global.web.feed import LiveFeed  # noqa: PLC0415
        from macvlan_global.web.server import PageServer  # noqa: PLC0415

        feed = LiveFeed(views, driver, shared)

        def tell(key: str, entry: Entry | None) -> None:
            reporter.on_entry(key, entry)
            feed.on_entry(key, entry)

        def tell_of_problems() -> None:
            reporter.on_problems()
            feed.on_problems()

        local.on_change = tell
        views.tell_of_problems(tell_of_problems)
        reporter.on_change = feed.on_report
        host, _ = split_address(config.page)
        token = "" if is_loopback(host) else load_token(Path(config.state_dir))
        views.page_token = token
        data = PageData(views, driver, reporter)
        own = config.effective_host_name()
        server = PageServer(data, feed, config.page, own_name=own, token=token)
        views.listeners.append(lambda: server.listener.problem)
        return cls(reporter, feed, server)

    async def start(self) -> None:
        """Begin to serve; see `HttpListener.start`."""
        if self._server:
            await self._server.start()

    async def stop(self) -> None:
        """Stop serving. Idempotent."""
        if self._server:
            await self._server.stop()

    async def run(self) -> None:
        """Report and follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reporter.run())
            if self._feed:
                tasks.create_task(self._feed.run())
            if self._server:
                tasks.create_task(self._server.run())


def examine_host(config: Config) -> list[Finding]:
    """The doctor's findings about this host. Blocks for some tenths of a second: for a thread."""
    # imported here: in that thread, and not while the driver starts
    from macvlan_global.doctor.examine import examine  # noqa: PLC0415
    from macvlan_global.doctor.gather import gather  # noqa: PLC0415

    return examine(gather(None, config.admin_socket, os.environ, Path("/"), running=config))
