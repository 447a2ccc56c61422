"""What is kept, and where: the records, their keys, and tables that turn entries into records and back.

Values are JSON with a schema version `v`. A record of a newer version is left alone and reported, never guessed at,
and so is what is none of ours: anybody can write below the prefix of a store that hosts share.
Shared facts (pools, addresses, definitions of networks, names, hosts) and facts of this host (networks, endpoints,
links) have tables of their own, so that the former can live in a cluster store while the latter stay on the host.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import msgspec

from macvlan_global.errors import Internal
from macvlan_global.store.left_alone import LeftAlone
from macvlan_global.store.ports import Entry, Store
from macvlan_global.store.sound import VERSION, place_of, place_of_address, place_of_pool, version_of


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is stored. `v` is the version of its schema."""

    v: int = VERSION


class PoolRecord(Record, frozen=True, kw_only=True):
    """A subnet being handed out.

    `network` is the id of the network that holds it, or "" while it is only reserved: a pool is reserved by
    RequestPool and claimed by CreateNetwork. `range` is the part that is handed out unasked, "" for all of it.
    `host` is the id of the host that asked for it. In global scope `network` is the network's id in the cluster.
    """

    space: str
    subnet: str
    range: str = ""
    network: str = ""
    host: str = ""
    at: float
    auto: bool = False


class AddressRecord(Record, frozen=True, kw_only=True):
    """One address and its holder.

    `kind` tells who: "reserved" (asked for, not used yet), "gateway" or "aux" (the network's), "endpoint".
    `asked` says that this very address was asked for; `label` is the name of an aux address.
    `host` (its id) and `incarnation` tell which run of which host's driver wrote it. In global scope `network` is the
    network's id in the cluster.
    """

    space: str
    subnet: str
    address: str
    kind: Literal["reserved", "gateway", "aux", "endpoint"]
    network: str = ""
    endpoint: str = ""
    label: str = ""
    asked: bool = False
    host: str
    incarnation: str
    at: float


class SubnetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One subnet of a network: CIDR, bare gateway ("" if none), aux addresses by name.

    `space` is our address space, or "" if another IPAM driver gives the addresses.
    """

    space: str
    subnet: str
    range: str = ""
    gateway: str = ""
    aux: dict[str, str] = {}


class NetworkRecord(Record, frozen=True, kw_only=True):
    """A network on this host. `options` are the user's `-o` as given; `parent` is the link chosen on this host.

    `name` is learnt from the engine later and may be "". `cluster` is its id in the cluster, which is its id on the
    host where it was created; "" in local scope, where nobody else knows it. `published` says that the cluster had
    its definition once.
    """

    id: str
    name: str = ""
    cluster: str = ""
    published: bool = False
    options: dict[str, str]
    internal: bool = False
    subnets: list[SubnetRecord] = []
    parent: str = ""
    at: float

    @property
    def shared_id(self) -> str:
        """What shared records call it."""
        return self.cluster or self.id


class EndpointRecord(Record, frozen=True, kw_only=True):
    """A container's leg in a network, on this host. Addresses are bare, "" if none; `mac_asked` says that the
    user gave the MAC.

    `link` is the name its link has in the host's namespace, `sandbox` the path of the container's network namespace
    once it joined, `boot` the boot during which it was made: no endpoint outlives its boot. `ifname_asked` and
    `sysctls` are options of this endpoint. `attach` is how its link is wanted: "direct" is made inside its container,
    or is plain all the same, since `why_plain`; "leaving" when the engine has deleted it and its link goes in a moment.
    """

    network: str
    id: str
    address: str = ""
    address6: str = ""
    mac: str
    mac_asked: bool = False
    link: str
    parent: str = ""
    sandbox: str = ""
    boot: str
    at: float
    container: str = ""
    ifname_asked: str = ""
    sysctls: str = ""
    attach: str = ""
    why_plain: str = ""

    @property
    def is_inside(self) -> bool:
        """Whether its link was made inside its container, and not moved there."""
        return self.attach == "direct" and bool(self.sandbox) and not self.why_plain


class LinkRecord(Record, frozen=True, kw_only=True):
    """A parent link that we made on this host and must take away again. Written before the link is made.

    `boot` and `index` tell the very link from one that somebody else gave the same name; no index yet means 0.
    """

    name: str
    kind: Literal["vlan", "dummy"]
    master: str = ""
    vlan_id: int = 0
    boot: str = ""
    index: int = 0
    at: float


class IdentityRecord(Record, frozen=True, kw_only=True):
    """Who this host is, for good: a random id that survives restarts and changes of the host's name.

    `machine` is what identified the machine when it was written: a copied state folder is then known for a copy.
    `engine` is the id of the engine whose networks the state is about, "" while it is not known; `label` is the scope
    that a label of that engine asked for, "" if none did. The engine's version and whether its containers outlive it
    are as it last said.
    """

    id: str
    machine: str = ""
    engine: str = ""
    label: str = ""
    engine_version: str = ""
    live_restore: bool = False


class PendingRecord(Record, frozen=True, kw_only=True):
    """Something to tell the cluster store as soon as it answers again.

    `kind` "release": let go of `address` in `space` if `endpoint` of `network` has it still.
    `kind` "removal": the network `network`, called `name`, was removed here by its operator.
    """

    kind: Literal["release", "removal"]
    network: str = ""
    name: str = ""
    space: str = ""
    address: str = ""
    endpoint: str = ""
    at: float


class DefinitionRecord(Record, frozen=True, kw_only=True):
    """A network as every host of the cluster makes it. `id` is its id in the cluster; `host` who published it."""

    id: str
    name: str
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    internal: bool = False
    attachable: bool = False
    ipv4: bool = True
    ipv6: bool = False
    ipam_options: dict[str, str] = {}
    subnets: list[SubnetRecord] = []
    host: str
    at: float


class RemovedRecord(Record, frozen=True, kw_only=True):
    """A network that an operator removed on `host`: each host lets go of it once nothing uses it there."""

    id: str
    name: str
    host: str
    at: float


class HostRecord(Record, frozen=True, kw_only=True):
    """A host of the cluster, living or not. `seen` is when it last wrote this, in seconds since the epoch."""

    id: str
    name: str
    version: str = ""
    engine: str = ""
    networks: int = 0
    endpoints: int = 0
    seen: float


class AliveRecord(Record, frozen=True, kw_only=True):
    """A host that lives: this record goes with its lease. `boot` and `incarnation` tell which run of its driver."""

    id: str
    name: str
    boot: str
    incarnation: str
    at: float


class PortRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A port that a container exposes or publishes: number and "tcp", "udp" or "sctp"."""

    port: int
    protocol: str = "tcp"


class NameRecord(Record, frozen=True, kw_only=True):
    """What an endpoint is called on its network, and where it is. Written by its host `host`.

    `names` are the container's name, aliases, short id and hostname, without repeats, in the engine's spelling, the
    container's own name first. Addresses are bare, "" if none.
    """

    network: str
    network_name: str
    endpoint: str
    container: str
    names: list[str] = []
    address: str = ""
    address6: str = ""
    mac: str = ""
    ports: list[PortRecord] = []
    host: str
    at: float


R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Row(Generic[R]):
    """A record and the entry it was read from, which is needed to change or delete it."""

    record: R
    entry: Entry


