"""Queries over UDP, answered in a thread of their own.

The kernel is asked for many datagrams at once, and given as many (recvmmsg(2), sendmmsg(2), which Python's sockets do
not offer): under load a call serves up to `BATCH` queries, and the interpreter is let go of while it lasts. A query
that comes alone is answered at once.
"""

import ctypes
import logging
import os
import socket
import threading
from typing import ClassVar

from macvlan_global.dns.resolver.answer import LONGEST_QUERY
from macvlan_global.dns.resolver.cache import Answers

log = logging.getLogger(__name__)

BATCH = 32
RECEIVE_BUFFER = 1 << 20
_ROOM = LONGEST_QUERY
"""Bytes for each datagram, in both directions; what is longer is cut, and refused as too long."""
_LONGEST_ADDRESS = 28  # struct sockaddr_in6
_WAIT_FOR_ONE = 0x10000  # MSG_WAITFORONE
_STOP_SECONDS = 2.0


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
    """struct mmsghdr: a header, and how long the datagram was."""

    _fields_: ClassVar = [("header", _Header), ("length", ctypes.c_uint)]


class _Datagrams:
    """Room for one batch, and what tells the kernel where it is."""

    def __init__(self, addresses: bytearray) -> None:
        """`addresses` has room for the askers' addresses: where a datagram came from, its reply goes."""
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
    """Answers what comes in on one address until `stop`."""

    def __init__(self, answers: Answers, listener: socket.socket) -> None:
        """Serve on `listener`, a bound blocking UDP socket, which is closed with `stop`."""
        self._answers = answers
        self._socket = listener
        self._stopping = False
        self.queries = 0
        """How many came in."""
        addresses = bytearray(BATCH * _LONGEST_ADDRESS)
        self._in, self._out = _Datagrams(addresses), _Datagrams(addresses)
        self._address_length = 16 if listener.family == socket.AF_INET else _LONGEST_ADDRESS
        for datagrams in (self._in, self._out):
            for at in range(BATCH):
                datagrams.name_lengths[at] = self._address_length
        library = ctypes.CDLL(None, use_errno=True)
        self._receive, self._send = library.recvmmsg, library.sendmmsg
        self._thread = threading.Thread(target=self._run, name="dns-udp", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no longer, and close the socket. Waits for the reply under way."""
        self._stopping = True
        with socket.socket(self._socket.family, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._socket.getsockname())  # the thread waits for a datagram
        self._thread.join(_STOP_SECONDS)
        self._socket.close()

    def _run(self) -> None:
        fd = self._socket.fileno()
        place = ctypes.c_void_p(self._in.place)
        while not self._stopping:
            count = self._receive(fd, place, BATCH, _WAIT_FOR_ONE, None)
            if count > 0:
                try:
                    self._serve(fd, count)
                except Exception:  # a bug must cost one batch and not the thread
                    log.exception("a batch of queries was not answered")
            elif not self._stopping:
                # out of memory at most: there is nobody to tell but the log
                log.warning("receiving queries failed: %s", os.strerror(ctypes.get_errno()))
                threading.Event().wait(0.1)

    def _serve(self, fd: int, count: int) -> None:
        """Answer the datagrams of a batch; those that get no reply are passed over."""
        came, goes, lengths, room = self._in.bytes, self._out.bytes, self._in.lengths, self._out.room
        ready = self._answers.ready
        self.queries += count
        first = begin = 0
        view = memoryview(came)
        for at in range(count):
            end = begin + lengths[at]
            make = ready.get(bytes(view[begin + 2 : end]))
            if make is not None:
                reply = make()
                goes[begin : begin + 2] = came[begin : begin + 2]
                length = len(reply) + 2
                goes[begin + 2 : begin + length] = reply
                room[at] = length
            else:
                whole = self._made(bytes(view[begin:end]))
                if whole is None:
                    self._reply(fd, first, at)
                    first = at + 1
                else:
                    goes[begin : begin + len(whole)] = whole
                    room[at] = len(whole)
            begin += _ROOM
        self._reply(fd, first, count)

    def _made(self, query: bytes) -> bytes | None:
        try:
            return self._answers.answer(query, udp=True)
        except Exception:  # a bug must cost one reply and not all of them
            log.exception("no reply was made for the query %s", query.hex())
            return None

    def _reply(self, fd: int, first: int, after: int) -> None:
        """Send the replies from `first` on, up to and without `after`."""
        size = ctypes.sizeof(_Message)
        while first < after:
            sent = self._send(fd, ctypes.c_void_p(self._out.place + first * size), after - first, 0)
            first += max(sent, 1)  # one that cannot be sent (its asker has gone) is left out
