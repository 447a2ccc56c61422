"""Run on a host of the lab: our resolver over names in memory, and beside it somebody else's DNS server.

The resolver is fed as the driver feeds it, by a watch. The other server stands for what a host has in its
/etc/resolv.conf: it knows one name, and says of each other that there is no such name.
"""

import asyncio
import socket
import sys
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from macvlan_global.dns.address import read_address
from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.dns.resolver.feed import Feed
from macvlan_global.dns.resolver.server import Resolver
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import NameRecord, PortRecord
from macvlan_global.store.table import Tables

OURS = "127.0.0.153"
OTHER = "127.0.0.99"
FOREIGN = "elsewhere.example."
FOREIGN_ADDRESS = "192.0.2.7"
RECORDS = (
    NameRecord(
        network="n" * 64,
        network_name="lan",
        endpoint="e" * 64,
        container="c" * 64,
        names=["web", "shop", "c" * 12],
        address="10.65.0.9",
        address6="fd65::9",
        ports=[PortRecord(port=80)],
        host="other",
        at=0.0,
    ),
    NameRecord(
        network="n" * 64,
        network_name="lan",
        endpoint="d" * 64,
        container="d" * 64,
        names=["db", "d" * 12],
        address="10.65.0.10",
        host="other",
        at=0.0,
    ),
)


def main(address: str) -> None:
    """Serve until killed."""
    threading.Thread(target=_serve_other, daemon=True).start()
    asyncio.run(_serve(address))


async def _serve(address: str) -> None:
    store = MemoryStore()
    tables = Tables(store, store)
    for record in RECORDS:
        await tables.names.put(record, record.network, record.host, record.endpoint)
    cache = ResponseCache(5)
    feed = Feed(store, tables.names, cache)
    feed.want({each.network for each in RECORDS})
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed.run())
        tasks.create_task(Resolver(cache, read_address(address)).run())


def _serve_other() -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((OTHER, 53))
    while True:
        wire, asker = listener.recvfrom(4096)
        query = dns.message.from_wire(wire)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        question = query.question[0]
        if question.name.to_text().lower() != FOREIGN:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.A:
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", FOREIGN_ADDRESS))
        listener.sendto(reply.to_wire(), asker)


if __name__ == "__main__":
    main(*sys.argv[1:])
