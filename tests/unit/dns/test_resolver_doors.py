"""Doors of the resolver, on real sockets: errors of the kernel, of clients and of messages are contained."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from lab.speed import patience, within
from macvlan_global.dns.address import ListenAddress
from macvlan_global.dns.resolvconf.ask import ask
from macvlan_global.dns.resolvconf.install import ResolvConf
from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.dns.resolver.port_owner import port_owners
from macvlan_global.dns.resolver.server import Resolver
from macvlan_global.dns.resolver.tcp import TcpServer
from macvlan_global.dns.resolver.udp import UdpServer
from testkit.foreign_errors import FOREIGN
from tests.unit.dns.names import ADDRESS, knowing, question, record, until
from tests.unit.no_descriptors import no_descriptors

pytestmark = pytest.mark.together  # they listen on the address of this process

OPT = struct.pack("!HHI", 41, 1232, 0)


@asynccontextmanager
async def running(resolver: Resolver) -> AsyncIterator[None]:
    """Run a resolver within the block, after which it must still run."""
    task = asyncio.ensure_future(resolver.run())
    yield
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Broken(ResponseCache):
    """Raises for the name `bad`."""

    error: Exception = ValueError()

    def respond(self, query: bytes, *, udp: bool) -> bytes | None:
        """See `ResponseCache.respond`."""
        if b"\x03bad" in query:
            raise self.error
        return super().respond(query, udp=udp)


class Large(ResponseCache):
    """Answers every query with as much as fits into a message."""

    def respond(self, query: bytes, *, udp: bool) -> bytes | None:
        """See `ResponseCache.respond`."""
        return query + b"\0" * 65000


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _ask_udp(*queries: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(patience(5))
        client.connect((ADDRESS.ip, ADDRESS.port))
        for each in queries:
            client.send(each)
        return client.recv(4096)


async def _ask_tcp(query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(ADDRESS.ip, ADDRESS.port)
    writer.write(struct.pack("!H", len(query)) + query)
    reply = await asyncio.wait_for(reader.read(4096), patience(5))
    writer.close()
    return reply[2:]


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
async def test_an_exception_costs_one_query_over_udp_and_one_connection_over_tcp(error: Exception) -> None:
    """Whatever it is; the next query is answered."""
    cache = Broken(5)
    cache.error = error
    cache.set_awaited(frozenset())
    resolver = Resolver(cache, ADDRESS)
    async with running(resolver):
        await until(lambda: resolver.state().listening)
        good = question("web")
        assert (await asyncio.to_thread(_ask_udp, question("bad"), good))[:2] == good[:2]
        assert await _ask_tcp(question("bad")) == b""
        assert (await _ask_tcp(good))[:2] == good[:2]


async def test_clients_that_do_not_read_cost_no_descriptors() -> None:
    """A connection is cut off after the idle time, though its replies were never read."""
    cache = Large(5)
    cache.set_awaited(frozenset())
    server = TcpServer(cache, idle=0.2)
    await server.start(socket.create_server((ADDRESS.ip, ADDRESS.port)))
    open_before = _descriptors()
    query = question("web")
    clients = []
    for _ in range(8):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, (ADDRESS.ip, ADDRESS.port))
        clients.append(client)
    async with within(20):
        while server.queries < 8 or _descriptors() > open_before + len(clients):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.send((struct.pack("!H", len(query)) + query) * 200)
            await asyncio.sleep(0.01)
    for client in clients:
        client.close()
    await server.stop()


async def test_without_descriptors_the_resolver_says_so_and_tries_again() -> None:
    """The kernel's words are the problem that status shows; once there are some, it listens."""
    resolver = Resolver(knowing(record(1, "web")), ADDRESS, retry=0.01)
    with no_descriptors():
        running_resolver = running(resolver)
        await running_resolver.__aenter__()
        await until(lambda: "Too many open files" in resolver.state().problem)
        assert resolver.state().problem.startswith(f"the resolver cannot listen on {ADDRESS}: ")
        assert ask(ADDRESS, 0.1) == "does not answer"
    await until(lambda: resolver.state().listening)
    with no_descriptors():
        await resolver.stop()
    assert ask(ADDRESS, 0.1) == "does not answer"
    await running_resolver.__aexit__(None, None, None)


@pytest.mark.parametrize("ip", ["x" * 70, "nowhere\0", "\udc80"])
async def test_an_address_that_no_socket_takes_ends_nothing(ip: str) -> None:
    """UnicodeError and ValueError of the socket module are an internal error that state shows."""
    resolver = Resolver(knowing(), ListenAddress(ip, ADDRESS.port), retry=0.01)
    async with running(resolver):
        await until(lambda: resolver.state().problem.startswith("the resolver cannot "))
        assert not resolver.state().listening


