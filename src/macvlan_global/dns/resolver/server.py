"""The resolver: one address, UDP and TCP, and what is said about it."""

import asyncio
import contextlib
import errno
import logging
import socket
from dataclasses import dataclass

from macvlan_global.dns.address import ListenAddress
from macvlan_global.dns.resolver.cache import Answers
from macvlan_global.dns.resolver.port_owner import who_listens
from macvlan_global.dns.resolver.tcp import TcpServer
from macvlan_global.dns.resolver.udp import RECEIVE_BUFFER, UdpServer
from macvlan_global.errors import Unavailable

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ResolverState:
    """What `status` says: `names` is the number of endpoints that are known, `known` whether the store was read once,
    `problem` why it does not listen, "" if it does."""

    address: str
    listening: bool
    known: bool
    names: int
    queries: int
    problem: str = ""


class Resolver:
    """Serves answers on an address. What does not work is told by `state`, and tried again."""

    def __init__(self, answers: Answers, address: ListenAddress, *, retry: float = RETRY_SECONDS) -> None:
        """Nothing is opened yet; while the address cannot be used, it is tried again each `retry` seconds."""
        self._answers = answers
        self._address = address
        self._retry = retry
        self._udp: UdpServer | None = None
        self._tcp: TcpServer | None = None
        self._problem = "it was not started"

    def state(self) -> ResolverState:
        """How it is now."""
        queries = (self._udp.queries if self._udp else 0) + (self._tcp.queries if self._tcp else 0)
        listening = self._udp is not None
        problem = "" if listening else self._problem
        answers = self._answers
        return ResolverState(str(self._address), listening, answers.known, len(answers), queries, problem)

    async def run(self) -> None:
        """Serve until cancelled, and close what was opened. Never returns by itself."""
        try:
            while True:
                try:
                    await self.start()
                    await asyncio.Event().wait()
                except Unavailable as error:
                    if self._problem != str(error):  # said once
                        log.error("%s", error)  # noqa: TRY400  # the text says it all
                    self._problem = str(error)
                except Exception as error:  # a bug on this side task must not stop the driver that containers rely on
                    log.exception("the resolver failed; it is tried again")
                    self._problem = f"an internal error: {error}"
                await asyncio.sleep(self._retry)
        finally:
            await self.stop()

    async def start(self) -> None:
        """Begin to serve.

        Raises:
            Unavailable: the address cannot be used; the text says why, and what to do.
        """
        try:
            with contextlib.ExitStack() as opened:
                datagrams, stream = (
                    opened.enter_context(contextlib.closing(_listen(self._address, kind)))
                    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)
                )
                opened.pop_all()
        except OSError as error:
            raise Unavailable(_reason(self._address, error)) from error
        tcp = TcpServer(self._answers)
        await tcp.start(stream)
        self._tcp, self._udp = tcp, UdpServer(self._answers, datagrams)
        self._udp.start()
        self._problem = ""
        log.info("the resolver serves on %s", self._address)

    async def stop(self) -> None:
        """Serve no longer. Idempotent."""
        udp, tcp, self._udp, self._tcp = self._udp, self._tcp, None, None
        self._problem = "it was stopped"
        if udp:
            await asyncio.to_thread(udp.stop)
        if tcp:
            await tcp.stop()


def _listen(address: ListenAddress, kind: socket.SocketKind) -> socket.socket:
    listener = socket.socket(address.family, kind)
    try:
        if kind == socket.SOCK_STREAM:  # after a restart, connections of the one before may linger
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        listener.bind((address.ip, address.port))
        if kind == socket.SOCK_STREAM:
            listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _reason(address: ListenAddress, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        who = who_listens(address.port) or "another process"
        return (
            f"the resolver cannot listen on {address}: {who} has it; make that listen on its own addresses only "
            "(dnsmasq: bind-interfaces), or choose another address with `dns` in the configuration"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"the resolver cannot listen on {address}: this host has no such address; choose another one with `dns`"
    return f"the resolver cannot listen on {address}: {error.strerror}"
