"""HTTP as engines and curl speak it, and what is none, through a real socket."""

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.speed import patience
from macvlan_global.errors import Conflict
from macvlan_global.libnetwork.handlers import Route
from macvlan_global.libnetwork.http import CONTENT_TYPE, MAX_AHEAD, MAX_BODY, MAX_HEAD, Connections, Reply
from macvlan_global.libnetwork.messages import Activation, AllocateNetwork, Empty, GwAllocCheck, Message
from macvlan_global.libnetwork.server import PluginServer
from macvlan_global.listening import listen
from macvlan_global.metrics.counts import Metrics

ECHO = "/Plugin.Echo"
HANG = "/Plugin.Hang"


class Peer:
    """A client that sends bytes, and takes apart what comes back."""

    def __init__(self, path: Path, server: PluginServer, hang: asyncio.Event) -> None:
        """Not connected yet."""
        self.path = path
        self.server = server
        self.hang = hang
        self.status: list[int] = []
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def connect(self) -> None:
        """Connect, or do so anew."""
        self._reader, self._writer = await asyncio.open_unix_connection(str(self.path))

    async def send(self, *parts: bytes) -> None:
        """Send each part by itself."""
        for each in parts:
            self._writer.write(each)
            await self._writer.drain()

    async def answer(self) -> tuple[int, bytes, dict[str, str]]:
        """The next answer: status, body, header fields."""
        async with asyncio.timeout(patience(10)):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            line, *fields = head.strip().split("\r\n")
            header = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)}
            body = await self._reader.readexactly(int(header.get("content-length", "0")))
            return int(line.split()[1]), body, header

    async def ends(self) -> bool:
        """Whether the driver closes the connection, with nothing more to say."""
        async with asyncio.timeout(patience(10)):
            try:
                return await self._reader.read() == b""
            except ConnectionResetError:
                return True

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    """Connected to a server that says what it was sent."""
    hang = asyncio.Event()

    async def echo(request: AllocateNetwork) -> Message:
        return Activation(implements=[request.network_id])

    async def wait(_request: Empty) -> Message:
        await hang.wait()
        raise Conflict("waited")

    routes = {ECHO: Route(AllocateNetwork, echo), HANG: Route(Empty, wait)}
    server = PluginServer(routes, Metrics())
    path = tmp_path / "plugin.sock"
    await server.start(listen(path, what="the plugin socket"))
    peer = Peer(path, server, hang)
    await peer.connect()
    yield peer
    hang.set()
    peer.close()
    await server.stop()


def post(text: str, *fields: str, path: str = ECHO, version: str = "1.1") -> bytes:
    """A request whose answer has this text."""
    body = json.dumps({"NetworkID": text}).encode()
    head = "\r\n".join((f"POST {path} HTTP/{version}", "Host: plugin", f"Content-Length: {len(body)}", *fields))
    return f"{head}\r\n\r\n".encode() + body


def chunked(text: str, *cuts: int, trailer: str = "") -> bytes:
    """The same, in chunks that end at these places."""
    body = json.dumps({"NetworkID": text}).encode()
    at = [0, *sorted(cuts), len(body)]
    chunks = [body[start:end] for start, end in itertools.pairwise(at) if end > start]
    framed = b"".join(b"%X;of=mine\r\n%s\r\n" % (len(each), each) for each in chunks)
    return (
        f"POST {ECHO} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + framed + f"0\r\n{trailer}\r\n".encode()
    )


def said(answer: tuple[int, bytes, dict[str, str]]) -> str:
    """The text of an answer."""
    status, body, header = answer
    assert (status, header["content-type"]) == (200, CONTENT_TYPE)
    return str(json.loads(body)["Implements"][0])


async def test_a_connection_carries_one_request_after_the_other(peer: Peer) -> None:
    """As an engine keeps it, with each body as long as it says."""
    for text in ("a", "", "b" * 5000):
        await peer.send(post(text))
        assert said(await peer.answer()) == text


async def test_a_body_in_chunks_is_put_together(peer: Peer) -> None:
    """With extensions and a trailer, which nobody needs."""
    for request in (chunked("whole"), chunked("a" * 3000, 1, 7, 2000), chunked("x", trailer="Checked: yes\r\n")):
        await peer.send(request)
        assert said(await peer.answer()) in {"whole", "a" * 3000, "x"}


async def test_requests_sent_ahead_are_answered_in_their_order(peer: Peer) -> None:
    """One after the other, also those that are refused at once."""
    await peer.send(b"".join([post("1"), post("", path="/Nosuch") * 2000, chunked("2"), post("3")]))
    assert said(await peer.answer()) == "1"
    for _ in range(2000):
        assert (await peer.answer())[0] == 404
    assert [said(await peer.answer()), said(await peer.answer())] == ["2", "3"]


async def test_who_sends_ahead_without_end_has_to_wait(peer: Peer) -> None:
    """While a request is in hand, the driver keeps some of what comes and no more; nothing is lost."""
    await peer.send(post("", path=HANG))
    count = 3 * MAX_AHEAD // 500_000
    ahead = [post("x" * 500_000)] * count
    sending = asyncio.ensure_future(peer.send(*ahead))
    done, _ = await asyncio.wait({sending}, timeout=0.5)
    assert not done
    peer.hang.set()
    assert (await peer.answer())[0] == 200
    for _ in range(count):
        assert len(said(await peer.answer())) == 500_000
    await sending


