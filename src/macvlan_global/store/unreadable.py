"""Records that cannot be read and are left alone: a warning of the first ones, and the keys of those seen of late."""

import logging

log = logging.getLogger(__name__)

MOST_SAID = 20
"""Of so many keys the log says why, for each table and run of the driver; status has them all."""


MOST_NOTICED = 100
"""The most keys that are kept for each table: anybody may write any number."""


class UnreadableLog:
    """Records of one table that cannot be read and are skipped: rate-limited warnings, and their keys."""

    def __init__(self, prefix: str) -> None:
        """`prefix` is what the keys of the table begin with."""
        self._prefix = prefix
        self._said: set[str] = set()
        self._noticed: set[str] = set()

    @property
    def noticed(self) -> list[str]:
        """The keys of records that were left alone when they were seen last."""
        return sorted(self._noticed)

    def notice(self, key: str) -> None:
        """The record at a key is left alone."""
        if len(self._noticed) < MOST_NOTICED:
            self._noticed.add(key)

    def forget(self, key: str) -> None:
        """The record at a key can be read, or is gone."""
        self._noticed.discard(key)

    def begin(self) -> None:
        """The whole table is about to be read."""
        self._noticed.clear()

    def warn(self, key: str, error: Exception) -> None:
        """`error` says why the record at `key` cannot be read."""
        if key in self._said or len(self._said) > MOST_SAID:
            return
        self._said.add(key)
        if len(self._said) > MOST_SAID:
            log.warning("more below %s cannot be read; `macvlan-global status` names it all", self._prefix)
        else:
            log.warning("%s. It is left alone", error)
