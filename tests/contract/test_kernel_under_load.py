"""The real kernel while links come and go: lists are complete, and the event loop stays free."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import pytest

from lab import Host
from lab.speed import Allowance
from macvlan_global.errors import Unavailable
from macvlan_global.kernel.netlink import NetlinkKernel, Sockets
from macvlan_global.kernel.ports import MacvlanSpec
from macvlan_global.kernel.rtnl import NLM_F_DUMP_INTR, MessageSocket, RouteSocket, open_netlink
from testkit.played_netlink import datagram_flags

STABLE = 150
DEADLINE = 60.0


@pytest.fixture(scope="module")
def machine() -> Iterator[Host]:
    """A machine with a parent."""
    with Host("machine") as machine:
        machine.run(["ip", "link", "add", "port0", "type", "veth", "peer", "name", "peer0"])
        for name in ("port0", "peer0"):
            machine.run(["ip", "link", "set", name, "up"])
        yield machine


class Overheard:
    """A netlink socket, and whether the last answer had the mark of an interrupted dump."""

    def __init__(self, counts: list[bool]) -> None:
        """Each answer adds to `counts`."""
        self._real: MessageSocket = open_netlink()
        self._counts = counts

    def send(self, data: bytes, /) -> int:
        """A request."""
        self._counts.append(False)
        return self._real.send(data)

    def recv(self, size: int, /) -> bytes:
        """A part of its answer."""
        received = self._real.recv(size)
        self._counts[-1] |= any(flags & NLM_F_DUMP_INTR for flags in datagram_flags(received))
        return received

    def close(self) -> None:
        """The real one."""
        self._real.close()


def _spec(name: str, number: int) -> MacvlanSpec:
    return MacvlanSpec(name, "port0", "bridge", f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}")


@contextlib.contextmanager
def _churn(route: RouteSocket, parent: int) -> Iterator[None]:
    """Another process, so to say, makes a link and deletes it, over and over."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            route.add_macvlan(_spec("churn", 0xFFFF), parent)
            route.delete("churn")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        route.close()


async def test_a_list_made_while_links_come_and_go_is_complete(machine: Host) -> None:
    """No answer that the kernel marked as interrupted is used, and no link that stays is missing; or it is unknown."""
    marks: list[bool] = []
    with machine.in_network():
        kernel = NetlinkKernel(Sockets(route=lambda: RouteSocket(lambda: Overheard(marks))))
        names = {f"m{number}" for number in range(STABLE)}
        for number, name in enumerate(sorted(names)):
            await kernel.add_macvlan(_spec(name, number))
        port = await kernel.link("port0")
        assert port
        listed = 0
        limit = Allowance(DEADLINE)
        with _churn(RouteSocket(), port.index):
            while not (listed > 20 and any(marks)) and not limit.over:
                try:
                    found = await kernel.links()
                except Unavailable:
                    continue
                assert not marks[-1]
                assert names <= {each.name for each in found}
                listed += 1
        await kernel.close()
        machine.run(["sh", "-c", "for each in $(ls /sys/class/net | grep ^m); do ip link delete $each; done"])
    assert listed > 20
    assert any(marks), "no dump was interrupted"


async def test_the_loop_is_free_while_links_are_deleted(machine: Host) -> None:
    """The kernel takes a while for so many, and others are served meanwhile."""
    count = 100
    with machine.in_network():
        kernel = NetlinkKernel()
        for number in range(count):
            await kernel.add_macvlan(_spec(f"m{number}", number))
        turns = 0
        deleting = asyncio.ensure_future(asyncio.gather(*(kernel.delete(f"m{number}") for number in range(count))))
        while not deleting.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert await deleting == [True] * count
        await kernel.close()
    assert turns > 5, "the loop stood still"
