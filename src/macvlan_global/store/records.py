"""Records: typed values of the store, as JSON with a schema version `v`.

A record holds the texts that are stored; options and addresses are typed properties, parsed once when first read.

Shared facts (pools, addresses, definitions of networks, names, hosts) and facts of this host (networks, endpoints,
links) are records of different tables (`store.table`), so that the former can live in a cluster store while the latter
stay on the host.
"""

from functools import cached_property
from typing import Any, Literal

import msgspec

from macvlan_global.errors import Invalid
from macvlan_global.options.network import AttachWay, NetworkOptions, parse_options
from macvlan_global.store.validate import VERSION
from macvlan_global.subnets import Address, Subnet, parse_address, parse_subnet


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of what is stored. `v` is the version of its schema.

    The collector of garbage passes records over (`gc=False`): there may be 100,000, and none is in a cycle.
    """

    v: int = VERSION


class PoolRecord(Record, frozen=True, kw_only=True):
    """A subnet being handed out.

    `network` is the id of the network that holds it, or "" while it is only reserved: a pool is reserved by
    RequestPool and claimed by CreateNetwork. `range` is the part that is handed out unasked, "" for all of it.
    `host` is the id of the host that asked for it. In global scope `network` is the network's id in the cluster.
    `driver` and `name` are those of a network whose driver is not ours: no endpoint claims addresses of its pool.
    """

    space: str
    subnet: str
    range: str = ""
    network: str = ""
    host: str = ""
    at: float
    auto: bool = False
    driver: str = ""
    name: str = ""


class NetworkClaim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The claim of one more network on an address: as its gateway, or as its aux address of the name `label`. `host` is
    the id of the host that wrote it."""

    kind: Literal["gateway", "aux"]
    network: str
    label: str = ""
    host: str = ""


class AddressRecord(Record, frozen=True, kw_only=True):
    """One address and its holder.

    `kind` tells who: "reserved" (asked for, not used yet), "gateway" or "aux" (the network's), "endpoint", or "host" (a
    host itself, so that its containers reach it; `endpoint` is that host's id).
    `asked` says that this very address was asked for; `label` is the name of an aux address.
    `host` (its id) and `incarnation` tell which run of which host's driver wrote it. In global scope `network` is the
    network's id in the cluster. A reservation names a network only if that is of another network driver.

    `sharers` are claims of networks besides: networks on one wire share gateways and aux addresses, and a container may
    be the gateway. `static` says that a user chose the address of a container (`--ip`), `mac` is that of an endpoint.
    Older records have none of these.
    """

    space: str
    subnet: str
    address: str
    kind: Literal["reserved", "gateway", "aux", "endpoint", "host"]
    network: str = ""
    endpoint: str = ""
    label: str = ""
    asked: bool = False
    host: str
    incarnation: str
    at: float
    static: bool = False
    mac: str = ""
    sharers: list[NetworkClaim] = []


class SubnetUseRecord(Record, frozen=True, kw_only=True):
    """A subnet (CIDR) of an address space in which the host `host` (its id) may have addresses."""

    host: str
    space: str
    subnet: str


class OwnSubnetUseRecord(SubnetUseRecord, frozen=True, kw_only=True):
    """The same, in that host's own state."""


class HostAddress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An address (bare) that a host has itself on the interface `link`, or, as its `gateway`, reaches through it."""

    address: str
    link: str
    gateway: bool = False


class HostAddressesRecord(Record, frozen=True, kw_only=True):
    """The addresses that the host `id` has itself, on all its interfaces, and the gateways of its default routes."""

    id: str
    name: str
    addresses: list[HostAddress] = []
    at: float


class StaticAddressRecord(Record, frozen=True, kw_only=True):
    """An address that a user chose for a container (`--ip`), and that is remembered after its release. `host` is the id
    of the host that wrote this, `at` when."""

    space: str
    address: str
    host: str
    at: float


class RememberedRecord(Record, frozen=True, kw_only=True):
    """The addresses (bare, "" if none) that the last container called `name` had on `network` (its id in the cluster).

    `host` is the id of the host that it ran on, and `at` when it began or ended there; `mac` is for operators: nobody
    takes it from here.
    """

    network: str
    name: str
    space: str
    address: str = ""
    address6: str = ""
    mac: str = ""
    host: str
    at: float

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses: IPv4 first."""
        return tuple(filter(None, (self.address, self.address6)))


