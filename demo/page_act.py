"""The second act of `make demo`: the page of one host, while containers come, move and are in conflict.

The page is on the loopback of a namespace. A way to it is open on the loopback of this machine for as long as it plays.
"""

import contextlib
import socket
from types import TracebackType
from typing import Self

from demo.screen import Screen
from demo.stage import VERSION, Place, until
from demo.terminal import Terminal
from lab.cluster_site import has
from lab.hosts import Host
from lab.page_events import PageEvents
from lab.proxy import TcpProxy
from lab.wire import Wire

LOOPBACK, PORT = "127.0.0.1", 8153
PAGE = f"{LOOPBACK}:{PORT}"
NETWORK = "guests"
ADDRESS = "192.168.30.9"
DEVICE = "printer"


class PageAct:
    """The act, and the way to the page. Use as a context manager: it needs the first act's hosts."""

    def __init__(self, screen: Screen, wire: Wire, one: Place, two: Place) -> None:
        """`two` has the page; `wire` is the one that containers use."""
        self._screen, self._wire, self._one, self._two = screen, wire, one, two
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Open the way, and look at the page's events."""
        with contextlib.ExitStack() as stack:
            host = self._two.terminal.host
            self._way = TcpProxy(PAGE, on=host, listener=_listener())
            stack.callback(self._way.close)
            self._events = stack.enter_context(PageEvents(host, PAGE))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close both."""
        self._stack.__exit__(kind, error, at)

    def play(self) -> None:
        """Create, move, conflict."""
        screen, one, two, events = self._screen, self._one, self._two, self._events
        name_two = two.terminal.host.name
        with screen.step(f"The page of {name_two} shows both hosts, live"):
            two.type("macvlan-global page")
            screen.say(f"to look at it while this plays: http://{self._way.endpoint}/ on this machine")
        with screen.step(f"Another network, created on {name_two}, and a container on it"):
            self._create()
            one.type(f"docker run -d --init --net={NETWORK} --ip={ADDRESS} --name=web alpine sleep 600")
            until(screen, "the page shows web on host1", lambda: events.host_of(ADDRESS) == one.terminal.host.name)
        with screen.step("It moves to the other host, and keeps its address and its name"):
            one.type("docker rm -f web")
            two.type(f"docker run -d --init --net={NETWORK} --ip={ADDRESS} --name=web alpine sleep 600")
            until(screen, "the page shows web on host2", lambda: events.host_of(ADDRESS) == name_two)
        with Host(DEVICE) as device, screen.step("A device on the wire takes the address of web"):
            self._wire.plug(device, "eth0")
            printer = Terminal(screen, device, VERSION)
            printer.type(f"ip address add {ADDRESS}/24 dev eth0")
            printer.type(f"arping -q -U -c 2 -I eth0 {ADDRESS}")
            hosts = [each.terminal.host.name for each in (one, two)]

            def seen() -> bool:
                return all("is in conflict" in str(events.problems_of(each)) for each in hosts)

            until(screen, "the page shows a conflict, which both hosts see", seen)
            two.type("macvlan-global conflicts")

    def clear(self, first_network: str) -> None:
        """Have the network and its container go again. `first_network` is that of the first act."""
        with self._screen.step(f"That network and its container go; {first_network} stays"):
            self._two.type("docker rm -f web")
            self._two.type(f"docker network rm {NETWORK}")
            until(self._screen, "the page shows no web any more", lambda: not self._events.host_of(ADDRESS))

    def _create(self) -> None:
        self._two.type(
            "docker network create -d macvlan-global --ipam-driver macvlan-global "
            f'--subnet=192.168.30.0/24 --gateway=192.168.30.1 -o parent="foo, bar" {NETWORK}'
        )
        until(self._screen, "host1 has made it too", lambda: has(self._one.site, NETWORK))


def _listener() -> socket.socket:
    """A socket on the loopback of this machine, at the page's own port or at another one."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for port in (PORT, 0):
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            continue
        break
    return listener
