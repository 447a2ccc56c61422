"""The composition root: builds everything from a configuration, starts it, and stops it in reverse."""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from macvlan_global import __version__
from macvlan_global.admin.server import AdminServer
from macvlan_global.admin.views import Views
from macvlan_global.cluster.identity import begin_run, load_identity, machine_fingerprint, note_clock
from macvlan_global.config import Config, load_access
from macvlan_global.conflicts.service import ConflictService
from macvlan_global.driver.driver import Driver, Settings
from macvlan_global.engine.docker import DockerEngine
from macvlan_global.engine.ports import Engine
from macvlan_global.errors import MacvlanGlobalError, Unavailable
from macvlan_global.ipam.owners import Identity
from macvlan_global.kernel.netlink import NetlinkKernel
from macvlan_global.kernel.ports import Kernel
from macvlan_global.libnetwork.handlers import Handlers
from macvlan_global.libnetwork.server import PluginServer
from macvlan_global.listening import listen, plugin_socket, tell_systemd
from macvlan_global.metrics.counts import Metrics, StoreCounts
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.engine_follower import EngineFollower
from macvlan_global.scope_label import ScopeLabel
from macvlan_global.store.access import StoreAccess, is_cluster
from macvlan_global.store.known_engine import KnownEngine
from macvlan_global.store.metered import MeteredClusterStore, MeteredStore
from macvlan_global.store.notify import NotifyingStore
from macvlan_global.store.open import open_cluster_store, open_store
from macvlan_global.store.ports import ClusterStore, Store
from macvlan_global.store.state_folder import locked_state
from macvlan_global.store.table import Tables
from macvlan_global.tasks import Crowd

if TYPE_CHECKING:  # a host alone does not load it
    from macvlan_global.admin.metrics_server import MetricsServer
    from macvlan_global.global_scope import GlobalScope
    from macvlan_global.web.page import Examine, Page

log = logging.getLogger(__name__)

STEP_SECONDS = 10.0
"""Time for each of the three steps of a start that read the store. The service's TimeoutStartSec is more than all."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The kernel's id of this boot (random(4))."""
    return BOOT_ID.read_text().strip()


