"""Whatever a system call or a parser raises below the kernel port comes out of it as one of the six classes, and no
call of the port is in the way of the others."""

import asyncio
import contextlib
import errno
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from ipaddress import ip_address

import pytest

from macvlan_global.errors import Internal, Invalid, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.kernel.netlink import NetlinkKernel, Sockets
from macvlan_global.kernel.ports import ContainerLink, HostPath, InterfaceConfig, Kernel, MacvlanSpec, Shims
from testkit.brief import SHARE
from testkit.foreign_errors import os_errors
from testkit.played_netlink import PlayedNetlink

BOX = "/netns/box"
MAC = "02:00:00:00:00:aa"
SHIM_MAC = "02:00:00:00:00:5a"
SPEC = MacvlanSpec("mg-a", "lan0", "bridge", MAC)
LINK = ContainerLink(BOX, MAC, "mg-a")
NEW = MacvlanSpec("mg-b", "lan0", "bridge", "02:00:00:00:00:bb", 1400)
PATH = HostPath(ip_address("192.0.2.50"), MAC, ip_address("192.0.2.9"))
NEW_LINK = ContainerLink(BOX, NEW.mac, NEW.name)

CALLS: dict[str, Callable[[Kernel], Awaitable[object]]] = {
    "link": lambda kernel: kernel.link("lan0"),
    "links": lambda kernel: kernel.links(),
    "routes": lambda kernel: kernel.routes(),
    "own_addresses": lambda kernel: kernel.own_addresses(),
    "add_vlan": lambda kernel: kernel.add_vlan("lan0.5", "lan0", 5),
    "add_dummy": lambda kernel: kernel.add_dummy("dm-0"),
    "add_macvlan": lambda kernel: kernel.add_macvlan(SPEC),
    "set_up": lambda kernel: kernel.set_up("lan0"),
    "set_down": lambda kernel: kernel.set_down("lan0"),
    "delete": lambda kernel: kernel.delete("lan0"),
    "upper_of": lambda kernel: kernel.upper_of("lan0"),
    "add_in_sandbox": lambda kernel: kernel.add_in_sandbox(NEW, NEW_LINK, InterfaceConfig("lan", numbered=True)),
    "delete_in_sandbox": lambda kernel: kernel.delete_in_sandbox(LINK),
    "find_in_sandbox": lambda kernel: kernel.find_in_sandbox(LINK),
    "mark_in_sandbox": lambda kernel: kernel.mark_in_sandbox(LINK),
    "flush_addresses": lambda kernel: kernel.flush_addresses(LINK),
    "restore": lambda kernel: kernel.restore(LINK, InterfaceConfig("lan")),
    "advertise": lambda kernel: kernel.advertise(LINK),
    "probe": lambda kernel: kernel.probe("lan0", "192.0.2.8", tries=1, wait=0.01),
    "shims.all": lambda kernel: kernel.shims.all(),
    "shims.add": lambda kernel: kernel.shims.add("lan0", mac=SHIM_MAC, ipv6=False),
    "shims.settle": lambda kernel: kernel.shims.settle("lan0", ipv6=True),
    "shims.delete": lambda kernel: kernel.shims.delete("lan0"),
    "shims.add_address": lambda kernel: kernel.shims.add_address("lan0", PATH.source),
    "shims.delete_address": lambda kernel: kernel.shims.delete_address("lan0", PATH.source),
    "shims.add_path": lambda kernel: kernel.shims.add_path("lan0", PATH),
    "shims.delete_path": lambda kernel: kernel.shims.delete_path("lan0", PATH.address),
    "watch_neighbours": lambda kernel: kernel.watch_neighbours("lan0"),
    "mac_in_sandbox": lambda kernel: kernel.mac_in_sandbox(LINK),
}
IN_A_NAMESPACE = (
    "add_in_sandbox",
    "delete_in_sandbox",
    "find_in_sandbox",
    "mark_in_sandbox",
    "flush_addresses",
    "restore",
    "mac_in_sandbox",
)

FOREIGN: tuple[Exception, ...] = (
    *os_errors(),
    TimeoutError(),
    struct.error("unpack_from requires a buffer of at least 16 bytes"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ValueError("a netlink attribute of 0 bytes"),
    KeyError(1),
    IndexError("index out of range"),
    OverflowError("signed integer is greater than maximum"),
    RuntimeError("can't start new thread"),
)[::SHARE]


class Doors:
    """The kernel's doors, of which each can fail."""

    def __init__(self) -> None:
        """All is well."""
        self.route = PlayedNetlink(patience=0.001)
        self.packet: Exception | None = None
        self.entering: Exception | None = None
        self.failed = 0
        self.kernel = NetlinkKernel(
            Sockets(self.route.open, self._open_packet, self._enter, lambda: [BOX], watch=self._open_watch)
        )

    def _open_watch(self, parent: str, _outgoing: bool) -> socket.socket:
        self.route.threads.add(threading.get_ident())
        self._open_packet(parent).close()
        raise OSError(errno.ENETDOWN, "Network is down")

    def _open_packet(self, _parent: str) -> socket.socket:
        self.route.threads.add(threading.get_ident())
        if self.packet:
            self.failed += 1
            raise self.packet
        return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)  # not what it should be

    @contextlib.contextmanager
    def _enter(self, _path: str) -> Iterator[None]:
        if self.entering:
            self.failed += 1
            raise self.entering
        yield


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    """A kernel behind doors that can fail."""
    doors = Doors()
    yield doors
    await doors.kernel.close()
    doors.route.close()


