"""A deletion is answered when the kernel tells that the link is gone; its own answer counts if nothing is heard."""

import asyncio
import contextlib
import errno
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import cast

import pytest

from lab.speed import patience
from macvlan_global.errors import Conflict
from macvlan_global.kernel.deletion import LinkEvents
from macvlan_global.kernel.netlink import NetlinkKernel, Sockets
from macvlan_global.kernel.ports import ContainerLink
from macvlan_global.kernel.rtnl import IFLA_NEW_NETNSID, RTM_DELLINK, RTM_NEWLINK, attribute
from testkit.played_netlink import PlayedNetlink, Request, link_payload, one_link

_AF_BRIDGE = 7

Delete = Callable[[NetlinkKernel], Awaitable[bool]]
BOTH = pytest.mark.parametrize(
    "delete",
    [
        lambda kernel: kernel.delete("lan0"),
        lambda kernel: kernel.delete_in_sandbox(ContainerLink("/netns/box", alias="mg-a")),
    ],
    ids=["on the host", "in a container"],
)


class Slow:
    """A kernel that has a deletion in hand until `answer` is set, and tells of links what a test says."""

    def __init__(self) -> None:
        """Nothing is asked, and nobody listens."""
        self.answer = threading.Event()
        self.error = 0
        self.refusal: OSError | None = None
        self.ears: list[socket.socket] = []
        self._mouths: list[socket.socket] = []
        self._played = PlayedNetlink(answer=self._answer, patience=patience(30))
        self.kernel = NetlinkKernel(
            Sockets(route=self._played.open, events=self._listen, enter=lambda _path: contextlib.nullcontext())
        )

    async def asked(self, count: int = 1) -> None:
        """Wait until so many deletions are requested."""
        while sum(each.kind == RTM_DELLINK for each in self._played.requests) < count:  # noqa: ASYNC110 - a thread
            await asyncio.sleep(0)

    def tell(self, *messages: tuple[int, bytes]) -> None:
        """One datagram to whoever listens."""
        told = [struct.pack("=IHHII", 16 + len(payload), kind, 0, 0, 0) + payload for kind, payload in messages]
        self._mouths[-1].send(b"".join(told))

    def say(self, raw: bytes) -> None:
        """A datagram of any bytes."""
        self._mouths[-1].send(raw)

    async def close(self) -> None:
        """Answer what is left."""
        self.answer.set()
        await self.kernel.close()
        self._played.close()
        for each in self._mouths:
            each.close()

    def _answer(self, request: Request) -> Sequence[bytes]:
        if request.kind != RTM_DELLINK:
            return one_link(request)
        self.answer.wait(patience(30))
        return [request.result(self.error)]

    def _listen(self) -> LinkEvents:
        if self.refusal:
            raise self.refusal
        ours, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.ears.append(ours)
        self._mouths.append(far)
        return cast("LinkEvents", ours)


@pytest.fixture
async def slow() -> AsyncIterator[Slow]:
    """A kernel that takes its time."""
    slow = Slow()
    yield slow
    await slow.close()


@BOTH
async def test_it_is_answered_when_the_link_is_gone(slow: Slow, delete: Delete) -> None:
    """Other links, one that is made, a port that leaves its bridge and one that moves to a container do not count; the
    socket is closed then."""
    deleting = asyncio.ensure_future(delete(slow.kernel))
    await slow.asked()
    port = struct.pack("=B", _AF_BRIDGE) + link_payload(2, "lan0")[1:]
    slow.tell((RTM_NEWLINK, link_payload(2, "lan0")), (RTM_DELLINK, link_payload(3, "lan1")))
    slow.tell((RTM_DELLINK, port))
    slow.tell((RTM_DELLINK, link_payload(2, "lan0") + attribute(IFLA_NEW_NETNSID, struct.pack("=i", 3))))
    done, _ = await asyncio.wait({deleting}, timeout=0.05)
    assert not done
    slow.tell((RTM_DELLINK, link_payload(2, "lan0")))
    assert await deleting
    assert slow.ears[-1].fileno() == -1


@BOTH
async def test_without_an_ear_its_own_answer_counts(slow: Slow, delete: Delete) -> None:
    """No descriptor is left, say."""
    slow.refusal = OSError(errno.EMFILE, "Too many open files")
    deleting = asyncio.ensure_future(delete(slow.kernel))
    await slow.asked()
    slow.answer.set()
    assert await deleting


@BOTH
async def test_what_makes_no_sense_is_not_listened_to(slow: Slow, delete: Delete) -> None:
    """The answer of the request comes later, and is right."""
    deleting = asyncio.ensure_future(delete(slow.kernel))
    await slow.asked()
    slow.say(b"\x08\x00\x00\x00nonsense")
    done, _ = await asyncio.wait({deleting}, timeout=0.05)
    assert not done
    slow.answer.set()
    assert await deleting


@BOTH
async def test_a_refusal_is_an_error_and_a_link_that_went_is_none(slow: Slow, delete: Delete) -> None:
    """As without listening."""
    slow.answer.set()
    slow.error = errno.EBUSY
    with pytest.raises(Conflict):
        await delete(slow.kernel)
    slow.error = errno.ENODEV
    assert await delete(slow.kernel) is False
    assert all(each.fileno() == -1 for each in slow.ears)


@BOTH
async def test_who_is_cancelled_waits_until_the_link_is_gone(slow: Slow, delete: Delete) -> None:
    """Only then is it known what there is to undo."""
    deleting = asyncio.ensure_future(delete(slow.kernel))
    await slow.asked()
    deleting.cancel()
    done, _ = await asyncio.wait({deleting}, timeout=0.05)
    assert not done
    slow.tell((RTM_DELLINK, link_payload(2, "lan0")))
    with pytest.raises(asyncio.CancelledError):
        await deleting


@BOTH
async def test_the_next_deletion_does_not_wait_for_the_kernel(slow: Slow, delete: Delete) -> None:
    """Each has its answer when its link is gone, while the kernel has all of them in hand; nothing is left behind."""
    for number in range(1, 6):
        deleting = asyncio.ensure_future(delete(slow.kernel))
        await slow.asked(number)
        slow.tell((RTM_DELLINK, link_payload(2, "lan0")))
        assert await deleting
    assert all(each.fileno() == -1 for each in slow.ears)
