"""Says in the log what in the store cannot be read and is left alone: once for a key, and not for thousands of keys."""

import logging

log = logging.getLogger(__name__)

MOST_SAID = 20
"""Of so many keys the log says why, for each table and run of the driver; status has them all."""


class LeftAlone:
    """For one table."""

    def __init__(self, prefix: str) -> None:
        """`prefix` is what the keys of the table begin with."""
        self._prefix = prefix
        self._said: set[str] = set()

    def say(self, key: str, error: Exception) -> None:
        """`error` says why the record at `key` cannot be read."""
        if key in self._said or len(self._said) > MOST_SAID:
            return
        self._said.add(key)
        if len(self._said) > MOST_SAID:
            log.warning("more below %s cannot be read; `macvlan-global status` names it all", self._prefix)
        else:
            log.warning("%s. It is left alone", error)
