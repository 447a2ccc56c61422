"""The resolver on loopback: UDP, TCP, and an address that somebody else has."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lab.speed import patience, within
from macvlan_global.config import load_config
from macvlan_global.dns.address import ListenAddress, read_address
from macvlan_global.dns.resolvconf.ask import ask as probe
from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.dns.resolver.late import LateReplies
from macvlan_global.dns.resolver.port_owner import port_owners
from macvlan_global.dns.resolver.server import Resolver
from macvlan_global.dns.resolver.tcp import TcpServer
from macvlan_global.dns.resolver.udp import BATCH, UdpServer
from macvlan_global.errors import Invalid, Unavailable
from tests.unit.dns.names import ADDRESS, key, knowing, question, record, until

pytestmark = pytest.mark.together  # they listen on the address of this process

WEB = record(9, "web", ipv6=True)


@asynccontextmanager
async def _serving(cache: ResponseCache, address: ListenAddress = ADDRESS) -> AsyncIterator[Resolver]:
    resolver = Resolver(cache, address)
    await resolver.start()
    try:
        yield resolver
    finally:
        await resolver.stop()


def _asker(address: ListenAddress = ADDRESS) -> socket.socket:
    asker = socket.socket(address.family, socket.SOCK_DGRAM)
    asker.settimeout(patience(5))
    asker.connect((address.ip, address.port))
    return asker


def _exchange(queries: list[bytes], replies: int, address: ListenAddress = ADDRESS) -> list[bytes]:
    with _asker(address) as asker:
        for each in queries:
            asker.send(each)
        return [asker.recv(4096) for _ in range(replies)]


@pytest.mark.parametrize("address", [ADDRESS, ListenAddress("::1", ADDRESS.port)], ids=["IPv4", "IPv6"])
async def test_it_answers_over_udp_and_tcp_on_one_address(address: ListenAddress) -> None:
    """IPv4 and IPv6, made and ready-made alike, each with its own id."""
    async with _serving(knowing(WEB), address) as resolver:
        first, second = question("web"), question("web")
        replies = await asyncio.to_thread(_exchange, [first, second], 2, address)
        assert [each[:2] for each in replies] == [first[:2], second[:2]]
        assert replies[0][2:] == replies[1][2:]
        assert replies[0].endswith(bytes([10, 65, 0, 9]))
        reader, writer = await asyncio.open_connection(address.ip, address.port)
        writer.write(struct.pack("!H", len(first)) + first)
        assert await reader.readexactly(2 + len(replies[0])) == struct.pack("!H", len(replies[0])) + replies[0]
        writer.close()
        answers = resolver.answers()
        assert (answers["udp", "noerror"], answers["tcp", "noerror"], resolver.cached) == (2, 1, 2)


async def test_a_batch_with_what_gets_no_reply_loses_none_of_the_others() -> None:
    """Datagrams that are dropped stand between others, first and last in a batch too."""
    good = [question(name) for name in ("web", "web.lan", "elsewhere.example", "WEB")]
    queries = [b"", *(each for query in good * BATCH for each in (query, b"short", b"\0" * 4000))]
    expected = len(good) * BATCH * 2  # what is too long is told so
    async with _serving(knowing(WEB)) as resolver:
        replies = await asyncio.to_thread(_exchange, queries, expected)
        assert sum(each[3] & 0x0F == 1 for each in replies) == len(good) * BATCH
        assert {each[:2] for each in replies if each[3] & 0x0F != 1} == {each[:2] for each in good}
        assert resolver.state().queries == len(queries)
        codes = {"noerror": 3 * BATCH, "refused": BATCH, "formerr": 4 * BATCH, "none": 4 * BATCH + 1}
        assert resolver.answers() == {("udp", code): count for code, count in codes.items()} | {("tcp", "none"): 0}


async def test_a_change_is_seen_at_once() -> None:
    """A cached reply of the old state is not sent any more."""
    cache = knowing(WEB)
    async with _serving(cache):
        for expected in (0, 0, 5):
            if expected:
                cache.update(deleted=[key(WEB)])
            reply = (await asyncio.to_thread(_exchange, [question("web")], 1))[0]
            assert reply[3] & 0x0F == expected


async def test_a_bug_costs_one_reply(caplog: pytest.LogCaptureFixture) -> None:
    """The thread goes on, and the log has the query."""

    class Broken(ResponseCache):
        def respond(self, query: bytes, *, udp: bool) -> bytes | None:
            if query[12:16] == b"\x03bad":
                raise KeyError(udp)
            return super().respond(query, udp=udp)

    cache = Broken(5)
    cache.set_awaited(frozenset())
    async with _serving(cache):
        assert len(await asyncio.to_thread(_exchange, [question("bad"), question("web")], 1)) == 1
    assert "no reply was built for the query" in caplog.text


def _awaiting(*networks: str) -> ResponseCache:
    """The cache of a resolver that knows WEB, and reads the names of these networks."""
    cache = knowing(WEB)
    cache.set_awaited(frozenset(networks))
    return cache


@pytest.mark.parametrize("address", [ADDRESS, ListenAddress("::1", ADDRESS.port)], ids=["IPv4", "IPv6"])
async def test_a_query_that_comes_before_the_names_is_answered_when_they_are_there(address: ListenAddress) -> None:
    """Over UDP and TCP. The UDP thread answers others meanwhile, and one client's late reply is not another's."""
    cache = _awaiting("wan")
    async with _serving(cache, address) as resolver:
        with _asker(address) as late, _asker(address) as other:
            for number in range(20):
                late.send(question(f"db{number}", id=number))
            reader, writer = await asyncio.open_connection(address.ip, address.port)
            writer.write(struct.pack("!H", len(question("db1"))) + question("db1"))
            while resolver.state().queries < 21:  # noqa: ASYNC110 - the thread tells nobody
                await asyncio.sleep(0.001)
            assert resolver.answers() == {("udp", "none"): 0, ("tcp", "none"): 0}
            other.send(question("x.invalid"))
            assert (await asyncio.to_thread(other.recv, 4096))[3] & 0x0F == 2, "SERVFAIL: names are missing"
            read = [record(number, f"db{number}", network="wan") for number in range(20)]
            cache.update(put=[(key(each), each) for each in read])
            cache.set_awaited(frozenset())
            replies = [await asyncio.to_thread(late.recv, 4096) for _ in range(20)]
            assert {(struct.unpack("!H", each[:2])[0], each[-1]) for each in replies} == {(n, n) for n in range(20)}
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            assert (await reader.readexactly(length))[-1] == 1
            writer.close()
        answers = resolver.answers()
        assert (answers["udp", "noerror"], answers["udp", "servfail"], answers["tcp", "noerror"]) == (20, 1, 1)
        assert answers["udp", "none"] == 0


async def test_no_query_waits_for_ever_and_no_more_than_there_is_room_for() -> None:
    """After the longest wait the reply is SERVFAIL; one too many gets it at once."""
    cache = _awaiting("wan")
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((ADDRESS.ip, ADDRESS.port))
    late = LateReplies(cache, listener, seconds=0.2, most=3)
    server = UdpServer(cache, listener, late.offer)
    server.start()
    replies = await asyncio.to_thread(_exchange, [question("db", id=number) for number in range(5)], 5)
    assert {each[3] & 0x0F for each in replies} == {2}
    assert {struct.unpack("!H", each[:2])[0] for each in replies[:2]} == {3, 4}
    assert (late.answers[2], server.handed_over) == (3, 3)
    replies = await asyncio.to_thread(_exchange, [question("db")], 1)
    assert replies[0][3] & 0x0F == 2, "there is room again"
    await late.stop()
    await asyncio.to_thread(server.stop)


async def test_tcp_has_limits() -> None:
    """A connection too many, an idle one, and one with too long a query are closed; the others go on."""
    listener = socket.create_server((ADDRESS.ip, ADDRESS.port))
    server = TcpServer(knowing(WEB), most=2, idle=0.2)
    await server.start(listener)
    talking, _ = await asyncio.open_connection(ADDRESS.ip, ADDRESS.port), None
    silent = await asyncio.open_connection(ADDRESS.ip, ADDRESS.port)
    too_many = await asyncio.open_connection(ADDRESS.ip, ADDRESS.port)
    assert await asyncio.wait_for(too_many[0].read(), patience(5)) == b""
    assert await asyncio.wait_for(silent[0].read(), patience(5)) == b""
    long = await asyncio.open_connection(ADDRESS.ip, ADDRESS.port)
    long[1].write(b"\xff\xff")
    assert await asyncio.wait_for(long[0].read(), patience(5)) == b""
    for _, writer in (talking, silent, too_many, long):
        writer.close()
    await server.stop()


class Counted(ResponseCache):
    """Counts the replies that are built."""

    built = 0

    def respond(self, query: bytes, *, udp: bool) -> bytes | None:
        """See `ResponseCache.respond`."""
        self.built += 1
        return super().respond(query, udp=udp)


async def test_of_many_clients_over_tcp_one_is_answered_in_a_round_of_the_event_loop() -> None:
    """Their queries come at once; each has a long answer of its own. Of those that ask the same, all but the first get
    what is kept."""
    cache = Counted(5)
    names = [f"web{number}" for number in range(20)]
    cache.update(put=[(key(each), each) for each in (record(number, *names) for number in range(9))])
    cache.set_awaited(frozenset())
    server = TcpServer(cache)
    await server.start(socket.create_server((ADDRESS.ip, ADDRESS.port)))
    clients = [await asyncio.open_connection(ADDRESS.ip, ADDRESS.port) for _ in names]

    async def answered() -> None:
        for reader, _ in clients:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            assert (await reader.readexactly(length))[7] == 9

    def ask_all(*asked: str) -> None:
        for (_, writer), name in zip(clients, asked, strict=True):
            writer.write(struct.pack("!H", len(question(name))) + question(name))

    ask_all(*[names[0]] * len(clients))
    await answered()
    assert (server.queries, cache.built) == (20, 1)
    ask_all(*names)
    at_once = 0
    async with within(5):
        while cache.built < 20:
            before = cache.built
            await asyncio.sleep(0)
            at_once = max(at_once, cache.built - before)
    assert at_once == 1
    await answered()
    for _, writer in clients:
        writer.close()
    await server.stop()


async def test_an_address_that_somebody_has_is_a_reason_and_is_tried_again() -> None:
    """State says who has it; once it is free the resolver serves, without being told."""
    resolver = Resolver(knowing(WEB), ADDRESS, retry=0.1, find_owner=patience(60))
    holder = await asyncio.create_subprocess_exec(
        *(
            "python3",
            "-c",
            f"import socket\ns=socket.socket(2,2)\ns.bind(('0.0.0.0',{ADDRESS.port}))\nprint(1,flush=True)\ninput()",
        ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdout
    assert await holder.stdout.readline()
    running = asyncio.ensure_future(resolver.run())
    await until(lambda: f"python3 (pid {holder.pid}) listens on that port" in resolver.state().problem, seconds=60)
    assert not resolver.state().listening
    await holder.communicate(b"\n")
    await until(lambda: resolver.state().listening)
    state = resolver.state()
    assert (state.address, state.known, state.names, state.problem) == (str(ADDRESS), True, 1, "")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert resolver.state().problem == "the resolver was stopped"
    assert port_owners(ADDRESS.port) == ""


async def test_an_address_that_this_host_has_not_is_a_reason() -> None:
    """Nothing stays open."""
    with pytest.raises(Unavailable, match="this host has no such address"):
        await Resolver(ResponseCache(5), ListenAddress("192.0.2.1", ADDRESS.port)).start()


async def test_udp_stops_while_it_waits() -> None:
    """Its thread ends, and the address is free at once."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((ADDRESS.ip, ADDRESS.port))
    server = UdpServer(ResponseCache(5), listener)
    server.start()
    await asyncio.to_thread(server.stop)
    assert not server._thread.is_alive()
    async with _serving(ResponseCache(5)):
        pass


