"""Beside a resolver: asks it for a name until that changes, and says when it did.

A line on standard input is `there NAME` or `gone NAME`; the answer is the machine's clock, in seconds. Questions go out
at a fixed pace and wait for nothing: a resolver that asks further may keep one for seconds.
"""

import contextlib
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Literal, Self

import dns.message

from lab.paths import ROOT

PACE = 0.004
"""Seconds from a question to the next, and so how exact the figures are."""
PATIENCE = 60.0
QUIET = 0.5
"""A name is gone if no question of so many seconds had an address for its answer."""


def until_there(server: str, name: str) -> float:
    """Time of the first answer with an address.

    Raises:
        TimeoutError: none did.
    """
    with _Questions(server, name) as questions:
        while questions.begun + PATIENCE > time.monotonic():
            if answered := questions.step():
                return answered[1]
    raise TimeoutError(f"{name} has no address")


def until_gone(server: str, name: str) -> float:
    """Time of the last query that was answered with an address.

    Raises:
        TimeoutError: it goes on to have one.
    """
    with _Questions(server, name) as questions:
        last = questions.begun
        while questions.begun + PATIENCE > time.monotonic():
            if answered := questions.step():
                last = max(last, answered[0])
            if time.monotonic() - last > QUIET:
                return last
    raise TimeoutError(f"{name} still has an address")


class _Questions:
    def __init__(self, server: str, name: str) -> None:
        self._server = server
        self._wire = dns.message.make_query(name, "A", id=0).to_wire()[2:]
        self._asked: list[float] = []
        self.begun = time.monotonic()

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((self._server, 53))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        self._socket.close()

    def step(self) -> tuple[float, float] | None:
        """Ask if it is time to, and wait until then for an answer: when it was asked for and came, if it is good."""
        due = self.begun + PACE * len(self._asked)
        if time.monotonic() >= due:
            number = len(self._asked)
            self._asked.append(time.monotonic())
            with contextlib.suppress(ConnectionRefusedError):  # it does not listen yet
                self._socket.send(number.to_bytes(2) + self._wire)
        if not self._selector.select(max(0.0, due - time.monotonic())):
            return None
        try:
            answer = self._socket.recv(4096)
        except ConnectionRefusedError:
            return None
        has_address = int.from_bytes(answer[6:8]) > 0
        return (self._asked[int.from_bytes(answer[:2])], time.monotonic()) if has_address else None


class NameAsker:
    """The process that asks; a context manager."""

    def __init__(self, enter: Sequence[str], server: str) -> None:
        """`enter` is the command that goes where `server` (a bare address) is heard."""
        command = [*enter, sys.executable, "-m", "bench.name_asker", server]
        pipe = subprocess.PIPE
        env = {"PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> Self:
        """Return once it listens."""
        self.answer()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def ask(self, awaited: Literal["there", "gone"], name: str) -> None:
        """Begin to ask."""
        assert self._process.stdin
        self._process.stdin.write(f"{awaited} {name}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """Its answer.

        Raises:
            RuntimeError: it has ended.
        """
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the asker ended with {self._process.wait()}")
        return line


def _main(server: str) -> None:
    print(flush=True)
    for line in sys.stdin:
        what, name = line.split()
        print({"there": until_there, "gone": until_gone}[what](server, name), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
