"""DNS over UDP, in a thread of its own, so that names are answered while the event loop is busy.

Datagrams are received and sent in batches (recvmmsg(2) and sendmmsg(2), by ctypes, since Python's sockets do not offer
them): under load one call serves up to `BATCH` queries, and releases the interpreter's lock meanwhile. A query that
comes alone is answered at once. One that names would answer which are not there yet is handed to the event loop.
"""

import contextlib
import ctypes
import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import ClassVar

from macvlan_global.dns.resolver.answer import LONGEST_QUERY
from macvlan_global.dns.resolver.cache import Early, ResponseCache

log = logging.getLogger(__name__)

BATCH = 32
RECEIVE_BUFFER = 1 << 20
_ROOM = LONGEST_QUERY
"""Bytes for each datagram, in both directions; a longer query is cut by the kernel, and gets FORMERR."""
_LONGEST_ADDRESS = 28  # struct sockaddr_in6
_WAIT_FOR_ONE = 0x10000  # MSG_WAITFORONE
_STOP_SECONDS = 2.0
_RETRY_SECONDS = 0.1


class _Vector(ctypes.Structure):
    _fields_: ClassVar = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_: ClassVar = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Message(ctypes.Structure):
    """struct mmsghdr: a header, and the length of the datagram."""

    _fields_: ClassVar = [("header", _Header), ("length", ctypes.c_uint)]


class _Datagrams:
    """Buffers for one batch, and the mmsghdr array that points the kernel to them."""

    def __init__(self, addresses: bytearray) -> None:
        """`addresses` is the buffer for the clients' addresses, which queries and replies share."""
        self.bytes = bytearray(BATCH * _ROOM)
        self._vectors = (_Vector * BATCH)()
        self._messages = (_Message * BATCH)()
        self._addresses = addresses
        base, names = _place(self.bytes), _place(addresses)
        for at in range(BATCH):
            self._vectors[at] = _Vector(base + at * _ROOM, _ROOM)
            place = ctypes.addressof(self._vectors) + at * ctypes.sizeof(_Vector)
            header = _Header(names + at * _LONGEST_ADDRESS, _LONGEST_ADDRESS, place, 1)
            self._messages[at] = _Message(header)
        self.place = ctypes.addressof(self._messages)
        # read and written without ctypes' attributes, which cost more than the rest of a query
        step = ctypes.sizeof(_Message) // 4
        numbers = memoryview(self._messages).cast("B").cast("I")
        self.lengths = numbers[_offset(_Message, "length") // 4 :: step]
        self.name_lengths = numbers[_offset(_Header, "name_length") // 4 :: step]
        self.room = memoryview(self._vectors).cast("B").cast("P")[1::2]


def _place(room: bytearray) -> int:
    return ctypes.addressof((ctypes.c_char * len(room)).from_buffer(room))


def _offset(kind: type[ctypes.Structure], name: str) -> int:
    offset: int = getattr(kind, name).offset
    return offset


class UdpServer:
    """Answers queries on one socket until `stop`."""

    def __init__(
        self,
        cache: ResponseCache,
        listener: socket.socket,
        answer_later: Callable[[bytes, bytes], bool] = lambda _query, _client: False,
    ) -> None:
        """Serve on `listener`, a bound blocking UDP socket, which `stop` closes.

        `answer_later` takes over a query and its client's address, or says False.
        """
        self._cache = cache
        self._answer_later = answer_later
        self._socket = listener
        self._stopping = False
        self.queries = 0
        """Queries received."""
        self.answers = [0] * 256
        """Replies by the byte that has their answer code in its lower half (RFC 1035 4.1.1)."""
        self.unanswered = 0
        """Queries that got no reply from here."""
        self.handed_over = 0
        """Those of them that were handed over."""
        self._addresses = addresses = bytearray(BATCH * _LONGEST_ADDRESS)
        self._in, self._out = _Datagrams(addresses), _Datagrams(addresses)
        self._address_length = 16 if listener.family == socket.AF_INET else _LONGEST_ADDRESS
        for datagrams in (self._in, self._out):
            for at in range(BATCH):
                datagrams.name_lengths[at] = self._address_length
        library = ctypes.CDLL(None, use_errno=True)
        self._receive, self._send = library.recvmmsg, library.sendmmsg
        self._thread = threading.Thread(target=self._run, name="dns-udp", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, after the batch under way, and close the socket."""
        self._stopping = True
        if self._thread.is_alive():
            # ENOTCONN, since nobody is connected, but it wakes the thread (inet_shutdown in net/ipv4/af_inet.c)
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RD)
            self._thread.join(_STOP_SECONDS)
        self._socket.close()

    def _run(self) -> None:
        fd = self._socket.fileno()
        place = ctypes.c_void_p(self._in.place)
        failure = 0
        while not self._stopping:
            count = self._receive(fd, place, BATCH, _WAIT_FOR_ONE, None)
            if count > 0:
                failure = 0
                try:
                    self._serve(fd, count)
                except Exception:  # a bug must cost one batch and not the thread
                    log.exception("a batch of queries was not answered")
            elif not self._stopping:
                before, failure = failure, ctypes.get_errno()  # out of memory, at most
                if failure != before:
                    log.warning("the resolver receives no queries over UDP: %s", os.strerror(failure))
                threading.Event().wait(_RETRY_SECONDS)

    def _serve(self, fd: int, count: int) -> None:
        """Answer the datagrams of a batch; those that get no reply are skipped."""
        came, goes, lengths, room = self._in.bytes, self._out.bytes, self._in.lengths, self._out.room
        templates, answers = self._cache.templates, self.answers
        self.queries += count
        first = begin = 0
        view = memoryview(came)
        for at in range(count):
            end = begin + lengths[at]
            template = templates.get(bytes(view[begin + 2 : end]))
            if template is not None:
                reply = template()
                goes[begin : begin + 2] = came[begin : begin + 2]
                length = len(reply) + 2
                goes[begin + 2 : begin + length] = reply
                answers[reply[1]] += 1
                room[at] = length
            else:
                whole = self._respond(bytes(view[begin:end]), at)
                if whole is None:
                    self.unanswered += 1
                    self._reply(fd, first, at)
                    first = at + 1
                else:
                    goes[begin : begin + len(whole)] = whole
                    answers[whole[3]] += 1
                    room[at] = len(whole)
            begin += _ROOM
        self._reply(fd, first, count)

    def _respond(self, query: bytes, at: int) -> bytes | None:
        """The reply to the query at this place of the batch, if it gets one from here."""
        try:
            reply = self._cache.respond_or_wait(query, udp=True)
            if reply is not Early.WAIT:
                return reply
            begin = at * _LONGEST_ADDRESS
            if self._answer_later(query, bytes(self._addresses[begin : begin + _LONGEST_ADDRESS])):
                self.handed_over += 1
                return None
            return self._cache.respond(query, udp=True)
        except Exception:  # a bug must cost one reply and not all of them
            log.exception("no reply was built for the query %s", query.hex())
            return None

    def _reply(self, fd: int, first: int, after: int) -> None:
        """Send the replies from `first` on, up to and without `after`, as far as the kernel takes them at once.

        It keeps those to a client whose link address does not resolve (ARP), up to the socket's send buffer. To wait
        for room there would keep all other clients waiting.
        """
        size = ctypes.sizeof(_Message)
        while first < after:
            place = ctypes.c_void_p(self._out.place + first * size)
            sent = self._send(fd, place, after - first, socket.MSG_DONTWAIT)
            first += max(sent, 1)  # one that cannot be sent (no route to its client, no room) is skipped