async def test_a_body_too_long_is_read_and_refused_and_the_connection_stays(peer: Peer) -> None:
    """Whatever it says of its length; the client has sent all of it before it looks."""
    big = "x" * MAX_BODY
    for request in (post(big), chunked(big, *range(1000, MAX_BODY, 500_000))):
        await peer.send(request)
        status, body, _ = await peer.answer()
        assert (status, list(json.loads(body))) == (413, ["Err"])
        await peer.send(post("next"))
        assert said(await peer.answer()) == "next"


async def test_a_client_that_asks_first_is_told_to_go_on(peer: Peer) -> None:
    """As curl does with long bodies."""
    request = post("long", "Expect: 100-continue")
    head, _, body = request.partition(b"\r\n\r\n")
    await peer.send(head + b"\r\n\r\n")
    assert (await peer.answer())[0] == 100
    await peer.send(body)
    assert said(await peer.answer()) == "long"


@pytest.mark.parametrize(
    ("fields", "version", "closes"),
    [
        ([], "1.1", False),
        (["Connection: close"], "1.1", True),
        (["connection: Keep-Alive, Close"], "1.1", True),
        ([], "1.0", True),
        (["Connection: keep-alive"], "1.0", False),
    ],
)
async def test_a_connection_ends_if_its_peer_asks_for_that(
    peer: Peer, fields: list[str], version: str, *, closes: bool
) -> None:
    """And else stays."""
    await peer.send(post("once", *fields, version=version))
    answer = await peer.answer()
    assert said(answer) == "once"
    assert ("connection" in answer[2]) is closes
    if closes:
        assert await peer.ends()
    else:
        await peer.send(post("again"))
        assert said(await peer.answer()) == "again"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /x SPDY/3\r\n\r\n",
        b"POST /x HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 9999999999999\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\npear\r\n",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (MAX_BODY + 1),
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 200,
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a" * (MAX_HEAD + 10),
        b"POST /x HTTP/1.1\r\nLong: " + b"a" * (MAX_HEAD + 10),
    ],
)
async def test_what_is_no_http_is_400_and_the_end(peer: Peer, request_bytes: bytes) -> None:
    """Nobody can tell where the next request would begin. Others are served."""
    await peer.send(request_bytes)
    status, body, _ = await peer.answer()
    assert status == 400
    assert json.loads(body)["Err"].startswith("the request is no HTTP: ")
    assert await peer.ends()
    peer.close()
    await peer.connect()
    await peer.send(post("still here"))
    assert said(await peer.answer()) == "still here"


async def test_the_path_is_what_counts(peer: Peer) -> None:
    """Escaped or not, without its query."""
    for path in ("/Plugin%2EEcho", f"{ECHO}?x=/Nosuch"):
        await peer.send(post("found", path=path))
        assert said(await peer.answer()) == "found"


async def test_a_request_is_carried_out_though_its_caller_hangs_up(peer: Peer) -> None:
    """The engine repeats it, and gets the same answer."""
    await peer.send(post("", path=HANG))
    peer.close()
    await peer.connect()
    await peer.send(post("other"))
    assert said(await peer.answer()) == "other"
    peer.hang.set()


async def test_at_the_end_requests_in_hand_are_answered_and_idle_connections_closed(peer: Peer) -> None:
    """No new ones are taken."""
    idle = Peer(peer.path, peer.server, peer.hang)
    await idle.connect()
    await idle.send(post("before"))
    assert said(await idle.answer()) == "before"
    await peer.send(post("", path=HANG))
    await idle.send(post("behind it"))
    assert said(await idle.answer()) == "behind it"  # so the other one was read, too
    stopping = asyncio.ensure_future(peer.server.stop())
    assert await idle.ends()
    idle.close()
    with pytest.raises(OSError, match=r"refused|No such file"):
        await idle.connect()
    peer.hang.set()
    status, body, header = await peer.answer()
    assert (status, json.loads(body)) == (200, {"Err": "waited"})
    assert header["connection"] == "close"
    assert await peer.ends()
    await stopping


class _Wire(asyncio.Transport):
    """What a connection writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True


@given(
    st.lists(
        st.builds(post, st.text(st.characters(codec="ascii"), max_size=20))
        | st.builds(chunked, st.text(st.characters(codec="ascii"), min_size=5, max_size=20), st.integers(0, 9)),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.integers(0, 600), max_size=8),
)
def test_how_bytes_are_cut_does_not_matter(requests: list[bytes], cuts: list[int]) -> None:
    """A request may come byte by byte, or several at once: each is handed on once, whole, in its order."""
    stream = b"".join(requests)

    def run(parts: list[bytes]) -> tuple[list[tuple[str, bytes | None]], bytes]:
        seen: list[tuple[str, bytes | None]] = []

        def serve(path: str, body: bytes | None, reply: Reply) -> None:
            seen.append((path, body))
            reply(200, body or b"")

        wire, connection = _Wire(), Connections(serve, str.encode).accept()
        connection.connection_made(wire)
        for each in parts:
            connection.data_received(each)
        return seen, wire.written

    at = [0, *sorted(min(each, len(stream)) for each in cuts), len(stream)]
    whole = run([stream])
    assert len(whole[0]) == len(requests)
    assert run([stream[start:end] for start, end in itertools.pairwise(at)]) == whole
    assert run([stream[number : number + 1] for number in range(len(stream))]) == whole


def test_a_socket_that_is_no_stream_is_none_of_ours() -> None:
    """The kind of socket that systemd hands over by mistake is refused when it is opened."""
    ours, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, far, pytest.raises(ValueError, match="Stream Socket"):
        asyncio.run(PluginServer({"/x": Route(GwAllocCheck, _never)}, Metrics()).start(ours))


async def _never(_request: Message) -> Message:
    raise AssertionError
