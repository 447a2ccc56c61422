"""Work inside a container's network namespace. `setns(2)` changes one thread, so that thread is ours alone."""

import asyncio
import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from macvlan_global.errors import Unavailable
from macvlan_global.kernel.rtnl import RouteSocket

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # linux/sched.h

# the namespace went with its container, or what is there is none
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ENXIO, errno.ENAMETOOLONG}

# os.setns() came with Python 3.12
_libc = ctypes.CDLL(None, use_errno=True)


class NamespacePool:
    """Runs netlink requests in namespaces named by a path (`/var/run/docker/netns/…`)."""

    def __init__(self, threads: int = 4) -> None:
        """Keep up to `threads` threads; the kernel does most of this work one at a time anyway."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sandbox")

    async def run(self, path: str, work: Callable[[RouteSocket], T]) -> T | None:
        """Do something inside the namespace at `path`, with a socket there; None if there is no such namespace.

        Raises:
            Unavailable: there is one, and it cannot be entered.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, _inside, path, work)

    def close(self) -> None:
        """Let the threads go once they are idle."""
        self._threads.shutdown(wait=False)


def _inside(path: str, work: Callable[[RouteSocket], T]) -> T | None:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_entered(path))
        except ValueError:  # no path at all
            return None
        except OSError as error:
            if error.errno not in _GONE:  # no right to enter, say: whoever took that for dead would take what lives
                raise Unavailable(f"the network namespace {path} cannot be entered: {error.strerror}") from error
            return None
        return work(stack.enter_context(contextlib.closing(RouteSocket())))


@contextlib.contextmanager
def _entered(path: str) -> Iterator[None]:
    """Within the block this thread is in the network namespace at `path`."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _set_namespace(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _set_namespace(home)
    finally:
        os.close(home)


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
