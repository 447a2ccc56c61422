"""Following a prefix of the cluster store: one watch after the other, for as long as the driver runs.

A watch begins with all there is below the prefix, as one whole batch, and goes on with changes. It ends when the store
cannot be reached. The next one goes on where that one was, if the store still knows what happened in the gap, and
begins with a whole batch otherwise. What a consumer knew stays with it meanwhile: nothing is forgotten because the
store is away.
"""

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NoReturn

from macvlan_global.store.ports import Batch, ClusterStore
from macvlan_global.tasks import forever

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 2.0


class PrefixFollower:
    """Hands every batch below a prefix to its consumer. `run` does the work."""

    def __init__(
        self,
        store: ClusterStore,
        prefix: str,
        take: Callable[[Batch], Awaitable[None]],
        *,
        on_lost: Callable[[], None] = lambda: None,
        resumes: bool = True,
        level: int = logging.DEBUG,
    ) -> None:
        """`take` gets each batch, one at a time; `on_lost` is called whenever a watch ends. The first batch of a watch
        that goes on where an earlier one was is not whole, and may be empty; without `resumes` there are none.

        `level` is that of the log line which says that the store cannot be reached.
        """
        self.live = False
        """Whether changes are being received: from the first batch of a watch until its end."""
        self._store = store
        self._prefix = prefix
        self._take = take
        self._on_lost = on_lost
        self._resumes = resumes
        self._position: object = None  # of what was taken; a consumer that failed has lost its place
        self._level = level

    async def run(self, *, first: float = FIRST_RETRY_SECONDS, last: float = LAST_RETRY_SECONDS) -> NoReturn:
        """Follow until cancelled. A watch that ended begins again after `first` to `last` seconds.

        An exception out of the consumer ends the watch too: it is logged, and everything is read anew.
        """
        await forever(f"following {self._prefix} in the store", self._watch, first=first, last=last, level=self._level)

    async def _watch(self) -> AsyncGenerator[None]:
        try:
            async with contextlib.aclosing(self._store.watch(self._prefix, self._position)) as batches:
                async for batch in batches:
                    self._position = None
                    await self._take(batch)
                    self._position = batch.position if self._resumes else None
                    del batch  # it may be all there is, and the next one may come in an hour
                    self.live = True
                    yield
        finally:
            self.live = False
            self._on_lost()
