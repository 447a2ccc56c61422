"""HTTP requests to the members of a store: choice of the member, time limits, and the meaning of a failure.

A request has one of three ends. The store answered. It was not asked (no connection): it can be asked again, whatever
the request was. Or it may have been asked, and its answer is lost: then what it did must be found out. Both of the
latter make the next member the one that is asked from now on.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from macvlan_global.errors import Unavailable
from macvlan_global.store.ports import Entry
from macvlan_global.store.remote.host_names import HostNames

T = TypeVar("T")

DEADLINE = 3.0
"""Seconds that an operation may take, over all members and repetitions."""

REFUSAL = 1.0
"""Seconds after an operation ran out of time during which others fail without trying, unless one had an answer."""

CONNECTIONS = 64
"""Open at once for operations, to all members; more requests wait. Consul takes 200 from one client in all."""

LOST = 5.0
"""Seconds without any member after which a watch is given up: longer than an election takes where all is well."""

QUIET = 2.0
"""Seconds without an answer of a member after which a watch checks its health."""

BULK = 30.0
"""Seconds that a read of many keys may take, as long as bytes come."""

PAUSE = 0.05
"""Seconds between two rounds over members that all failed."""

BUSY_PAUSE = 0.5
"""The same if a member says that it is asked too much."""

OK, SERVER_ERROR = 200, 500

_SENT = {"Content-Type": "application/json"}
"""Headers of what is no GET. Without them aiohttp names octets, also where there is no body, and Consul from 1.20.2 on
logs a warning about each."""

_UNREACHABLE = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""No connection: nothing was asked."""

_BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError, EOFError)
"""Whatever else the transport raises. Timeouts and TLS are OSErrors; unreadable names and numbers are ValueErrors."""


UNREADABLE = (ValueError, RecursionError)
"""Errors of msgspec about a body: its own are ValueErrors, and so is that of Python for text that is not UTF-8."""


