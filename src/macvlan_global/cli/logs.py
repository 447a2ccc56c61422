"""Format of the driver's log: lines of text for the journal, or one JSON object a line."""

import json
import logging
import os
import select
import sys
from typing import TextIO

from macvlan_global.cli.printable import printable


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class LineFormatter(logging.Formatter):
    """One line for each message, whatever is in it: names and keys of a shared store may be anybody's. Traces follow on
    lines of their own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging gives it
        """The line, with control characters escaped."""
        return printable(super().formatMessage(record))


class PatientHandler(logging.StreamHandler[TextIO]):
    """Writes lines that their reader takes at once, and drops those that would have to wait for it.

    The journal, or the engine that keeps a managed plugin's log, may hang or be stopped. The event loop would wait for
    it, and with it every answer to the engine. A line says how many were dropped, once there is room again.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`, which has a file descriptor."""
        super().__init__(stream)
        self._room = select.poll()
        self._room.register(stream.fileno(), select.POLLOUT)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        try:
            lines = (self.format(record) + self.terminator).encode(errors="backslashreplace")
            if self._dropped and self._write(f"{self._dropped} lines were dropped: nobody read the log\n".encode()):
                self._dropped = 0
            if self._dropped or not self._write(lines):
                self._dropped += 1
        except Exception:  # noqa: BLE001 - as in logging: no message is worth an error
            self.handleError(record)

    def _write(self, text: bytes) -> bool:
        """Write text as far as there is room; whether it was all of it."""
        for at in range(0, len(text), select.PIPE_BUF):  # what has room for a byte has room for so many (pipe(7))
            if not self._room.poll(0):
                return False
            try:
                os.write(self.stream.fileno(), text[at : at + select.PIPE_BUF])
            except BlockingIOError:
                return False
        return True


def set_up_logging(level: str, form: str) -> None:
    """Log to stderr. Libraries stay at warning: what they say at debug level is theirs."""
    handler = _handler(sys.stderr)
    if form == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("macvlan_global").setLevel(level.upper())


def _handler(stream: TextIO) -> logging.Handler:
    try:
        return PatientHandler(stream)
    except (OSError, ValueError):  # no file, as a stream of a test
        return logging.StreamHandler(stream)
