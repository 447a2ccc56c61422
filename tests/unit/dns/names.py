"""Records and questions that the tests of the resolver share."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import dns.message
import dns.rcode

from lab.speed import within
from macvlan_global.dns.address import ListenAddress
from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.store.records import NameRecord, PortRecord
from macvlan_global.store.table import Table

PID = os.getpid()
ADDRESS = ListenAddress(f"127.{1 + (PID >> 16) % 250}.{(PID >> 8) % 256}.{1 + PID % 250}", 10000 + PID % 20000)
"""A loopback address and a port of this process's own: tests run side by side."""


def record(
    number: int, *names: str, network: str = "lan", ipv6: bool = False, ports: tuple[int, ...] = ()
) -> NameRecord:
    """The record of endpoint `number`, which has the address 10.65.0.`number`."""
    return NameRecord(
        network=network * 8,
        network_name=network,
        endpoint=f"{number:064x}",
        container=f"{number:064x}"[::-1],
        names=[*names, f"{number:064x}"[::-1][:12]],
        address=f"10.65.{number // 256}.{number % 256}",
        address6=f"fd65::{number:x}" if ipv6 else "",
        ports=[PortRecord(port=port) for port in ports],
        host="h1",
        at=float(number),
    )


def key(each: NameRecord) -> str:
    """The key of a record in the store."""
    return f"names/{each.network}/{each.host}/{each.endpoint}"


async def put(names: Table[NameRecord], each: NameRecord) -> None:
    """Write a record into the store, under its key."""
    await names.put(each, each.network, each.host, each.endpoint)


def knowing(*records: NameRecord) -> ResponseCache:
    """ResponseCache of a resolver that read these from the store."""
    cache = ResponseCache(5)
    cache.update(put=[(key(each), each) for each in records])
    cache.set_awaited(frozenset())
    return cache


def question(name: str, kind: str = "A", **options: object) -> bytes:
    """A query as an asker sends it, always with the same id: tests are named after queries."""
    options.setdefault("id", 4711)
    return dns.message.make_query(name, kind, **options).to_wire()  # type: ignore[arg-type]


def ask(
    cache: ResponseCache, name: str, kind: str = "A", *, udp: bool = True, **options: object
) -> dns.message.Message:
    """The reply, parsed."""
    reply = cache.respond(question(name, kind, **options), udp=udp)
    assert reply is not None
    return dns.message.from_wire(reply)


def texts(reply: dns.message.Message) -> list[str]:
    """Code and answers of a reply, the latter sorted: `NOERROR`, then each record's data."""
    return [dns.rcode.to_text(reply.rcode()), *sorted(data.to_text() for each in reply.answer for data in each)]


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 5) -> None:
    """Let others have their turns until the condition holds."""
    async with within(seconds):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.001)