def _times(*, connect: float = 1.0, silence: float | None = None) -> aiohttp.ClientTimeout:
    """Limits in seconds for a connection and for silence on it. That for the whole is asyncio's own: aiohttp's `total`
    takes a cancellation of the task that comes in the same turn of the loop for its own, and the task would go on."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=silence)


def deleted_by_somebody(entry: Entry) -> Unavailable:
    """The error of a delete whose answer was lost, if the entry is gone: we deleted it, or somebody else did."""
    return Unavailable(f"it is not known who deleted {entry.key}: the store's answer was lost; try again")


class NotAsked(Exception):
    """No member could be asked; nothing was done."""


class AnswerLost(Exception):
    """A member may have been asked, and it is not known what it did."""


class Refused(Exception):
    """A member refuses a stream."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer of a member."""

    status: int
    body: bytes | bytearray
    headers: Mapping[str, str]

    @property
    def text(self) -> str:
        """The body as one line that is short enough for an error."""
        return " ".join(self.body.decode(errors="replace").split())[:300]


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `path` begins with a slash and is quoted already; `bulk` is a read of many keys."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] | None = None
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A cheap request, and whether its answer says that the member is part of a cluster with a leader.

    The request is made anew for each check: a token in it may be renewed meanwhile.
    """

    request: Callable[[], Request]
    passed: Callable[[Answer], bool]


OpenSession = Callable[[ssl.SSLContext | None], aiohttp.ClientSession]
"""Makes the HTTP client for members that speak this TLS, or plain HTTP."""


class Members:
    """The members of one store, as one client of it sees them."""

    def __init__(  # noqa: PLR0913 - what differs between the kinds of stores
        self,
        endpoints: Sequence[str],
        tls: ssl.SSLContext | None,
        health: HealthCheck,
        open_session: "OpenSession | None" = None,
        *,
        watches: int = 1_000,
        busy: int = 0,
        refuses: Callable[[Answer], bool] = lambda _answer: False,
    ) -> None:
        """Know the members; nothing is asked yet.

        Args:
            endpoints: `HOST:PORT` each, the preferred one first.
            tls: how to speak TLS with them; None for plain HTTP.
            health: the health check of a member.
            open_session: makes the HTTP clients, on first use; another one is for tests.
            watches: connections for what has no end or takes long, which operations must not wait for.
            busy: the status by which a member says that it did nothing, since it is asked too much.
            refuses: whether an answer with the status of a server that failed refuses this very request, which no other
                member would answer either.
        """
        self._roots = [f"{'https' if tls else 'http'}://{each}" for each in endpoints]
        self._names = list(endpoints)
        self._tls = tls
        self._health = health
        self._open_session = open_session
        self._busy = busy
        self._refuses = refuses
        self._is_busy = False  # the last answer was that
        self._limits = {False: CONNECTIONS, True: watches}
        self._current = 0
        self._why: dict[int, str] = {}
        self._heard: dict[int, float] = {}
        self._answered = 0.0
        self._refuse_until = 0.0
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = asyncio.Event()
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    # --- operations

    @contextlib.asynccontextmanager
    async def operation(self) -> AsyncIterator[float]:
        """An operation is under way: `close` waits for it. Gives the time, on the loop's clock, when it must be over.

        Raises:
            Unavailable: the store is closed, or did not answer a moment ago.
        """
        self.refuse_if_closed()
        now = asyncio.get_running_loop().time()
        if now < self._refuse_until:
            await asyncio.sleep(0)  # who tries again and again must not keep all others from running
            raise Unavailable(f"the store did not answer a moment ago: {self._reasons()}")
        self._under_way += 1
        self._idle.clear()
        try:
            yield now + DEADLINE
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def read(self, ask: Callable[[float], Awaitable[T]], until: float) -> T:
        """Ask again and again until there is an answer: for what changes nothing, or nothing more if done twice.

        Raises:
            Unavailable: there was none in time.
        """
        while True:
            try:
                return await ask(until)
            except (NotAsked, AnswerLost):
                await self._next_round(until)

    async def write(
        self, ask: Callable[[float], Awaitable[T]], settle: Callable[[float], Awaitable[tuple[T] | None]], until: float
    ) -> T:
        """Ask until there is an answer, and after a lost one find out what was done before asking again.

        Args:
            ask: the write, which does nothing if it was done already or if somebody else was faster: None or False.
            settle: reads what is there now. A tuple with the answer that was lost, or None if nothing was done yet.
            until: when it must be over.

        Raises:
            Unavailable: there was none in time; it may have been done, or may yet be done.
        """
        lost = False
        while True:
            try:
                done = await ask(until)
            except NotAsked:
                pass
            except AnswerLost:
                lost = True
                if (settled := await self.read(settle, until)) is not None:
                    return settled[0]
            else:
                # whoever was faster may be ourselves: what was asked first was done after we looked
                settled = None if done or not lost else await self.read(settle, until)
                return settled[0] if settled else done
            await self._next_round(until)

    async def _next_round(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        pause = BUSY_PAUSE if self._is_busy else PAUSE
        if loop.time() + pause >= until:
            # somebody else may have had an answer just now: then it was this one request, or an election that is over
            if loop.time() - self._answered > REFUSAL:
                self._refuse_until = loop.time() + REFUSAL
            raise Unavailable(f"the store does not answer: {self._reasons()}")
        if len(self._why) == len(self._roots):
            await asyncio.sleep(pause)

    def _reasons(self) -> str:
        return "; ".join(f"{self._names[index]}: {why}" for index, why in sorted(self._why.items())) or "no answer"

    # --- one request

    async def ask(self, request: Request, until: float) -> Answer:
        """Ask the current member, once.

        Raises:
            NotAsked, AnswerLost: see there.
        """
        index = self._current
        left = max(until - asyncio.get_running_loop().time(), 0.01)
        # a member that accepts and says nothing must leave time for another one
        share = max(min(left, DEADLINE / len(self._roots)), min(left, 1.0))
        # many keys take a while to be put together
        silence = min(left, max(share, DEADLINE / 2)) if request.bulk else None
        times = _times(connect=min(share, 1.0), silence=silence)
        return await self._ask(index, request, times, max(BULK, share) if request.bulk else share)

    async def _ask(
        self, index: int, request: Request, times: aiohttp.ClientTimeout, total: float, *, is_long: bool = False
    ) -> Answer:
        try:
            async with asyncio.timeout(total), self._send(index, request, times, is_long=is_long) as response:
                body = await _many_bytes(response) if request.bulk else await response.read()
                answer = Answer(response.status, body, response.headers)
        except _UNREACHABLE as error:
            raise NotAsked(self._mark_failed(index, error)) from error
        except _BROKEN as error:
            raise AnswerLost(self._mark_failed(index, error)) from error
        if answer.status == self._busy:
            self._is_busy = True
            if is_long:  # a watch ends with it, and begins again later
                return answer
            self._why[index] = f"it answered {answer.status} {answer.text}"
            self._pass_over(index)
            raise NotAsked(self._why[index])
        if answer.status >= SERVER_ERROR and not self._refuses(answer):
            # no leader, a leader that changed, a disk that is full: another member may do better
            self._why[index] = f"it answered {answer.status} {answer.text}"
            self._pass_over(index)
            raise AnswerLost(self._why[index])
        self._mark_ok(index)
        return answer

    def _send(
        self, index: int, request: Request, times: aiohttp.ClientTimeout, *, is_long: bool
    ) -> "aiohttp.client._RequestContextManager":
        self.refuse_if_closed_for_good()
        if is_long not in self._sessions:
            made = self._open_session(self._tls) if self._open_session else None
            self._sessions[is_long] = made or _open_session(self._tls, self._limits[is_long])
        return self._sessions[is_long].request(
            request.method,
            URL(self._roots[index] + request.path, encoded=True),
            data=request.body,
            headers={**({} if request.method == "GET" else _SENT), **(request.headers or {})},
            timeout=times,
            allow_redirects=False,
        )

    def _mark_failed(self, index: int, error: BaseException) -> str:
        self._why[index] = _reason(error)
        self._pass_over(index)
        return self._why[index]

    def _pass_over(self, index: int) -> None:
        self._heard.pop(index, None)
        if self._current == index:  # many requests may fail at once, and one step is enough
            self._current = (index + 1) % len(self._roots)

    def _mark_ok(self, index: int) -> None:
        self._why.clear()
        self._is_busy = False
        self._answered = self._heard[index] = asyncio.get_running_loop().time()
        self._refuse_until = 0.0

    # --- watches

    async def long(self, request: Request, patience: float) -> Answer:
        """A request that the member answers when there is something to tell, `patience` seconds later at most.

        Raises:
            NotAsked, AnswerLost: see there; also if the member fails a health check meanwhile.
            Unavailable: the store was closed meanwhile.
        """
        index = self._current
        return await self._with_health_checks(index, self._ask(index, request, _times(), patience, is_long=True))

    async def stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        """Pieces of an answer that has no end, as they come.

        Raises:
            NotAsked, AnswerLost: see there; also when it ends, and if the member fails a health check.
            Refused: the member answered with an error.
            Unavailable: the store was closed meanwhile.
        """
        index = self._current
        begun: list[aiohttp.ClientResponse] = []
        try:
            response = await self._with_health_checks(index, self._response(index, request, begun))
            while piece := await self._with_health_checks(index, response.content.readany()):
                self._heard[index] = asyncio.get_running_loop().time()
                yield piece
        except _UNREACHABLE as error:
            raise NotAsked(self._mark_failed(index, error)) from error
        except _BROKEN as error:
            raise AnswerLost(self._mark_failed(index, error)) from error
        finally:
            for each in begun:  # also one that came in the very turn in which its watch was given up
                each.close()
        self._pass_over(index)
        raise AnswerLost("the answer ended")

    async def _response(
        self, index: int, request: Request, begun: list[aiohttp.ClientResponse]
    ) -> aiohttp.ClientResponse:
        """The answer that begins; it is added to `begun` for whoever closes it."""
        # a member says at once that a stream begins; if it does not, others would hide that by passing its health check
        async with asyncio.timeout(DEADLINE):
            response = await self._send(index, request, _times(), is_long=True)
            begun.append(response)
            if response.status == OK:
                return response
            answer = Answer(response.status, await response.read(), response.headers)
        if answer.status < SERVER_ERROR:
            raise Refused(answer.text)
        self._why[index] = f"it answered {answer.status} {answer.text}"
        self._pass_over(index)
        raise AnswerLost(self._why[index])

    async def _with_health_checks(self, index: int, work: Coroutine[Any, Any, T]) -> T:
        """Wait for `work`, and check the health of the member for as long as nothing comes."""
        task = asyncio.ensure_future(work)
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            while True:
                await asyncio.wait({task, closed}, timeout=QUIET, return_when=asyncio.FIRST_COMPLETED)
                self.refuse_if_closed()
                if task.done():
                    return task.result()
                await self._check_health(index)
        finally:
            for each in (task, closed):
                each.cancel()
            await asyncio.gather(task, closed, return_exceptions=True)

    async def _check_health(self, index: int) -> None:
        if asyncio.get_running_loop().time() - self._heard.get(index, 0.0) < QUIET:
            return  # it has just answered somebody else here
        answer = await self._ask(index, self._health.request(), _times(), DEADLINE / 2)
        if not self._health.passed(answer):
            has_none = answer.status == OK
            self._why[index] = "it has no leader" if has_none else f"it answered {answer.status} {answer.text}"
            self._pass_over(index)
            raise AnswerLost(self._why[index])

    async def reconnect_delay(self, lost_since: float) -> None:
        """Wait for a moment before a watch is begun again.

        Raises:
            Unavailable: it is lost for too long.
        """
        self.refuse_if_closed()
        if asyncio.get_running_loop().time() - lost_since >= LOST:
            raise Unavailable(f"the store does not answer: {self._reasons()}")
        await asyncio.sleep(BUSY_PAUSE if self._is_busy else PAUSE)

    # --- the end

    def refuse_if_closed(self) -> None:
        """Raise Unavailable if no new operation may begin."""
        if self._closed.is_set():
            raise Unavailable("the store is closed: the driver is stopping")

    def refuse_if_closed_for_good(self) -> None:
        """Raise Unavailable if what was under way is over, too."""
        if self._closed.is_set() and not self._under_way:
            self.refuse_if_closed()

    async def close(self) -> None:
        """Let operations that are under way end, and watches at once. Idempotent."""
        self._closed.set()
        await self._idle.wait()
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()


def _open_session(tls: ssl.SSLContext | None, limit: int) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=limit, ssl=tls or True, socket_factory=_kept_alive, resolver=HostNames(), ttl_dns_cache=10
    )
    # packing costs a member of the store more time than it saves on the wire between machines that are near
    return aiohttp.ClientSession(connector=connector, headers={"Accept-Encoding": "identity"})


async def _many_bytes(response: aiohttp.ClientResponse) -> bytearray:
    """The body of an answer of megabytes. Each piece is put behind those before it: all joined in one go, as `read`
    does, would keep the event loop for milliseconds."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
    return body


def _kept_alive(address: Any) -> socket.socket:
    """A socket with keepalive: it notices a host or a network that is gone, also between requests."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    ):
        made.setsockopt(level, option, value)
    return made


def _reason(error: BaseException) -> str:
    """The cause of an error, without the text that aiohttp puts around it (it names TLS where there is none)."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not accepted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        code = error.os_error.errno or 0  # below zero for what a resolver of names says
        return f"no connection: {os.strerror(code) if code > 0 else error.os_error.strerror or error.os_error}"
    return str(error) or f"no answer in time ({type(error).__name__})"
