"""rtnetlink answers, as bytes through a pair of sockets: dumps, their ends, and messages that make no sense."""

import errno
import itertools
import struct
from collections.abc import Iterator, Sequence

import pytest

from macvlan_global.errors import Conflict, Internal, Unavailable
from macvlan_global.kernel.netlink import NetlinkKernel, Sockets
from macvlan_global.kernel.rtnl import (
    ANSWER_SECONDS,
    IFLA_MASTER,
    MOST_DUMPS,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    RTM_GETLINK,
    RTM_NEWLINK,
    RouteSocket,
    open_netlink,
)
from testkit.brief import SHARE
from testkit.played_netlink import (
    Answer,
    PlayedNetlink,
    Request,
    address_payload,
    attribute,
    link_payload,
    one_link,
)


@pytest.fixture
def played() -> Iterator[PlayedNetlink]:
    """A kernel with one link."""
    played = PlayedNetlink()
    yield played
    played.close()


def _links(request: Request, *names: str, flags: int = 0) -> list[bytes]:
    return [request.message(RTM_NEWLINK, link_payload(at, name), flags) for at, name in enumerate(names, 2)]


def _names(route: RouteSocket) -> list[str]:
    return [each.fact.name for each in route.dump()]


def _in_turn(*answers: Answer) -> Answer:
    """Each request has the next answer, the last one from then on."""
    left = list(answers)

    def answer(request: Request) -> Sequence[bytes]:
        return (left.pop(0) if len(left) > 1 else left[0])(request)

    return answer


def test_a_dump_is_read_to_its_end_over_several_datagrams(played: PlayedNetlink) -> None:
    """Nothing of it is lost between them."""
    played.answer = lambda request: [*_links(request, "a", "b"), *_links(request, "c"), request.done()]
    assert _names(played.open()) == ["a", "b", "c"]


@pytest.mark.parametrize("at_the_end", [False, True])
def test_an_interrupted_dump_is_asked_for_again(played: PlayedNetlink, *, at_the_end: bool) -> None:
    """The flag counts on any message, also on the last; what came with it is not used."""
    flags = (0, NLM_F_DUMP_INTR) if at_the_end else (NLM_F_DUMP_INTR, 0)
    played.answer = _in_turn(
        lambda request: [*_links(request, "a", flags=flags[0]), request.done(flags=flags[1])],
        lambda request: [*_links(request, "a", "b"), request.done()],
    )
    assert _names(played.open()) == ["a", "b"]
    assert len(played.requests) == 2


def test_a_dump_that_is_interrupted_each_time_is_an_error(played: PlayedNetlink) -> None:
    """After a bounded number of requests; the socket stays of use."""
    played.answer = lambda request: [*_links(request, "a"), request.done(flags=NLM_F_DUMP_INTR)]
    route = played.open()
    with pytest.raises(InterruptedError):
        route.dump()
    assert len(played.requests) == MOST_DUMPS
    played.answer = one_link
    assert (_names(route), route.closed) == (["lan0"], False)


async def test_lists_that_keep_changing_are_unavailable(played: PlayedNetlink) -> None:
    """So that nobody decides by what may be incomplete."""
    kernel = NetlinkKernel(Sockets(route=played.open))
    played.answer = lambda request: [request.done(flags=NLM_F_DUMP_INTR)]
    for listing in (kernel.links(), kernel.routes()):
        with pytest.raises(Unavailable, match="the list changed while it was read"):
            await listing
    await kernel.close()


def test_an_error_in_the_end_of_a_dump_counts(played: PlayedNetlink) -> None:
    """The kernel could not go on, and what it listed so far is not all."""
    played.answer = lambda request: [*_links(request, "a"), request.done(errno.ENOMEM)]
    with pytest.raises(OSError, match="Cannot allocate") as caught:
        played.open().dump()
    assert caught.value.errno == errno.ENOMEM


def test_an_end_without_a_result_is_an_end(played: PlayedNetlink) -> None:
    """As older kernels send it."""
    played.answer = lambda request: [*_links(request, "a"), request.message(NLMSG_DONE)]
    assert _names(played.open()) == ["a"]


