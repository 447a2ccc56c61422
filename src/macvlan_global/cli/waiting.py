"""Progress on the terminal for what takes longer than a second."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

DELAY_SECONDS = 1.0
STEP_SECONDS = 0.1
_FRAMES = "|/-\\"


class Waiting:
    """Within the block, after a second, a line on stderr says what is waited for and since when.

    Only on a terminal, and the line goes with the block: neither a pipe nor a log ever holds it.
    """

    def __init__(self, what: str) -> None:
        """`what` as in "asking the driver"."""
        self._what = what
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin to count."""
        if sys.stderr.isatty():
            self._thread = threading.Thread(target=self._show, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Take the line away."""
        self._done.set()
        if self._thread:
            self._thread.join()

    def _show(self) -> None:
        begin = time.monotonic()
        if self._done.wait(DELAY_SECONDS):
            return
        turn = 0
        while not self._done.wait(STEP_SECONDS):
            turn += 1
            sys.stderr.write(f"\r{_FRAMES[turn % 4]} {self._what} ({time.monotonic() - begin:.0f} s) ")
            sys.stderr.flush()
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()