class Table(Generic[R]):
    """Records of one kind, below one prefix of a store."""

    def __init__(
        self, store: Store, prefix: str, kind: type[R], place: Callable[[R], tuple[str, ...]] | None = None
    ) -> None:
        """Keep records of `kind` under `prefix` (no slash at the end).

        `place` tells the parts of the key that a record belongs under, or raises ValueError if it makes no sense. What
        is under another key cannot be read. Without `place` any key will do.
        """
        self._store = store
        self._prefix = prefix
        self._place = place
        self._left_alone = LeftAlone(self.prefix)
        self._decoder = msgspec.json.Decoder(kind)
        self._encoder = msgspec.json.Encoder()

    @property
    def prefix(self) -> str:
        """What the key of every row of this table begins with, for a watch."""
        return self._prefix + "/"

    def read(self, entry: Entry) -> Row[R] | None:
        """The row of an entry that was seen; None if a newer version wrote it or it cannot be read."""
        if version_of(entry.value) > VERSION:
            return None
        try:
            return self._row(entry)
        except Internal as error:
            self._left_alone.say(entry.key, error)
            return None

    async def get(self, *parts: str) -> Row[R] | None:
        """The row at this key, or None."""
        entry = await self._store.get(self._key(parts))
        return self._row(entry) if entry else None

    async def scan(self, *parts: str) -> list[Row[R]]:
        """Every row below these parts of the key, but those that are left alone (see `foreign`)."""
        return [row for entry in await self.entries(*parts) if (row := self.read(entry))]

    async def foreign(self) -> list[str]:
        """Keys of records that are left alone: a newer version wrote them, or they cannot be read."""
        return [entry.key for entry in await self.entries() if self.read(entry) is None]

    async def entries(self, *parts: str) -> list[Entry]:
        """Whatever there is below these parts of the key."""
        return await self._store.scan(self._key(parts) + "/")

    def key(self, *parts: str) -> str:
        """The key in the store of the row at these parts."""
        return self._key(parts)

    async def create(self, record: R, *parts: str) -> Row[R] | None:
        """Create the record if the key is absent; None if it is there."""
        entry = await self._store.create(self._key(parts), self._encoder.encode(record))
        return Row(record, entry) if entry else None

    async def replace(self, row: Row[R], record: R) -> Row[R] | None:
        """Write `record` if the row is still current; None if not."""
        entry = await self._store.replace(row.entry, self._encoder.encode(record))
        return Row(record, entry) if entry else None

    async def delete(self, row: Row[R]) -> bool:
        """Delete the row if it is still current; whether it was."""
        return await self._store.delete(row.entry)

    async def drop(self, *parts: str) -> None:
        """Delete whatever is at this key, if anything. Only for keys that nobody else writes."""
        entry = await self._store.get(self._key(parts))
        while entry and not await self._store.delete(entry):
            entry = await self._store.get(self._key(parts))

    async def put(self, record: R, *parts: str) -> Row[R]:
        """Write the record, whatever was there. Only for keys that nobody else writes."""
        while True:
            row = await self.create(record, *parts)
            if row:
                return row
            entry = await self._store.get(self._key(parts))
            if entry and (written := await self._store.replace(entry, self._encoder.encode(record))):
                return Row(record, written)

    def _key(self, parts: tuple[str, ...]) -> str:
        return "/".join((self._prefix, *(part.replace("/", "_") for part in parts)))

    def _row(self, entry: Entry) -> Row[R]:
        if version_of(entry.value) > VERSION:
            raise Internal(f"{entry.key} was written by a newer macvlan-global; this one leaves it alone")
        try:
            record = self._decoder.decode(entry.value)
            if self._place and self._key(self._place(record)) != entry.key:
                raise ValueError("it belongs under another key")
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise Internal(f"{entry.key} in the store cannot be read: {error}") from error
        return Row(record, entry)


class Tables:
    """Every table, by what it is kept in."""

    def __init__(self, shared: Store, local: Store) -> None:
        """`shared` holds what hosts agree on, `local` what is true of this host; they may be one store."""
        self.pools = Table(shared, "pools", PoolRecord, lambda r: place_of_pool(r.space, r.subnet, r.range))
        self.addresses = Table(
            shared, "addresses", AddressRecord, lambda r: place_of_address(r.space, r.subnet, r.address)
        )
        self.definitions = Table(shared, "definitions", DefinitionRecord, lambda r: place_of(r.id) and (r.name,))
        self.removed = Table(shared, "removed", RemovedRecord, lambda r: place_of(r.id))
        self.names = Table(shared, "names", NameRecord)  # by host and endpoint
        self.hosts = Table(shared, "hosts", HostRecord, lambda r: place_of(r.id))
        self.alive = Table(shared, "alive", AliveRecord, lambda r: place_of(r.id))
        self.networks = Table(local, "networks", NetworkRecord)
        self.endpoints = Table(local, "endpoints", EndpointRecord)
        self.links = Table(local, "links", LinkRecord)
        self.identity = Table(local, "identity", IdentityRecord)  # one row, "this"
        self.pending = Table(local, "pending", PendingRecord)

    async def foreign(self) -> list[str]:
        """Keys of records that are left alone: a newer version wrote them, or they cannot be read."""
        return [key for table in vars(self).values() for key in await table.foreign()]
