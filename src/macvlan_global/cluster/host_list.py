"""The list of hosts, as the store has it, for `hosts` and `hosts remove`."""

from collections import Counter
from dataclasses import dataclass

from macvlan_global.errors import Conflict, NotFound
from macvlan_global.store.records import HostRecord
from macvlan_global.store.table import Tables


@dataclass(frozen=True, slots=True)
class HostLine:
    """A host. `addresses` are those that its containers hold, and those reserved for them; `live` if its key is there.

    Of a host without a row (it was lost, or the host died before it entered the cluster) of which addresses, or subnets
    that no network has, are left, only the id is known, and `seen` is 0.
    """

    record: HostRecord
    live: bool
    addresses: int


async def read_host_list(tables: Tables) -> list[HostLine]:
    """Every host, by name.

    Raises:
        Unavailable: the store cannot be reached.
    """
    held = Counter(
        row.record.host for row in await tables.addresses.scan() if row.record.kind in {"endpoint", "host", "reserved"}
    )
    known = {row.record.id: row.record for row in await tables.hosts.scan()}
    heartbeats = await tables.alive.entries()
    names = {row.record.id: row.record.name for _, row in await tables.alive.read_all(heartbeats) if row}
    # what a newer version wrote cannot be read, but it lives
    live = {*names, *(entry.key.removeprefix(tables.alive.prefix) for entry in heartbeats)}
    asked_for = {row.record.host for row in await tables.pools.scan() if not row.record.network}
    for host in {*held, *live, *asked_for} - set(known):
        known[host] = HostRecord(id=host, name=names.get(host, host[:12]), seen=0)
    lines = [HostLine(record, host in live, held[host]) for host, record in known.items()]
    return sorted(lines, key=lambda line: (line.record.name, line.record.id))


def find_dead(hosts: list[HostLine], name: str) -> HostRecord:
    """The host that an operator names, by name, id, or the beginning of an id. It must be down.

    Raises:
        NotFound: there is none of that name.
        Conflict: it is alive, or several are meant.
    """
    meant = [line for line in hosts if name in {line.record.name, line.record.id}]
    if not meant and len(name) >= 4:
        meant = [line for line in hosts if line.record.id.startswith(name)]
    if not meant:
        known = ", ".join(line.record.name for line in hosts) or "none"
        raise NotFound(f"there is no host {name!r} in the cluster; there is: {known}")
    down = [line.record for line in meant if not line.live]
    if not down:
        raise Conflict(
            f"host {name} is alive; stop its containers and its driver first (systemctl stop macvlan-global.service "
            "macvlan-global.socket there)"
        )
    if len(down) > 1:
        ids = ", ".join(record.id[:12] for record in down)
        raise Conflict(f"several hosts that are down are meant by {name!r}; say which by its id: {ids}")
    return down[0]