@pytest.mark.parametrize(("name", "there"), [("enp129s0f0np0.100", False), ("eth0", True)])
async def test_a_kernel_without_alternative_names_has_no_link_of_a_long_name(
    played: PlayedNetlink, name: str, *, there: bool
) -> None:
    """Before 5.5 it passes over that attribute and has nothing to look for: it answers EINVAL. To a short name that is
    an error."""
    kernel = NetlinkKernel(Sockets(route=played.open))
    played.answer = lambda request: [request.result(errno.EINVAL)]
    if there:
        with pytest.raises(Conflict):
            await kernel.link(name)
    else:
        assert await kernel.link(name) is None
    await kernel.close()


async def test_a_bridge_that_is_deleted_while_its_port_is_read_has_no_port(played: PlayedNetlink) -> None:
    """The port is there, and is in no bridge any more."""
    kernel = NetlinkKernel(Sockets(route=played.open))
    played.answer = _in_turn(
        lambda request: [
            request.message(RTM_NEWLINK, link_payload(2, "eth1") + attribute(IFLA_MASTER, struct.pack("=I", 7)))
        ],
        lambda request: [request.result(errno.ENODEV)],
    )
    found = await kernel.link("eth1")
    assert found
    assert (found.name, found.master) == ("eth1", "")
    await kernel.close()


def test_what_is_left_of_another_answer_is_passed_over(played: PlayedNetlink) -> None:
    """Whatever it says."""
    played.answer = lambda request: [
        request.message(NLMSG_ERROR, struct.pack("=i", -errno.EPERM), sequence=request.sequence - 1),
        *one_link(request),
    ]
    assert _names(played.open()) == ["lan0"]


def test_each_receive_has_a_deadline() -> None:
    """Also on the real socket, which is asked nothing here."""
    opened = open_netlink()
    try:
        assert opened.gettimeout() == ANSWER_SECONDS  # type: ignore[attr-defined]  # a socket
    finally:
        opened.close()


async def test_without_an_answer_a_request_fails_and_the_next_has_another_socket(played: PlayedNetlink) -> None:
    """A late answer would be taken for the next one's."""
    kernel = NetlinkKernel(Sockets(route=played.open))
    assert await kernel.link("lan0")
    played.answer = lambda request: _links(request, "a") if request.dumps else []  # never an end
    for work in (kernel.link("lan0"), kernel.links()):
        with pytest.raises(Unavailable, match=f"did not answer within {ANSWER_SECONDS:g} s"):
            await work
    played.answer = one_link
    assert await kernel.link("lan0")
    assert len(await kernel.links()) == 1
    assert len(played.sockets) == 4
    await kernel.close()


def _damaged(message: bytes) -> Iterator[bytes]:
    """Cut off at each place, and with each length field of two bytes made too short and too long."""
    yield from (message[:end] for end in range(len(message)))
    for at in range(0, len(message), 2):
        for length in (0, 1, 3, len(message), 0x7FFF, 0xFFFF):
            yield message[:at] + struct.pack("=H", length) + message[at + 2 :]


@pytest.mark.parametrize("whole", [link_payload(2, "lan0", alias="mg-a"), address_payload(2, bytes((192, 0, 2, 9)))])
async def test_malformed_messages_are_internal_errors(played: PlayedNetlink, whole: bytes) -> None:
    """Payloads and whole datagrams: each is either read, or refused as the kernel's fault, and nothing else."""
    kernel = NetlinkKernel(Sockets(route=played.open))
    played.patience = 0.001  # a datagram with another number in it is passed over, and nothing follows
    refused = 0
    for damaged in itertools.islice(_damaged(whole), 0, None, SHARE):
        for answer in (
            lambda request, each=damaged: [request.message(RTM_NEWLINK, each) + request.done()],
            lambda request, each=damaged: [(request.message(RTM_GETLINK, each) + request.done())[: len(each) + 8]],
        ):
            played.answer = answer
            for work in (kernel.links(), kernel.routes(), kernel.link("lan0")):
                try:
                    await work
                except Internal as error:
                    assert "the answer of the kernel is malformed" in str(error)
                    refused += 1
                except Unavailable as error:
                    assert "did not answer" in str(error)
    assert refused > 100 // SHARE
    await kernel.close()
