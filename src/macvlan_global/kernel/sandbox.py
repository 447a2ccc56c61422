"""Work inside a container's network namespace. `setns(2)` changes one thread, so that thread is ours alone."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pyroute2 import IPRoute, netns
from pyroute2.netlink.exceptions import NetlinkError

T = TypeVar("T")


class Sandboxes:
    """Runs netlink requests in namespaces named by a path (`/var/run/docker/netns/…`)."""

    def __init__(self, threads: int = 4) -> None:
        """Keep up to `threads` threads; the kernel does most of this work one at a time anyway."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sandbox")

    async def delete_macvlan(self, path: str, mac: str) -> bool:
        """Delete the macvlan link with this MAC; False if the namespace or the link is not there."""
        return await self._run(path, lambda route: _delete_macvlan(route, mac)) or False

    async def has_macvlan(self, path: str, mac: str) -> bool:
        """Whether the namespace is there and holds a macvlan link with this MAC."""
        return await self._run(path, lambda route: _find_macvlan(route, mac) is not None) or False

    def close(self) -> None:
        """Let the threads go once they are idle."""
        self._threads.shutdown(wait=False)

    async def _run(self, path: str, work: Callable[[IPRoute], T]) -> T | None:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _inside, path, work)


def _inside(path: str, work: Callable[[IPRoute], T]) -> T | None:
    try:
        netns.pushns(path)
    except OSError:  # the namespace went with its container, or was never ours to enter
        return None
    try:
        with IPRoute() as route:
            return work(route)
    finally:
        netns.popns()


def _find_macvlan(route: IPRoute, mac: str) -> int | None:
    for link in route.link("dump"):
        if link.get(("linkinfo", "kind")) == "macvlan" and link.get("address") == mac:
            return int(link["index"])
    return None


def _delete_macvlan(route: IPRoute, mac: str) -> bool:
    index = _find_macvlan(route, mac)
    if index is None:
        return False
    try:
        route.link("del", index=index)
    except NetlinkError:  # it went between the two requests, with its parent or its container
        return False
    return True
