"""A TCP proxy that tests put before a member of a store, to break what passes through it."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self

from lab.cluster import Site

_CHUNK = 65536


class TcpProxy:
    """Passes bytes on to a target, until it is told otherwise. Use as a context manager, or call `close`.

    It runs in a thread of its own, so a test's event loop may stand still. Every change is in force when its call
    returns, for connections that are there and for new ones.
    """

    def __init__(
        self,
        target: str,
        *,
        listen: str = "127.0.0.1",
        port: int = 0,
        on: Site | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        """Listen, and pass all on to `target` (ADDRESS:PORT).

        Args:
            target: where to.
            listen: the address to listen on.
            port: 0 takes a free one; see `endpoint`.
            on: a host of the lab: both sides of the proxy are in its network.
            listener: a socket that is bound already, maybe elsewhere, to listen on instead; without it nothing can be
                mended after `cut`.
        """
        host, _, number = target.rpartition(":")
        self._target = (host, int(number))
        self._listen, self._port, self._site, self._listener = listen, port, on, listener
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay = 0.0
        self._losing = False
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._flow = asyncio.Event()
        self._flow.set()
        self._thread = threading.Thread(target=self._run, name=f"proxy to {target}", daemon=True)
        self._thread.start()
        self._do(self._open())

    @property
    def endpoint(self) -> str:
        """ADDRESS:PORT to connect to; it stays the same."""
        return f"{self._listen}:{self._port}"

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self._do(self._cut())

    def hold(self) -> None:
        """Accept and pass nothing on, either way: a black hole. What comes meanwhile passes after `mend`."""
        self._do(self._set(self._flow.clear))

    def delay(self, seconds: float) -> None:
        """Let each piece wait this long before it is passed on, either way."""
        self._delay = seconds

    def lose_answers(self) -> None:
        """Pass requests on, and break the connection when the answer comes."""
        self._losing = True

    def mend(self) -> None:
        """Pass everything again, at once."""
        self._delay, self._losing = 0.0, False
        self._do(self._set(self._flow.set))
        self._do(self._open())

    def close(self) -> None:
        """Break everything and end. Repeatable."""
        if self._thread.is_alive():
            self._do(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def __enter__(self) -> Self:
        """Nothing to do: it listens since it was made."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # --- in the thread

    def _run(self) -> None:
        with self._site.in_network() if self._site else contextlib.nullcontext():
            self._loop.run_forever()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _set(self, change: Callable[[], None]) -> None:
        change()

    async def _open(self) -> None:
        if self._server is None:
            where = {"sock": self._listener} if self._listener else {"host": self._listen, "port": self._port}
            self._server = await asyncio.start_server(self._accept, **where)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._server is not None:
            # asyncio loses, open, a connection that was accepted but has no transport yet when its server is closed
            for each in self._server.sockets:
                self._loop.remove_reader(each.fileno())
            for _ in range(3):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _end(self) -> None:
        await self._cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 # a callback of a server is a task
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        beyond: asyncio.StreamWriter | None = None
        try:
            answers, beyond = await asyncio.open_connection(*self._target)
            self._writers.add(beyond)
            await asyncio.gather(self._pass(reader, beyond, back=False), self._pass(answers, writer, back=True))
        except (OSError, asyncio.CancelledError):  # cancelled only by our own end, where nobody waits for more
            pass
        finally:
            self._tasks.discard(task)
            for each in (writer, beyond):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool) -> None:
        while data := await reader.read(_CHUNK):
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._flow.wait()
            if back and self._losing:
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()
