"""Vendors of MACs by the list of the IEEE, as Debian's package ieee-data installs it; without it none is known."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from macvlan_global.blocking_calls import briefly

log = logging.getLogger(__name__)

OUI_FILE = Path("/usr/share/ieee-data/oui.txt")
READ_SECONDS = 2.0
_LINE = re.compile(r"^([0-9A-F]{2})-([0-9A-F]{2})-([0-9A-F]{2})\s+\(hex\)\s+(.+?)\s*$")
_LOCAL = 0x02
"""The bit of a MAC's first byte by which it is locally administered (IEEE 802 section 8.2.2): it is no vendor's."""
KNOWN_MOST = 4096


class Vendors:
    """Vendors by the first three bytes of MACs; what was looked up is remembered."""

    def __init__(self, file: Path = OUI_FILE) -> None:
        """Nothing is read before the first question."""
        self._file = file
        self._known: dict[str, str] = {}

    async def of(self, macs: Iterable[str]) -> dict[str, str]:
        """The vendors of MACs; "" for those that are not known. Reads the file for prefixes that are new."""
        wanted = {mac: mac[:8].upper().replace(":", "-") for mac in macs}
        new = {prefix for mac, prefix in wanted.items() if not int(mac[:2], 16) & _LOCAL} - self._known.keys()
        if new:
            try:
                found = await briefly(lambda: _read(self._file, new), READ_SECONDS)
            except (OSError, RuntimeError) as error:
                log.debug("vendors are not known: %s", error)
                found = {}
            if found is not None:
                if len(self._known) + len(new) > KNOWN_MOST:
                    self._known.clear()
                self._known |= {prefix: found.get(prefix, "") for prefix in new}
        return {mac: self._known.get(prefix, "") for mac, prefix in wanted.items()}


def _read(file: Path, prefixes: set[str]) -> dict[str, str]:
    found = {}
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line[:8] in prefixes and (parsed := _LINE.match(line)):
                found[line[:8]] = parsed[4]
    return found