class Daemon:
    """The driver. `async with Daemon(config):` serves until the block is left."""

    def __init__(  # noqa: PLR0913 - what it stands on, for tests
        self,
        config: Config,
        *,
        listener: socket.socket | None = None,
        kernel: Kernel | None = None,
        engine: Engine | None = None,
        open_store: Callable[[str, Path], Store] = open_store,
        open_cluster_store: Callable[[str, StoreAccess, Crowd], ClusterStore] = open_cluster_store,
        boot: Callable[[], str] | None = None,
        look: "Examine | None" = None,
        step: float = STEP_SECONDS,
    ) -> None:
        """Other kernels, engines, stores, boots, doctors and times of a step are for tests; nothing is opened yet.

        Args:
            listener: the plugin socket, listening, of a caller who holds the locks of the state too and ends
                both; without it the daemon takes them itself.
        """
        self._step = step
        self._listener = listener
        self._config = config
        self._kernel: Kernel = kernel or NetlinkKernel()
        self._engine: Engine = engine or DockerEngine(config.docker_host, config.driver_name, config.driver_name)
        self._open_store = open_store
        self._open_cluster_store = open_cluster_store
        self._boot = boot or boot_id
        self._look = look
        self._metrics = Metrics()
        self._crowd = Crowd()
        self._stores: dict[str, StoreCounts] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the state, enter the cluster, put right what the kernel alone can tell, and serve.

        Raises:
            Unavailable: the state file or a socket cannot be used; nothing is left open.
            Conflict: a living host of the cluster has this one's name or identity.
        """
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop in reverse."""
        await self._stack.aclose()

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        state_dir = Path(self._config.state_dir)
        listener = self._listener or self._listen(stack, state_dir)
        stack.push_async_callback(self._kernel.close)
        stack.push_async_callback(self._engine.close)
        local = self._open_local(state_dir)
        stack.push_async_callback(local.close)
        shared: ClusterStore | None = None
        alone = Tables(local, local)
        own = await load_identity(alone.identity, await asyncio.to_thread(machine_fingerprint))
        label = ScopeLabel(KnownEngine(alone), self._engine)
        config = self._config
        if not config.scope:
            config = msgspec.structs.replace(config, scope=await label.ask() or config.effective_scope())
        boot = await asyncio.to_thread(self._boot)
        identity = Identity(own.id, secrets.token_hex(8), boot, config.effective_host_name())
        earlier = await begin_run(alone.identity, identity.incarnation)
        settings = driver_settings(config)
        if config.is_shared():
            shared = self._open_shared(config)
            stack.push_async_callback(shared.close)
            # imported here: a host alone needs no resolver, and its start is not to pay for one
            from macvlan_global.global_scope import join_cluster  # noqa: PLC0415

            driver, scope = join_cluster(
                config, settings, local, shared, self._kernel, self._engine, identity, earlier=earlier
            )
            scope.heartbeat.crowd = self._crowd
            await scope.heartbeat.announce(self._step)
            stack.push_async_callback(scope.heartbeat.leave)
        else:
            driver, scope = Driver.build(alone, self._kernel, identity, settings, steady=time.monotonic), None
        driver.liveness.note_clock(await note_clock(alone.identity, boot, time.time() - time.monotonic()))
        stack.push_async_callback(driver.memory.leave)
        stack.push_async_callback(driver.host_access.leave)
        await driver.attacher.quirks.load()
        with contextlib.suppress(Unavailable):  # a cluster store that is away: each thing is read when it is needed
            await self._briefly("reading pools and addresses", driver.pools.load())
        reconciler = Reconciler(driver, grace=config.repair_grace)
        await self._briefly("the first repair", reconciler.reconcile(None))
        follower = self._follower(driver, reconciler, label, scope)
        conflicts = _conflicts(config, driver, scope)
        views = Views(config, driver, follower, reconciler, self._metrics, scope, conflicts)
        await self._serve(stack, listener, driver, views)
        page = await self._page(stack, config, driver, views, local, shared)
        served = await self._serve_metrics(config, driver, follower, views, scope, conflicts)
        if served:
            stack.push_async_callback(served.stop)
        parts = (follower, driver.attacher, driver.memory, driver.host_access, scope, conflicts, page, served)
        await _run(stack, [part.run() for part in parts if part])

    def _follower(
        self, driver: Driver, reconciler: Reconciler, label: ScopeLabel, scope: "GlobalScope | None"
    ) -> EngineFollower:
        listeners = [label.listen(self._config.scope), *([scope.hear] if scope else [])]
        read = scope.store_read if scope else None
        metrics, crowd = self._metrics, self._crowd
        return EngineFollower(driver, self._engine, reconciler, metrics, *listeners, store_read=read, crowd=crowd)

    def _listen(self, stack: contextlib.AsyncExitStack, state_dir: Path) -> socket.socket:
        stack.enter_context(locked_state(self._config.store, state_dir))
        return stack.enter_context(plugin_socket(Path(self._config.socket), os.environ))

    async def _page(
        self,
        stack: contextlib.AsyncExitStack,
        config: Config,
        driver: Driver,
        views: Views,
        local: NotifyingStore,
        shared: ClusterStore | None,
    ) -> "Page | None":
        """The page, or what this host tells the pages of others."""
        if not config.page and shared is None:
            return None
        # imported here: a host alone without a page needs nothing of it
        from macvlan_global.web.page import Page  # noqa: PLC0415

        page = Page.build(config, driver, views, local, shared, look=self._look)
        stack.push_async_callback(page.stop)
        await page.start()
        return page

    def _open_local(self, state_dir: Path) -> NotifyingStore:
        """The store of this host alone; its operations are counted if there are metrics."""
        kind = "sqlite" if is_cluster(self._config.store) else self._config.store
        store = self._open_store(kind, state_dir)
        return NotifyingStore(MeteredStore(store, self._counts_of("host")) if self._config.metrics else store)

    def _open_shared(self, config: Config) -> ClusterStore:
        """The cluster store, in the same way."""
        store = self._open_cluster_store(config.store, load_access(config.store_access, os.environ), self._crowd)
        return MeteredClusterStore(store, self._counts_of("cluster")) if config.metrics else store

    def _counts_of(self, store: str) -> StoreCounts:
        return self._stores.setdefault(store, StoreCounts())

    async def _briefly(self, what: str, work: Awaitable[object]) -> None:
        """Do a step of the start, which others do again if it takes too long: the engine waits for the socket."""
        try:
            async with asyncio.timeout(self._step):
                await work
        except TimeoutError:
            log.warning("%s takes longer than %g s; the driver serves meanwhile", what, self._step)

    async def _serve(
        self, stack: contextlib.AsyncExitStack, listener: socket.socket, driver: Driver, views: Views
    ) -> None:
        config = self._config
        server = PluginServer(Handlers(driver, swarm=config.scope == "swarm").routes(), self._metrics)
        await server.start(listener)
        stack.push_async_callback(server.stop)
        admin = AdminServer(views)
        await admin.start(listen(Path(config.admin_socket), what="the admin socket"))
        stack.push_async_callback(admin.stop)
        stack.callback(Path(config.admin_socket).unlink, missing_ok=True)
        log.info("macvlan-global %s serves on %s, state in %s", __version__, config.socket, config.state_dir)

    async def _serve_metrics(
        self,
        config: Config,
        driver: Driver,
        follower: EngineFollower,
        views: Views,
        scope: "GlobalScope | None",
        conflicts: ConflictService | None,
    ) -> "MetricsServer | None":
        """Begin to serve metrics, if they are wanted."""
        if not config.metrics:
            return None
        # imported here: the library that writes them costs a start more than all of our own
        from macvlan_global.admin.metrics_server import MetricsServer  # noqa: PLC0415
        from macvlan_global.admin.readings import Readings  # noqa: PLC0415

        readings = Readings(config, driver, follower, self._metrics, self._stores, scope, conflicts)
        server = MetricsServer(readings, config.metrics)
        views.listeners.append(lambda: server.listener.problem)
        await server.start()
        return server


