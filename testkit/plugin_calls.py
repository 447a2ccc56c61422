"""Docker's plugin protocol as an engine calls it, over any transport.

`FakeEngine` sends the messages of the protocol through a `Plugin`: in this process here, over a socket in
`plugin_socket`, on virtual time in `simulated_host`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from macvlan_global.driver.driver import Driver
from macvlan_global.errors import MacvlanGlobalError, Unavailable
from macvlan_global.libnetwork.handlers import Handlers

T = TypeVar("T")


class NoAnswer(MacvlanGlobalError):
    """The driver does not run, or ended before it answered."""


class Plugin(Protocol):
    """A driver, as its engine sees it."""

    async def call(self, method: str, **fields: object) -> dict[str, Any]:
        """The reply to a message, such as `IpamDriver.RequestPool`, with fields as on the wire.

        Raises:
            MacvlanGlobalError: the reply is an error, or there is none.
        """
        ...


class InProcess:
    """The message handlers of a driver, without a socket. Errors arrive as the driver raised them."""

    def __init__(self, driver: Driver) -> None:
        """`runs` says whether the driver answers."""
        self._routes = Handlers(driver).routes()
        self.runs = True

    async def call(self, method: str, **fields: object) -> dict[str, Any]:
        """See `Plugin.call`."""
        if not self.runs:
            raise Unavailable("the driver does not run")
        route = self._routes[f"/{method}"]
        reply = await route.handle(msgspec.convert(fields, route.request))
        answer: dict[str, Any] = msgspec.to_builtins(reply)
        return answer


class NoDriver:
    """Nobody listens at the plugin socket."""

    async def call(self, method: str, **_fields: object) -> dict[str, Any]:
        """See `Plugin.call`."""
        raise NoAnswer(f"no driver answers {method}")


async def insist(attempt: Callable[[], Awaitable[T]], pauses: Sequence[float]) -> T:
    """Call as an engine calls: again after each pause, in seconds, while there is no answer.

    Raises:
        NoAnswer: there was none after the last pause.
    """
    for pause in pauses:
        with contextlib.suppress(NoAnswer):
            return await attempt()
        await asyncio.sleep(pause)
    return await attempt()
