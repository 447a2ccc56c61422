"""DNS server: binds UDP and TCP of one address, and reports its state.

It never stops the driver: an address that cannot be bound is a problem that `state` reports, and is tried again. UDP is
served by a thread of its own (`udp`), TCP on the event loop (`tcp`); both answer from one `ResponseCache`. A query that
must wait for names is answered on the event loop too (`late`).
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections import Counter
from dataclasses import dataclass
from typing import NoReturn

import dns.rcode

from macvlan_global.blocking_calls import briefly
from macvlan_global.dns.address import ListenAddress
from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.dns.resolver.late import LateReplies
from macvlan_global.dns.resolver.port_owner import port_owners
from macvlan_global.dns.resolver.tcp import TcpServer
from macvlan_global.dns.resolver.udp import RECEIVE_BUFFER, UdpServer
from macvlan_global.errors import Unavailable
from macvlan_global.tasks import forever

log = logging.getLogger(__name__)

OWNER_SECONDS = 2.0
"""Time to find out who holds the port."""

RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ResolverState:
    """State of the resolver, for `status`.

    `known` says that all names of the networks that are followed are there, `names` is the number of endpoints,
    `queries` that of queries since it listens. `problem` is the reason why it does not listen, "" if it does.
    """

    address: str
    listening: bool
    known: bool
    names: int
    queries: int
    problem: str = ""


class Resolver:
    """Serves DNS on one address. If it cannot, `state` has the problem, and it tries again."""

    def __init__(
        self,
        cache: ResponseCache,
        address: ListenAddress,
        *,
        retry: float = RETRY_SECONDS,
        find_owner: float = OWNER_SECONDS,
    ) -> None:
        """Nothing is opened yet; an address that cannot be bound is tried again every `retry` seconds, after at most
        `find_owner` seconds of looking for who has it."""
        self._cache = cache
        self._address = address
        self._retry = retry
        self._find_owner = find_owner
        self._udp: UdpServer | None = None
        self._tcp: TcpServer | None = None
        self._late: LateReplies | None = None
        self._problem = "the resolver has not started yet"

    def state(self) -> ResolverState:
        """The state now."""
        queries = (self._udp.queries if self._udp else 0) + (self._tcp.queries if self._tcp else 0)
        listening = self._udp is not None
        problem = "" if listening else self._problem
        cache = self._cache
        return ResolverState(str(self._address), listening, cache.synced, len(cache), queries, problem)

    @property
    def cached(self) -> int:
        """Number of replies in the response cache."""
        return len(self._cache.templates) + len(self._cache.templates_over_tcp)

    def answers(self) -> dict[tuple[str, str], int]:
        """Queries since it listens, by transport and the name of the answer code; "none" if no reply was sent."""
        found: Counter[tuple[str, str]] = Counter()
        for transport, server in (("udp", self._udp), ("udp", self._late), ("tcp", self._tcp)):
            if server:
                for flags, count in enumerate(server.answers):
                    if count:
                        found[transport, dns.rcode.to_text(dns.rcode.Rcode(flags & 15)).lower()] += count
                found[transport, "none"] += server.unanswered
        if self._udp:
            found["udp", "none"] -= self._udp.handed_over
        return found

    async def run(self) -> NoReturn:
        """Serve until cancelled, then close."""
        try:
            await forever("serving DNS", self._serve, first=self._retry, last=self._retry, level=logging.ERROR)
        finally:
            await self.stop()

    async def start(self) -> None:
        """Bind the address and serve.

        Raises:
            Unavailable: the address cannot be bound; the text has the reason and the next step.
        """
        async with contextlib.AsyncExitStack() as opened:
            try:
                datagrams, stream = (
                    opened.enter_context(contextlib.closing(_listen(self._address, kind)))
                    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)
                )
                late, tcp = LateReplies(self._cache, datagrams), TcpServer(self._cache)
                udp = UdpServer(self._cache, datagrams, late.offer)
                opened.push_async_callback(tcp.stop)
                await tcp.start(stream)
                udp.start()
            except OSError as error:
                # the search in /proc takes milliseconds, or for ever: a process may hang while its files are looked at
                owner = await briefly(lambda: port_owners(self._address.port), self._find_owner)
                raise Unavailable(_bind_error(self._address, error, owner or "another process")) from error
            opened.pop_all()
        self._tcp, self._udp, self._late = tcp, udp, late
        self._problem = ""
        log.info("the resolver listens on %s", self._address)

    async def stop(self) -> None:
        """Stop serving and close the sockets. Idempotent."""
        udp, tcp, late, self._udp, self._tcp, self._late = self._udp, self._tcp, self._late, None, None, None
        self._problem = "the resolver was stopped"
        if late:
            await late.stop()
        if udp:
            await asyncio.to_thread(udp.stop)
        if tcp:
            await tcp.stop()

    async def _serve(self) -> None:
        """Start, and serve until cancelled."""
        try:
            await self.start()
        except Unavailable as error:
            self._problem = str(error)
            raise
        except Exception as error:
            self._problem = f"the resolver cannot start: internal error ({error})"
            raise
        await asyncio.Event().wait()


def _listen(address: ListenAddress, kind: socket.SocketKind) -> socket.socket:
    listener = socket.socket(address.family, kind)
    try:
        if kind == socket.SOCK_STREAM:  # connections of the run before may still be in TIME_WAIT
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        listener.bind((address.ip, address.port))
        if kind == socket.SOCK_STREAM:
            listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def _bind_error(address: ListenAddress, error: OSError, owner: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"the resolver cannot listen on {address}: {owner} listens on that port; have it listen on its own "
            "addresses only (dnsmasq: bind-interfaces), or choose another address with `dns` in the configuration"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"the resolver cannot listen on {address}: this host has no such address; choose another one with `dns` in "
            "the configuration"
        )
    return f"the resolver cannot listen on {address}: {error.strerror or error}"
