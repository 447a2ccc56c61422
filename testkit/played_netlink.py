"""rtnetlink played by a test: answers of its own choice, as bytes through a pair of sockets."""

import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from macvlan_global.kernel.rtnl import (
    IFA_ADDRESS,
    IFLA_ADDRESS,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    NLM_F_DUMP,
    NLMSG_DONE,
    NLMSG_ERROR,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RouteSocket,
)

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
NLM_F_MULTI = 0x2


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was received."""

    kind: int
    flags: int
    sequence: int

    @property
    def dumps(self) -> bool:
        """Whether it asks for a dump."""
        return self.flags & NLM_F_DUMP == NLM_F_DUMP

    def message(self, kind: int, payload: bytes = b"", flags: int = 0, *, sequence: int | None = None) -> bytes:
        """One message of the answer."""
        number = self.sequence if sequence is None else sequence
        return _HEADER.pack(_HEADER.size + len(payload), kind, flags, number, 0) + payload

    def done(self, error: int = 0, flags: int = 0) -> bytes:
        """The end of a dump."""
        return self.message(NLMSG_DONE, struct.pack("=i", -error), flags | NLM_F_MULTI)

    def result(self, error: int = 0) -> bytes:
        """The acknowledgement, or the errno of a refusal."""
        return self.message(NLMSG_ERROR, struct.pack("=i", -error))


Answer = Callable[[Request], Sequence[bytes]]
"""The datagrams that answer a request."""


def attribute(kind: int, value: bytes) -> bytes:
    """A `struct rtattr` with its value and padding."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def link_payload(index: int, name: str, *, alias: str = "", mac: str = "02:00:00:00:00:aa", up: bool = True) -> bytes:
    """A macvlan link."""
    return (
        _LINK.pack(0, 1, index, int(up), 0)
        + attribute(IFLA_IFNAME, name.encode() + b"\0")
        + attribute(IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
        + attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, b"macvlan\0"))
        + (attribute(IFLA_IFALIAS, alias.encode()) if alias else b"")
    )


def datagram_flags(datagram: bytes) -> list[int]:
    """The flags of each message of a datagram."""
    found, at = [], 0
    while at < len(datagram):
        length, _, flags, _, _ = _HEADER.unpack_from(datagram, at)
        found.append(flags)
        at += (length + 3) & ~3
    return found


def address_payload(index: int, packed: bytes) -> bytes:
    """An IPv4 address with the prefix length 24."""
    return _ADDRESS.pack(socket.AF_INET, 24, 0, 0, index) + attribute(IFA_ADDRESS, packed)


def one_link(request: Request) -> list[bytes]:
    """A kernel with one link, `lan0`, which was made inside a container and has 192.0.2.9; it does all it is asked."""
    link = link_payload(2, "lan0", alias="mg-a")
    if request.kind == RTM_GETLINK:
        answer = request.message(RTM_NEWLINK, link)
        return [answer + request.done()] if request.dumps else [answer]
    if request.kind == RTM_GETADDR:
        return [request.message(RTM_NEWADDR, address_payload(2, bytes((192, 0, 2, 9)))) + request.done()]
    return [request.done() if request.kind in {RTM_GETROUTE, RTM_GETNEIGH} else request.result()]


class PlayedSocket:
    """A `MessageSocket` whose answers come through a pair of sockets that keep message boundaries.

    `sending` and `receiving` are called before each such step, and may raise what a real socket might.
    """

    def __init__(self, played: "PlayedNetlink") -> None:
        """Made by `PlayedNetlink.open`."""
        self._played = played
        self._ours, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.settimeout(played.patience)

    def send(self, data: bytes, /) -> int:
        """Have the request answered."""
        self._played.step("send")
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data)
        assert length == len(data)
        request = Request(kind, flags, sequence)
        self._played.requests.append(request)
        for datagram in self._played.answer(request):
            self._far.send(datagram)
        return len(data)

    def recv(self, size: int, /) -> bytes:
        """The next datagram; TimeoutError after the patience of `PlayedNetlink`."""
        self._played.step("recv")
        return self._ours.recv(size)

    def close(self) -> None:
        """Both ends."""
        self._ours.close()
        self._far.close()


@dataclass
class PlayedNetlink:
    """Makes sockets that are answered by `answer`, and fails on purpose.

    `failing` is raised at each step named `failing_at` ("open", "send" or "recv") but the first `failing_from`;
    `failed` counts how often. `patience` is how many seconds a socket waits for an answer. While `lock` is not set, as
    while the kernel holds its own, no step is done; `threads` are those that made steps.
    """

    answer: Answer = one_link
    patience: float = 0.05
    failing: Exception | None = None
    failing_at: str = ""
    failing_from: int = 0
    failed: int = 0
    steps: int = 0
    requests: list[Request] = field(default_factory=list)
    sockets: list[PlayedSocket] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    lock: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Nobody holds the lock."""
        self.lock.set()

    def fail(self, error: Exception | None, at: str, *, after: int = 0) -> None:
        """Raise `error` at each step `at` but the first `after`."""
        self.failing, self.failing_at, self.failing_from, self.failed, self.steps = error, at, after, 0, 0

    def step(self, name: str) -> None:
        """Wait for the lock, and fail, if it is to be now."""
        if name != "open":  # which needs no lock of the kernel
            self.threads.add(threading.get_ident())
            self.lock.wait()
        if self.failing is None or name != self.failing_at:
            return
        self.steps += 1
        if self.steps > self.failing_from:
            self.failed += 1
            raise self.failing

    def open(self) -> RouteSocket:
        """A socket that is answered."""
        self.step("open")

        def opened() -> PlayedSocket:
            self.sockets.append(PlayedSocket(self))
            return self.sockets[-1]

        return RouteSocket(opened)

    def close(self) -> None:
        """Close every socket that was made."""
        for each in self.sockets:
            each.close()
