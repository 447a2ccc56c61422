"""Our resolver with names in memory, on a host of the lab; beside it, on the same event loop, an echo on a socket."""

import asyncio
import sys

from macvlan_global.dns.address import read_address
from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.dns.resolver.server import Resolver
from macvlan_global.store.records import NameRecord

NAMES = 200
NETWORK = "bench"
ID = "n" * 64


def name(number: int) -> str:
    """Name of container `number`."""
    return f"web{number}"


def address(number: int) -> str:
    """Its address."""
    return f"10.66.0.{number + 10}"


def main(where: str, echo: str) -> None:
    """Serve on the address `where` until killed; whoever writes a byte to the unix socket `echo` gets it back."""
    cache = ResponseCache(5)
    cache.update(put=[(f"names/{ID}/h/{number}", _record(number)) for number in range(NAMES)])
    cache.set_awaited(frozenset())
    asyncio.run(_serve(cache, where, echo))


async def _serve(cache: ResponseCache, where: str, echo: str) -> None:
    resolver = Resolver(cache, read_address(where))
    await resolver.start()
    async with await asyncio.start_unix_server(_echo, echo) as server:
        await server.serve_forever()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while byte := await reader.read(1):
        writer.write(byte)
    writer.close()


def _record(number: int) -> NameRecord:
    return NameRecord(
        network=ID,
        network_name=NETWORK,
        endpoint=f"{number:064x}",
        container=f"{number:064x}",
        names=[name(number)],
        address=address(number),
        host="h",
        at=0.0,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
