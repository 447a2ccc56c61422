"""Answers of the admin socket. Every field is plain data: `--json` prints it as it is."""

import msgspec


class ResolverView(msgspec.Struct, frozen=True, kw_only=True):
    """The resolver of this host. `names` counts endpoints whose names it knows, of all hosts; before `known` it knows
    nothing yet. `problem` says why it does not listen, "" if it does."""

    address: str
    listening: bool
    known: bool
    names: int
    queries: int
    problem: str = ""


class WatchView(msgspec.Struct, frozen=True, kw_only=True):
    """The conflict watch. `parents` are those that are watched. In words: `conflicts` are the addresses in conflict in
    the last minutes, which are among the status' problems, and `problems` are gateways that nobody answers for, and
    what keeps conflicts from being seen."""

    parents: list[str]
    conflicts: list[str] = []
    problems: list[str] = []


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The driver in one view. `store` is the one in use, and `unused_store` a cluster store of the configuration that
    has no effect, since the scope is not global.

    `engine` is the engine's version, or "" if it does not answer (`engine_problem`); `engine_followed` says that its
    events are being received, from which names are learnt.

    `addresses` is None if the store does not answer (`store_problem`); `waiting` counts what it must be told when it
    does. `problems` are those of networks and of the last repair, in words. `hosts` are names of living hosts of the
    cluster, and `resolver` is None in local scope. `watch` is None if conflicts are not watched for."""

    version: str
    pid: int
    host: str
    scope: str
    store: str
    socket: str
    state_dir: str
    up_seconds: float
    engine: str = ""
    engine_problem: str = ""
    engine_sees_plugin: bool = False
    engine_followed: bool = False
    swarm: bool = False
    live_restore: bool = False
    networks: int = 0
    endpoints: int = 0
    addresses: int | None = 0
    foreign_records: list[str] = []
    host_id: str = ""
    store_problem: str = ""
    waiting: int = 0
    problems: list[str] = []
    hosts: list[str] = []
    resolver: ResolverView | None = None
    watch: WatchView | None = None
    unused_store: str = ""


class SubnetView(msgspec.Struct, frozen=True, kw_only=True):
    """A subnet of a network and how full it is. `used` of `size` addresses of its range are held."""

    subnet: str
    range: str = ""
    gateway: str = ""
    aux: dict[str, str] = {}
    space: str = ""
    used: int = 0
    size: int = 0


class NetworkView(msgspec.Struct, frozen=True, kw_only=True):
    """A network. `parent_state` is up, down or missing; `parent_made` says that we made the parent. `cluster` is its
    id in the cluster, "" in local scope; `problem` is what is wrong with it, and what to do."""

    id: str
    name: str
    parent: str
    parent_state: str
    parent_made: bool
    mode: str
    internal: bool
    options: dict[str, str]
    subnets: list[SubnetView]
    endpoints: int
    cluster: str = ""
    problem: str = ""


class AddressView(msgspec.Struct, frozen=True, kw_only=True):
    """An address and its holder. `at` is seconds since the epoch."""

    address: str
    subnet: str
    space: str
    kind: str
    network: str
    holder: str
    host: str
    mac: str = ""
    at: float


class RememberedView(msgspec.Struct, frozen=True, kw_only=True):
    """An address that is remembered: for the container `name` of a network, or, without a name, as a static one.

    `mac` and `host` are those of its last container. `at` is when it was used last, in seconds since the epoch;
    `in_use` says that something has it now.
    """

    address: str
    space: str
    network: str
    name: str
    mac: str
    host: str
    at: float
    in_use: bool


class VerdictView(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a parent list and what became of it."""

    entry: str
    usable: bool
    reason: str


class ChoiceView(msgspec.Struct, frozen=True, kw_only=True):
    """The choice of a network's parent as it would be made now. `current` is the parent it has; `source` the option or
    file."""

    network: str
    current: str
    chosen: str
    source: str
    verdicts: list[VerdictView]


class CorrectionView(msgspec.Struct, frozen=True, kw_only=True):
    """One correction of a repair."""

    action: str
    subject: str
    reason: str


class RepairView(msgspec.Struct, frozen=True, kw_only=True):
    """A repair: what was, or with `dry_run` would be, corrected; `failed` could not be."""

    dry_run: bool
    engine: bool
    corrections: list[CorrectionView]
    failed: list[CorrectionView] = []


class ConflictView(msgspec.Struct, frozen=True, kw_only=True):
    """An address that a device claims although `holder` has it (a container, a host, or a gateway: `kind`). `mac` is
    the device's, with its `vendor` if that is known; `other` names it if it is of ours. `how` says what it does.
    `holder_mac` is "" if it is not known. `first` and `last` are seconds since the epoch, `count` is that of frames;
    `vlan` is 0 without a VLAN. `claimed` is "" unless the device has the MAC of the holder: then it is its address.
    `current` says that it goes on, as far as anybody knows: its last frame is less than ten minutes old, by the clock
    of the host that answers.
    """

    address: str
    kind: str
    holder: str
    container: str
    network: str
    host: str
    holder_mac: str
    mac: str
    vendor: str
    other: str
    how: str
    claimed: str
    parent: str
    vlan: int
    first: float
    last: float
    count: int
    current: bool


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """A host of the cluster. `state` is up or down; `this` says that it is the one that answers; `seen` is when it last
    told about itself, in seconds since the epoch (0: never). `addresses` are those that its containers hold."""

    id: str
    name: str
    state: str
    this: bool
    version: str
    engine: str
    seen: float
    networks: int
    endpoints: int
    addresses: int


class KeptAddressView(msgspec.Struct, frozen=True, kw_only=True):
    """An address that was not given back, and why."""

    address: str
    reason: str


class HostRemovalView(msgspec.Struct, frozen=True, kw_only=True):
    """Result of removing a host. `removed` is true if nothing of it is left; `names` and `pools` count the records that
    were deleted besides the addresses that were given back."""

    id: str
    name: str
    removed: bool
    given_back: list[str]
    kept: list[KeptAddressView]
    names: int
    pools: int


class PageView(msgspec.Struct, frozen=True, kw_only=True):
    """The page of this host: the address that it is served on, as HOST:PORT, the host's name, and the token that it
    asks for, "" if it asks for none."""

    address: str
    host: str
    token: str = ""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error. `kind` is the name of the error class."""

    kind: str
    message: str
