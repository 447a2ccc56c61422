"""The plugin socket of a driver, as an engine asks it. As lean as asyncio can: tests make load with it."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from macvlan_global.errors import MacvlanGlobalError
from testkit.plugin_calls import NoAnswer, insist

SECONDS = 30.0
"""An engine waits for longer. No answer may take nearly as long."""
RETRIES = (0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 3.0, 3.0)
"""Pauses before a call is repeated whose connection broke."""
_AWAY = ("the store does not answer", "the store did not answer", "it is not known who deleted")


class Refused(MacvlanGlobalError):
    """The driver answered with an error."""

    @property
    def away(self) -> bool:
        """Whether it is the store that does not answer."""
        return any(each in str(self) for each in _AWAY)


class SocketPlugin:
    """See `Plugin`. Over as many connections as there are requests at a time."""

    def __init__(self, socket: Path) -> None:
        """Nobody need listen there yet."""
        self._socket = str(socket)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.off = False
        """The machine is off: nothing is asked any more."""
        self.answered = 0
        self.refused = 0
        self.away = 0
        self.repeated = 0
        self.slowest = 0.0

    async def call(self, method: str, **fields: object) -> dict[str, Any]:
        """See `Plugin.call`. A request is repeated as engines do if the driver dies over it.

        Raises:
            Refused: the answer is an error.
            NoAnswer: there is no answer.
        """
        return await self._send(method, fields)

    async def _send(self, method: str, fields: dict[str, object]) -> dict[str, Any]:
        body = msgspec.json.encode(fields)
        request = b"POST /%b HTTP/1.1\r\nHost: faults\r\nContent-Length: %d\r\n\r\n%b" % (
            method.encode(),
            len(body),
            body,
        )
        return self._counted(await insist(lambda: self._attempt(request), RETRIES))

    async def twice(self, method: str, **fields: object) -> dict[str, Any]:
        """The same request at the same time from two connections; the first one's answer, when both have one.

        Raises:
            Refused, NoAnswer: the first one was.
        """
        both = await asyncio.gather(self._send(method, fields), self._send(method, fields), return_exceptions=True)
        if isinstance(both[0], BaseException):
            raise both[0]
        return both[0]

    def close(self) -> None:
        """Close what is open."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    def _counted(self, answer: dict[str, Any]) -> dict[str, Any]:
        problem = answer.get("Err") or answer.get("Error")
        if not problem:
            self.answered += 1
            return answer
        refusal = Refused(problem)
        if refusal.away:
            self.away += 1
        else:
            self.refused += 1
        raise refusal

    async def _attempt(self, request: bytes) -> dict[str, Any]:
        if self.off:
            raise NoAnswer("the machine is off")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with asyncio.timeout(SECONDS):
                answer = await self._ask(request)
        except (OSError, EOFError) as error:
            self.repeated += 1
            raise NoAnswer(f"no driver answers: {error}") from error
        self.slowest = max(self.slowest, loop.time() - begun)
        return answer

    async def _ask(self, request: bytes) -> dict[str, Any]:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_unix_connection(self._socket)
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        answer: dict[str, Any] = msgspec.json.decode(body)
        return answer
