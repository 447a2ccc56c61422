"""Quirks of the calling engine (version, live-restore) that decide how interfaces may be attached."""

import re

from macvlan_global.engine.ports import EngineInfo
from macvlan_global.store.known_engine import KnownEngine

_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})")
_CRASHES, _FIXED = (28, 0), (29, 7)


class EngineQuirks:
    """The engine's version and live-restore setting, read when it connects and stored: while an engine starts, it
    requests links and answers no questions."""

    def __init__(self, known: KnownEngine) -> None:
        """`known` remembers the engine beyond this run of the driver."""
        self._known = known
        self._version = ""
        self._live_restore = False

    async def load(self) -> None:
        """Load what an earlier run of the driver stored."""
        known = await self._known.read()
        self._version, self._live_restore = known.version, known.live_restore

    async def learn(self, info: EngineInfo) -> None:
        """Store the engine's version and setting."""
        self._version, self._live_restore = info.version, info.live_restore
        await self._known.remember_quirks(info.version, live_restore=info.live_restore)

    def why_not_inside(self) -> str:
        """The reason for which links must not be made inside containers, "" if they may.

        An engine that is restarted under running containers takes links that it did not move for one and the same. From
        28.0 to 29.6 it ends in a panic ("close of closed channel") when the second of them goes, or the same one again
        (fixed by moby's fb0f15c89a).
        """
        found = _VERSION.match(self._version)
        version = (int(found[1]), int(found[2])) if found else _FIXED
        if not (self._live_restore and _CRASHES <= version < _FIXED):
            return ""
        return (
            f"engine {self._version} has live-restore, and after its next restart would crash when such a container "
            "leaves a network; switch live-restore off, or take engine 29.7 or newer"
        )