async def _run(stack: contextlib.AsyncExitStack, parts: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Run the parts of the driver side by side until the stack is left."""
    group = await stack.enter_async_context(asyncio.TaskGroup())
    for each in parts:
        stack.callback(group.create_task(each).cancel)


def driver_settings(config: Config) -> Settings:
    """The part of a configuration that is the driver's."""
    return Settings(
        config.effective_scope(),
        shared=config.is_shared(),
        aliases=config.parents,
        auto_pools=config.pools(),
        probe=config.probe,
        attach=config.attach,
        host_access=config.host_access,
        access_addresses=config.access_addresses(),
    )


def _conflicts(config: Config, driver: Driver, scope: "GlobalScope | None") -> ConflictService | None:
    name_of = scope.heartbeat.name_of if scope else str
    return ConflictService.build(driver, host_name=name_of) if config.conflict_watch else None


async def serve(daemon: Daemon) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        Unavailable: see `Daemon`.
        Conflict: a living host of the cluster has this one's name or identity.
    """
    stop, served = asyncio.Event(), asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def end() -> None:
        stop.set()
        if task and not served.is_set():  # a start may wait for the lease of an earlier run
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        async with daemon:
            served.set()
            tell_systemd("READY=1", os.environ)
            await stop.wait()
            tell_systemd("STOPPING=1", os.environ)
            log.info("stopping (pid %s)", os.getpid())
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        log.info("stopping (pid %s) before it served", os.getpid())
    except BaseExceptionGroup as group:
        raise _what_stopped(group) from group


def _what_stopped(group: BaseExceptionGroup) -> BaseException:
    """The one error that made a task end and with it the driver; the group itself if it is none of ours."""
    refused: BaseException | None = group.subgroup(MacvlanGlobalError)
    while isinstance(refused, BaseExceptionGroup):
        refused = refused.exceptions[0]
    return refused or group
