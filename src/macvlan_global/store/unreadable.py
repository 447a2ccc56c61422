"""Records that cannot be read and are left alone, in the log: one warning for each, and only of the first ones."""

import logging

log = logging.getLogger(__name__)

MOST_SAID = 20
"""Of so many keys the log says why, for each table and run of the driver; status has them all."""


class UnreadableLog:
    """Rate-limited warnings about records of one table that cannot be read and are skipped."""

    def __init__(self, prefix: str) -> None:
        """`prefix` is what the keys of the table begin with."""
        self._prefix = prefix
        self._said: set[str] = set()

    def warn(self, key: str, error: Exception) -> None:
        """`error` says why the record at `key` cannot be read."""
        if key in self._said or len(self._said) > MOST_SAID:
            return
        self._said.add(key)
        if len(self._said) > MOST_SAID:
            log.warning("more below %s cannot be read; `macvlan-global status` names it all", self._prefix)
        else:
            log.warning("%s. It is left alone", error)
