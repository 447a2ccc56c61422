"""Addresses of store members that are given by name. A resolver that hangs keeps nobody but its own thread."""

import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from macvlan_global.blocking_calls import BlockingCalls

RESOLVE_SECONDS = 1.0
MOST_HANGING = 8


class HostNames(AbstractResolver):
    """Resolves by getaddrinfo(3), within a second. A name that cannot be resolved now keeps its addresses."""

    def __init__(self, *, seconds: float = RESOLVE_SECONDS) -> None:
        """Nothing is known yet."""
        self._seconds = seconds
        self._calls = BlockingCalls(_addresses, most=MOST_HANGING)
        self._known: dict[str, list[tuple[int, str, int]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Addresses of a name, for a connection to `port`.

        Raises:
            OSError: it has none, or there is no answer and none is known of before.
        """
        try:
            self._known[host] = await self._calls.result(host, self._seconds)
        except (OSError, RuntimeError) as error:  # a TimeoutError is one; without a thread it is the other
            if host not in self._known:
                reason = getattr(error, "strerror", str(error)) or "the resolver does not answer"
                raise OSError(None, f"the name {host} cannot be resolved: {reason}") from error
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=each, proto=protocol, flags=socket.AI_NUMERICHOST
            )
            for each, address, protocol in self._known[host]
            if family in {socket.AF_UNSPEC, each}
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _addresses(host: str) -> list[tuple[int, str, int]]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [(family, str(address[0]), protocol) for family, _, protocol, _, address in found]