async def test_udp_that_never_started_can_be_stopped() -> None:
    """Its socket is closed."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((ADDRESS.ip, ADDRESS.port))
    UdpServer(knowing(), listener).stop()
    assert listener.fileno() == -1


def test_a_client_who_takes_no_replies_costs_its_own(tmp_path: Path) -> None:
    """The kernel has no room for them, as for those to a client whose link address does not resolve. Sockets of the
    Unix domain play it, which keep a few datagrams for who does not read. Those of others in the same batch arrive."""
    query = question("web")
    with contextlib.ExitStack() as stack:
        folder = os.open(tmp_path, os.O_RDONLY)  # a short path: the server has room for an Internet address
        stack.callback(os.close, folder)

        def bound(name: str) -> socket.socket:
            made = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            made.bind(f"/proc/self/fd/{folder}/{name}")
            return made

        listener, busy, other = bound("l"), bound("b"), bound("o")
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(query, busy.getsockname())
        for client in (busy, other, busy, other):
            client.sendto(query, listener.getsockname())
        other.settimeout(patience(5))
        server = UdpServer(knowing(record(1, "web")), listener)
        server.start()
        stack.callback(server.stop)
        assert [other.recv(4096)[:2] for _ in range(2)] == [query[:2]] * 2


@pytest.mark.parametrize(
    "additional",
    [
        b"\0" + OPT + struct.pack("!HHH", 8, 8, 4) + b"\0\x01\xff\xff",  # ECS: a prefix of 255 bits
        b"\0" + OPT + struct.pack("!HHH", 8, 15, 4) + b"\0\x01\xff\xfe",  # EDE: no UTF-8
        b"\0" + OPT + struct.pack("!HHH", 6, 10, 2) + b"\0\0",  # COOKIE: two bytes
        b"\0" + OPT + struct.pack("!HHH", 4, 8, 400),  # longer than the record
        b"\0" + OPT + struct.pack("!H", 9),  # shorter than its length
        b"\x01a\0" + OPT + struct.pack("!H", 0),  # OPT is of the root only
        b"\xc0\xff" + OPT + struct.pack("!H", 0),  # a pointer behind the end
        b"\xc0\x15" + OPT + struct.pack("!H", 0),  # a pointer to itself
        b"\x80" + OPT + struct.pack("!H", 0),  # a label of no type
        b"\0" + struct.pack("!HHIH", 250, 255, 0, 3) + b"abc",  # TSIG: half a record
        b"",  # announced, and missing
    ],
)
def test_a_message_that_cannot_be_read_gets_its_error_code(additional: bytes) -> None:
    """Whatever its parser raises: DNS errors, ValueError, UnicodeError, struct.error."""
    query = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 1) + b"\x03web\0\0\1\0\1" + additional
    for udp in (True, False):
        reply = knowing(record(1, "web")).respond(query, udp=udp)
        assert reply is not None
        assert dns.message.from_wire(reply).rcode() == dns.rcode.FORMERR


def test_the_owner_of_a_port_is_found_among_odd_processes(tmp_path: Path) -> None:
    """Names that are no UTF-8, processes that end meanwhile, folders without files, and tables of another format."""
    (tmp_path / "self/net").mkdir(parents=True)
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    (tmp_path / "self/net/udp").write_text(head + " 0: 0100007F:0035 00000000:0000 07 0:0 00:0 0 0 0 77 2 0 0\n")
    (tmp_path / "self/net/tcp").write_bytes(b"\xff\n\xff\n")
    (tmp_path / "self/net/udp6").write_text(head + "not a line\n")
    for pid, comm in ((7, b"dns\xff\n"), (8, None)):
        (tmp_path / f"{pid}/fd").mkdir(parents=True)
        (tmp_path / f"{pid}/fd/3").symlink_to("socket:[77]")
        if comm:
            (tmp_path / f"{pid}/comm").write_bytes(comm)
    (tmp_path / "9").mkdir()
    assert port_owners(53, tmp_path) == "dns\ufffd (pid 7)"
    assert port_owners(53, tmp_path / "nowhere") == ""


def test_a_resolv_conf_of_any_bytes_is_installed_and_restored(tmp_path: Path) -> None:
    """Also where it is a link of systemd-resolved, whose file is copied."""
    (tmp_path / "etc").mkdir()
    folder = tmp_path / "run/systemd/resolve"
    folder.mkdir(parents=True)
    (folder / "stub-resolv.conf").write_bytes(b"nameserver 127.0.0.53\nsearch \xff\n")
    (tmp_path / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    file = ResolvConf(tmp_path)
    file.apply(file.install("127.0.0.153"))
    assert b"search \xff\n" in file.path.read_bytes()
    file.apply(file.remove())
    assert file.path.is_symlink()