class SubnetRecord(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One subnet of a network: CIDR, bare gateway ("" if none), bare aux addresses by name.

    `space` is our address space, or "" if another IPAM driver gives the addresses.
    """

    space: str
    subnet: str
    range: str = ""
    gateway: str = ""
    aux: dict[str, str] = {}

    @cached_property
    def prefix(self) -> Subnet:
        """`subnet`, typed."""
        return parse_subnet(self.subnet, "subnet")

    @cached_property
    def range_prefix(self) -> Subnet | None:
        """`range`, typed; None without one."""
        return parse_subnet(self.range, "range") if self.range else None

    @cached_property
    def gateway_address(self) -> Address | None:
        """`gateway`, typed."""
        return parse_address(self.gateway, "gateway") if self.gateway else None


class NetworkRecord(Record, frozen=True, kw_only=True, dict=True, gc=True):
    """A network on this host. `given` are the user's `-o` options as texts; `parent` is the link chosen on this host.

    `name` is learnt from the engine later and may be "". `cluster` is its id in the cluster, which is its id on the
    host where it was created; "" in local scope, where nobody else knows it. `published` says that the cluster had
    its definition once, `removed` that the cluster removed it while containers used it here: its tombstone may go
    before them. Older records do not have that.
    """

    id: str
    name: str = ""
    cluster: str = ""
    published: bool = False
    removed: bool = False
    given: dict[str, str] = msgspec.field(name="options")
    internal: bool = False
    subnets: list[SubnetRecord] = []
    parent: str = ""
    at: float

    @property
    def shared_id(self) -> str:
        """Its id in shared records."""
        return self.cluster or self.id

    @property
    def shown(self) -> str:
        """Its name in messages, or its short id as `docker network ls` prints it."""
        return self.name or self.id[:12]

    @cached_property
    def options(self) -> NetworkOptions:
        """Its options; the defaults if they cannot be parsed, for which `options_error` has the reason."""
        try:
            return parse_options(self.given, strict=False)
        except Invalid:
            return NetworkOptions()

    @cached_property
    def options_error(self) -> str:
        """The malformed option of a network that exists all the same, in a swarm or by a newer release; "" if none."""
        try:
            parse_options(self.given, strict=False)
        except Invalid as error:
            return str(error)
        return ""

    def subnet_of(self, address: Address) -> SubnetRecord | None:
        """The subnet that holds an address."""
        return next((each for each in self.subnets if address in each.prefix), None)

    def gateway_of(self, address: Address) -> Address | None:
        """The gateway of the subnet that holds an address: each subnet has its own, an internal network none, and
        neither has a container that is the gateway itself."""
        subnet = None if self.internal else self.subnet_of(address)
        return subnet.gateway_address if subnet and subnet.gateway_address != address else None


class EndpointRecord(Record, frozen=True, kw_only=True, dict=True, gc=True):
    """A container's leg in a network, on this host. Addresses are bare, "" if none; `mac_asked` says that the
    user gave the MAC.

    `link` is the name its link has in the host's namespace, `sandbox` the path of the container's network namespace
    once it joined, `boot` the boot during which it was made: no endpoint outlives its boot. `ifname_asked` and
    `sysctls` are options of this endpoint. `attach` is the requested attach mode ("" in records that do not say): with
    "direct" its link is made inside its container, or is plain all the same for the reason in `why_plain`. `state` is
    "leaving" once the engine has deleted it and the deletion of its link is pending. `name` is the name that its
    addresses are remembered by, "" if they are not: see `driver.name_memory`.
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
    attach: AttachWay | Literal[""] = ""
    why_plain: str = ""
    state: Literal["live", "leaving"] = "live"
    name: str = ""

    @property
    def shown(self) -> str:
        """The name of its container, or its short id."""
        return self.container or self.id[:12]

    @cached_property
    def addresses(self) -> tuple[Address, ...]:
        """Its addresses, typed: IPv4 first."""
        return tuple(parse_address(each, "address") for each in (self.address, self.address6) if each)

    @property
    def is_live(self) -> bool:
        """Whether the engine still has it."""
        return self.state == "live"

    @property
    def is_inside(self) -> bool:
        """Whether its link was made inside its container, and not moved there."""
        return self.attach == "direct" and bool(self.sandbox) and not self.why_plain


_endpoint_decoder = msgspec.json.Decoder(EndpointRecord)


def decode_endpoint(value: bytes) -> EndpointRecord:
    """The endpoint record of a JSON value. Releases before `state` wrote it as `attach`, for direct links only.

    Raises:
        msgspec.DecodeError: it is none.
    """
    try:
        return _endpoint_decoder.decode(value)
    except msgspec.ValidationError:
        fields = msgspec.json.decode(value)
        if not isinstance(fields, dict) or fields.get("attach") != "leaving":
            raise
        return msgspec.convert({**fields, "attach": "direct", "state": "leaving"}, EndpointRecord)


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


class HostAccessRecord(Record, frozen=True, kw_only=True):
    """An address (bare) of a pool that this host has itself on a network, in the subnet `subnet`, to be reached by its
    containers. `cluster` is the network's id in the cluster."""

    network: str
    cluster: str
    space: str
    subnet: str
    address: str
    at: float


class IdentityRecord(Record, frozen=True, kw_only=True):
    """The identity of this host, for good: a random id that survives restarts and changes of the host's name.

    `machine` is the machine's fingerprint when it was written: a copied state folder is then known for a copy. `runs`
    are the last runs of the driver with this folder, the latest last. `clock` is the wall clock's lead over the
    monotonic one, in seconds, at the start of the last run, which was in `boot`. The other fields are no longer
    written: they are those of `EngineRecord`, in state files of earlier drivers.
    """

    id: str
    machine: str = ""
    engine: str = ""
    label: str = ""
    engine_version: str = ""
    live_restore: bool = False
    runs: list[str] = []
    boot: str = ""
    clock: float = 0.0


class EngineRecord(Record, frozen=True, kw_only=True):
    """The engine of the host `host` as last seen. Empty fields are not known.

    `id` is that of the engine's data, which this host's networks are about. `label` is the scope that its label asks
    for. `live_restore` says that its containers outlive it.
    """

    host: str
    id: str = ""
    label: str = ""
    version: str = ""
    live_restore: bool = False


class PendingRecord(Record, frozen=True, kw_only=True):
    """Something to tell the cluster store as soon as it answers again.

    `kind` "release": let go of `address` in `space` if `endpoint` of `network` has it still; without an endpoint, if
    this host only reserved it, for nobody or for this network of another driver. `incarnation` is the run of the driver
    that kept it; older records have none.
    `kind` "removal": the network `network`, called `name`, was removed here by its operator. `subnets` are its spaces
    and subnets; older records have none.
    """

    kind: Literal["release", "removal"]
    network: str = ""
    name: str = ""
    space: str = ""
    address: str = ""
    endpoint: str = ""
    incarnation: str = ""
    subnets: list[tuple[str, str]] = []
    at: float


class ObservedRecord(Record, frozen=True, kw_only=True):
    """A reading of this host's observation time: seconds for which its drivers ran, added up by a steady clock."""

    seconds: float


class PublishedRecord(Record, frozen=True, kw_only=True):
    """A network (its id in the cluster) below which this host has written names of its containers."""

    network: str


class DefinitionRecord(Record, frozen=True, kw_only=True):
    """A network as every host of the cluster makes it. `id` is its id in the cluster; `host` who published it.

    `kept_for` names containers of that host which refer to it: it was removed and published again for them.
    """

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
    kept_for: list[str] = []


class RemovedRecord(Record, frozen=True, kw_only=True):
    """A network that an operator removed on `host`: each host lets go of it once nothing uses it there."""

    id: str
    name: str
    host: str
    at: float


class HostRecord(Record, frozen=True, kw_only=True):
    """A host of the cluster, living or not. `seen` is when it last wrote this, in seconds since the epoch.

    `reclaimed` is written by others, before they give back what it had: it was dead. The host takes it away when it is
    in the cluster again, and claims anew what its containers have.
    """

    id: str
    name: str
    version: str = ""
    engine: str = ""
    networks: int = 0
    endpoints: int = 0
    seen: float
    reclaimed: bool = False


class ReportRecord(Record, frozen=True, kw_only=True):
    """The latest report of a host about itself, for the page of any host: its parents, its problems. `report` is plain
    data as `web.messages.HostReport` has it; drivers of different versions may know different parts of it."""

    id: str
    report: dict[str, Any] = {}
    at: float


class AliveRecord(Record, frozen=True, kw_only=True):
    """A host that lives: this record goes with its lease. `boot` and `incarnation` tell which run of its driver, `page`
    whether it serves the page, for which all hosts report about themselves."""

    id: str
    name: str
    boot: str
    incarnation: str
    at: float
    page: bool = False


class PortRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A port that a container exposes or publishes: number and "tcp", "udp" or "sctp"."""

    port: int
    protocol: str = "tcp"


class NameRecord(Record, frozen=True, kw_only=True):
    """The names and addresses of an endpoint on its network. Written by its host `host`.

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