async def _is_ours(work: Awaitable[object], foreign: Exception | None) -> MacvlanGlobalError | None:
    """The error that came of it, which must be one of the six classes if there is one."""
    try:
        await work
    except MacvlanGlobalError as error:
        return error
    except Exception as error:
        raise AssertionError(f"{error!r} got through, for {foreign!r}") from error
    return None


def test_the_walk_covers_the_port() -> None:
    """A new method of the port has to be walked too."""
    shims = {f"shims.{name}" for name in vars(Shims) if not name.startswith("_")} - {"shims.changes"}
    assert set(CALLS) == {name for name in vars(Kernel) if not name.startswith("_")} - {"close", "shims"} | shims


@pytest.mark.parametrize("method", CALLS)
async def test_no_request_is_made_on_the_event_loop(doors: Doors, method: str) -> None:
    """The kernel carries requests out under a lock that others may hold for seconds, while the engine is answered."""
    with contextlib.suppress(MacvlanGlobalError):
        await CALLS[method](doors.kernel)
    assert doors.route.threads
    assert threading.get_ident() not in doors.route.threads


@pytest.mark.parametrize(("method", "requests"), [("link", 1), ("add_macvlan", 3), ("set_up", 1)])
async def test_a_request_that_the_kernel_has_is_waited_for_even_if_its_caller_is_cancelled(
    doors: Doors, method: str, requests: int
) -> None:
    """Only then is it known what there is to undo; meanwhile others are served, and one that waits is not made."""
    doors.route.lock.clear()
    begun = asyncio.ensure_future(CALLS[method](doors.kernel))
    while not doors.route.threads:  # noqa: ASYNC110 - another thread
        await asyncio.sleep(0)
    waiting = asyncio.ensure_future(CALLS[method](doors.kernel))
    await asyncio.sleep(0)
    for each in (begun, waiting):
        each.cancel()
    await asyncio.wait({waiting})
    assert not begun.done()
    doors.route.lock.set()
    await asyncio.wait({begun})
    assert begun.cancelled()
    assert len(doors.route.requests) == requests


@pytest.mark.parametrize("method", IN_A_NAMESPACE)
async def test_a_request_in_a_container_is_waited_for_in_the_same_way(doors: Doors, method: str) -> None:
    """What it makes there must not come after it was undone."""
    doors.route.lock.clear()
    begun = asyncio.ensure_future(CALLS[method](doors.kernel))
    while not doors.route.threads:  # noqa: ASYNC110 - another thread
        await asyncio.sleep(0)
    begun.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not begun.done()
    doors.route.lock.set()
    await asyncio.wait({begun})
    assert begun.cancelled()


@pytest.mark.parametrize("at", ["open", "send", "recv"])
@pytest.mark.parametrize("method", CALLS)
async def test_whatever_a_netlink_socket_raises_is_translated(doors: Doors, method: str, at: str) -> None:
    """From the first step on, at every one. A refusal may be an answer: that a link is not there, say."""
    for foreign in FOREIGN:
        if at == "open":  # a socket that broke is opened again
            doors.route.fail(TimeoutError(), "recv")
            await _is_ours(CALLS[method](doors.kernel), foreign)
        doors.route.fail(foreign, at)
        error = await _is_ours(CALLS[method](doors.kernel), foreign)
        assert doors.route.failed, foreign
        assert error is not None or isinstance(foreign, OSError), foreign
        doors.route.fail(None, "")


@pytest.mark.parametrize("method", CALLS)
async def test_at_each_later_request_too(doors: Doors, method: str) -> None:
    """Until the call comes to its end without a failure."""
    for foreign in (OSError(24, "Too many open files"), struct.error("short"), TimeoutError()):
        for after in range(1, 30):
            doors.route.fail(foreign, "recv", after=after)
            await _is_ours(CALLS[method](doors.kernel), foreign)
            if not doors.route.failed:
                break
        else:
            raise AssertionError("it never ends")
        doors.route.fail(None, "")


@pytest.mark.parametrize("method", [*IN_A_NAMESPACE, "advertise", "upper_of"])
async def test_whatever_entering_a_namespace_raises_is_translated(doors: Doors, method: str) -> None:
    """Or it says that there is no such namespace, which is an answer."""
    for foreign in FOREIGN:
        doors.entering = foreign
        await _is_ours(CALLS[method](doors.kernel), foreign)
    assert doors.failed == len(FOREIGN)


@pytest.mark.parametrize("method", ["probe", "watch_neighbours"])
async def test_whatever_a_packet_socket_raises_is_translated(doors: Doors, method: str) -> None:
    """Opening it, and one that is of another kind."""
    for foreign in (*FOREIGN, None):
        doors.packet = foreign
        error = await _is_ours(CALLS[method](doors.kernel), foreign)
        assert error is not None
    assert doors.failed == len(FOREIGN)


@pytest.mark.parametrize("method", CALLS)
async def test_after_the_end_nothing_foreign_comes_either(doors: Doors, method: str) -> None:
    """There are no threads any more."""
    await doors.kernel.close()
    error = await _is_ours(CALLS[method](doors.kernel), None)
    assert error is None or isinstance(error, Unavailable)


async def test_values_that_no_message_can_hold_are_translated(doors: Doors) -> None:
    """Names that are no text, numbers out of range, an address that is none."""
    kernel = doors.kernel
    assert await kernel.link("\ud800") is None
    for kind, work in (
        (Invalid, kernel.add_dummy("\ud800")),
        (Invalid, kernel.set_up("\ud800")),
        (Invalid, kernel.delete("\ud800")),
        (NotFound, kernel.add_vlan("x", "\ud800", 1)),
        (Internal, kernel.add_vlan("x", "lan0", 70000)),
        (Invalid, kernel.probe("lan0", "pear")),
    ):
        assert isinstance(await _is_ours(work, None), kind)