async def test_a_probe_tells_what_a_resolver_says() -> None:
    """Ours that knows, ours that does not, and nobody."""
    verdicts = []
    for cache in (knowing(WEB), ResponseCache(5)):
        async with _serving(cache):
            verdicts.append(await asyncio.to_thread(probe, ADDRESS))
    verdicts.append(await asyncio.to_thread(probe, ADDRESS))
    assert verdicts == ["answers", "has not read the store yet", "does not answer"]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.153", ListenAddress("127.0.0.153", 53)),
        ("127.0.0.153:5353", ListenAddress("127.0.0.153", 5353)),
        ("::1", ListenAddress("::1", 53)),
        ("[::1]:5353", ListenAddress("::1", 5353)),
        ("[::1]", ListenAddress("::1", 53)),
    ],
)
def test_addresses_are_read(text: str, address: ListenAddress) -> None:
    """With and without a port; written out they are read again. The configuration takes the same."""
    assert read_address(text) == address
    assert read_address(str(address)) == address
    for each in (text, str(address)):
        assert load_config(None, {"MACVLAN_GLOBAL_DNS": each}, {}).dns == each


@pytest.mark.parametrize(
    "text", ["", "x", "localhost:53", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "::", "0:0::", "224.0.0.251"]
)
def test_what_is_no_address_of_a_host_is_refused(text: str) -> None:
    """A reply must come from the address that was asked, so there is no "all addresses"."""
    with pytest.raises(Invalid, match=r"for example 127\.0\.0\.153:53$"):
        read_address(text)
