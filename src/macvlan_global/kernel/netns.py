"""Enter a container's network namespace for netlink requests there. `setns(2)` changes one thread, so these threads are
for that alone.
"""

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

from macvlan_global.deadline import waiting_for
from macvlan_global.errors import Unavailable
from macvlan_global.kernel.rtnl import RouteSocket
from macvlan_global.kernel.workers import ThreadLost, Workers

P = TypeVar("P")
T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # linux/sched.h

# the namespace ended with its container, or the path is not that of a namespace
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ENXIO, errno.ENAMETOOLONG}

# os.setns() came with Python 3.12
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def entered(path: str) -> Iterator[None]:
    """Within the block this thread is in the network namespace at `path`.

    Raises:
        OSError, ValueError: it cannot be entered, or there is none.
        Unavailable: the thread's own namespace cannot be opened, so there would be no way back.
        ThreadLost: the way back failed all the same: what this thread did next would be done in the container.
    """
    try:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise cannot_enter(path, error) from error
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _set_namespace(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            try:
                _set_namespace(home)
            except OSError as error:
                raise ThreadLost from error
    finally:
        os.close(home)


class NamespacePool:
    """Threads that run netlink requests in namespaces named by a path (`/var/run/docker/netns/…`)."""

    def __init__(
        self,
        threads: int = 4,
        *,
        route: Callable[[], RouteSocket] = RouteSocket,
        enter: Callable[[str], AbstractContextManager[None]] = entered,
    ) -> None:
        """Keep up to `threads` threads; the kernel does most of this work one at a time anyway."""
        self._threads = Workers("netns", threads)
        self._route = route
        self._enter = enter

    async def run(self, path: str, work: Callable[[RouteSocket], T]) -> T | None:
        """Do something inside the namespace at `path`, with a socket there; None if there is no such namespace.

        If the caller is cancelled while it is under way, this waits for its end all the same: only then is it known
        what there is to undo.

        Raises:
            Unavailable: there is one, and it cannot be entered.
            RuntimeError: no thread can be started.
        """
        with waiting_for("the kernel"):
            return await self._threads.run(lambda: self._inside(path, work), to_the_end=True)

    async def run_with_both(
        self, path: str, first: Callable[[RouteSocket], P], work: Callable[[RouteSocket, RouteSocket, P], T]
    ) -> T | None:
        """As `run`, after `first`, which is done in the host's namespace. `work` gets the sockets inside and outside,
        and what came of `first`."""

        def both() -> T | None:
            with contextlib.closing(self._route()) as outside:
                found = first(outside)
                return self._inside(path, lambda inside: work(inside, outside, found))

        with waiting_for("the kernel"):
            return await self._threads.run(both, to_the_end=True)

    def close(self) -> None:
        """Let the threads go once they are idle. Who was cancelled waits for them no more."""
        self._threads.close()

    def _inside(self, path: str, work: Callable[[RouteSocket], T]) -> T | None:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._enter(path))
            except ValueError:  # no path at all
                return None
            except OSError as error:
                if error.errno not in _GONE:  # no right, say: a container that lives must not be taken for dead
                    raise cannot_enter(path, error) from error
                return None
            return work(stack.enter_context(contextlib.closing(self._route())))


def cannot_enter(path: str, error: OSError) -> Unavailable:
    """The error of a namespace that is there, as far as is known, and cannot be entered."""
    return Unavailable(f"the network namespace {path} cannot be entered: {error.strerror}")


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
