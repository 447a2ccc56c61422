"""Following a set of groups of the cluster store that changes: each group, a prefix of keys, by a follower of its own.

A host follows the groups that it needs now, such as the names on the networks that its containers are on. What a group
costs is paid only by the hosts that want it. A group that nobody wants any more is followed for a while longer, so that
a container that starts again does not have all of it read anew; then it is dropped with what was known of it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn

from macvlan_global.store.follow import FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, PrefixFollower
from macvlan_global.store.ports import Batch, ClusterStore
from macvlan_global.tasks import forever, when

LINGER_SECONDS = 60.0
"""Time for which a group is followed that nobody wants any more."""


@dataclass(slots=True)
class _Followed:
    """A group with its follower. `read` says that all of it was taken once, `unwanted_since` is the time of the event
    loop since which nobody wants it."""

    follower: PrefixFollower
    task: asyncio.Task[NoReturn]
    read: bool = False
    unwanted_since: float | None = None


class GroupsFollower:
    """Hands every batch of the groups that are wanted to its consumer. `run` does the work."""

    def __init__(
        self,
        store: ClusterStore,
        prefix_of: Callable[[str], str],
        take: Callable[[str, Batch], Awaitable[None]],
        forget: Callable[[str], Awaitable[None]],
        *,
        linger: float = LINGER_SECONDS,
        level: int = logging.DEBUG,
    ) -> None:
        """Nothing is wanted yet.

        `prefix_of` gives the prefix of a group's keys, which ends with a slash. `take` gets the group with each batch,
        for each group one at a time, and the first one is whole. `forget` is called with a group that is dropped:
        `take` is not called for it after that, until it is wanted again. `linger` is in seconds. `level` is that of the
        log line which says that the store cannot be reached.
        """
        self._store = store
        self._prefix_of = prefix_of
        self._take = take
        self._forget = forget
        self._linger = linger
        self._level = level
        self._wanted: frozenset[str] = frozenset()
        self._followed: dict[str, _Followed] = {}
        self._dropped: set[str] = set()  # not forgotten yet
        self._due = asyncio.Event()

    @property
    def wanted(self) -> frozenset[str]:
        """The groups that are wanted."""
        return self._wanted

    @property
    def groups(self) -> frozenset[str]:
        """The groups that are followed: those that are wanted, as soon as that has begun, and those that linger."""
        return frozenset(self._followed)

    @property
    def live(self) -> bool:
        """Whether the changes of all groups that are wanted are being received."""
        return all(group in self._followed and self._followed[group].follower.live for group in self._wanted)

    def has_read(self, group: str) -> bool:
        """Whether all of a group was taken since it is followed. Then what is known of it is kept current, or is what
        was known last while the store is away."""
        return group in self._followed and self._followed[group].read

    def want(self, groups: Iterable[str]) -> None:
        """These are all groups that are wanted from now on."""
        wanted = frozenset(groups)
        if wanted == self._wanted:
            return
        self._wanted = wanted
        now = asyncio.get_running_loop().time()
        for group, each in self._followed.items():
            if group in wanted:
                each.unwanted_since = None
            elif each.unwanted_since is None:
                each.unwanted_since = now
        self._due.set()

    async def run(self, *, first: float = FIRST_RETRY_SECONDS, last: float = LAST_RETRY_SECONDS) -> NoReturn:
        """Follow until cancelled. A watch that ended begins again after `first` to `last` seconds."""

        async def look() -> None:
            async with when(self._due, at_most=self._until_next()):
                self._begin(tasks, first, last)
                await self._drop()

        try:
            async with asyncio.TaskGroup() as tasks:
                await forever("following groups of the store", look, first=first, last=last)
        finally:
            self._followed.clear()

    def _begin(self, tasks: asyncio.TaskGroup, first: float, last: float) -> None:
        """Follow what is wanted and not followed yet."""
        # in one order, so that a simulated run can be played again
        for group in sorted(self._wanted - self._followed.keys() - self._dropped):

            async def take(batch: Batch, group: str = group) -> None:
                await self._take(group, batch)
                self._followed[group].read = True

            follower = PrefixFollower(self._store, self._prefix_of(group), take, level=self._level)
            self._followed[group] = _Followed(follower, tasks.create_task(follower.run(first=first, last=last)))

    async def _drop(self) -> None:
        """Drop what nobody has wanted for long enough."""
        now = asyncio.get_running_loop().time()
        for group, each in list(self._followed.items()):
            if each.unwanted_since is not None and now >= each.unwanted_since + self._linger:
                each.task.cancel()
                await asyncio.wait([each.task])
                del self._followed[group]
                self._dropped.add(group)
        for group in sorted(self._dropped):
            await self._forget(group)
            self._dropped.discard(group)
            if group in self._wanted:  # wanted again meanwhile
                self._due.set()

    def _until_next(self) -> float | None:
        """Seconds until the next group is dropped; None if none will be."""
        ends = [each.unwanted_since for each in self._followed.values() if each.unwanted_since is not None]
        if not ends:
            return None
        return max(0.0, min(ends) + self._linger - asyncio.get_running_loop().time())
