"""Facts about a host, without judgement. Plain values; `gather` fills them in, tests write them down.

A fact that could not be seen is None or "unknown", and says so: that is not the same as "no".
"""

from dataclasses import dataclass, field
from typing import Literal

Decision = Literal["accept", "drop", "jump", "goto", "return", ""]
ModuleState = Literal["loaded", "built in", "loadable", "missing", "unknown"]


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """The process whose rights count: the running driver, or else this command. `effective` is its capability mask."""

    what: str
    pid: int
    effective: int


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """The kernel. `modules` by name; the settings are None where the kernel has no such setting.

    `bridge_filter` is net.bridge.bridge-nf-call-iptables, `ipv6_off` net.ipv6.conf.all.disable_ipv6, and `has_ipv6`
    whether the kernel speaks IPv6 at all. `arp_ignore` says whether net.ipv4.conf.all.arp_ignore is above 0.
    """

    release: str = ""
    modules: dict[str, ModuleState] = field(default_factory=dict)
    bridge_filter: bool | None = None
    ipv6_off: bool | None = None
    has_ipv6: bool = True
    arp_ignore: bool = False


@dataclass(frozen=True, slots=True)
class PlatformFacts:
    """The platform of the host: DMI's vendor and product, and whether this is inside WSL or a container."""

    vendor: str = ""
    product: str = ""
    wsl: bool = False
    container: bool = False


@dataclass(frozen=True, slots=True)
class PluginFacts:
    """The managed plugin as the engine has it: its full name, its id, and where commands find it on this host."""

    name: str
    id: str
    enabled: bool = True
    admin_socket: str = ""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """The Docker Engine as its own API tells it. `problem` is "" if it answered; `folder` is where its data are.
    `plugin` is None if our managed plugin is not installed in it. `neighbours` are networks of Docker's own macvlan and
    ipvlan drivers with addresses of the engine's own IPAM. `scope` is the one that the engine's labels ask
    for, "" for none."""

    where: str
    problem: str = ""
    version: str = ""
    system: str = ""
    plugins: tuple[str, ...] = ()
    swarm: bool = False
    rootless: bool = False
    folder: str = "/var/lib/docker"
    plugin: PluginFacts | None = None
    neighbours: tuple["NetworkFacts", ...] = ()
    scope: Literal["", "local", "global"] = ""


@dataclass(frozen=True, slots=True)
class SwarmNetwork:
    """A network of the swarm. `driver` is "" as long as the managers have not finished it."""

    id: str
    name: str
    driver: str
    ipv6: bool = False


@dataclass(frozen=True, slots=True)
class SwarmService:
    """A service, and the ids of networks on which it has a virtual address."""

    name: str
    virtual: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SwarmNode:
    """A node that is ready, and the names of the network plugins that its engine has."""

    name: str
    plugins: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SwarmFacts:
    """The swarm as a manager sees it. `problem` is "" if it could be asked."""

    problem: str = ""
    networks: tuple[SwarmNetwork, ...] = ()
    services: tuple[SwarmService, ...] = ()
    nodes: tuple[SwarmNode, ...] = ()


@dataclass(frozen=True, slots=True)
class SocketFacts:
    """A unix socket's file. `mode` are the permission bits."""

    path: str
    exists: bool = False
    is_socket: bool = False
    mode: int = 0
    owner: int = 0


@dataclass(frozen=True, slots=True)
class DriverFacts:
    """The running driver. `problem` is "" if it answered on its admin socket; it is `silent` if it was there and did
    not within some seconds. With a problem, `closed` says that its socket is not for the user of this command, who so
    cannot know whether it runs.

    `processes` are the ids of every driver in this network namespace, without managed plugins; `spec_files` name our
    plugin elsewhere than by its socket, `unit` is whether the systemd unit is installed (None: this machine does not
    run systemd). `managed` is whether it is the engine's managed plugin that was asked, `alone` whether it is in global
    scope with a store that no other host has. `unused_store` is a cluster store that it is configured with and does not
    use in local scope, "" if there is none. `store` is the configured one that it runs with, and `configured_store` the
    one of its configuration by now, "" if that is not known. `outdated` are files of the service that
    `macvlan-global install` would write otherwise. `unreached` says in words which containers the host does not reach,
    though it shall.
    """

    problem: str = ""
    silent: bool = False
    closed: bool = False
    version: str = ""
    engine_problem: str = ""
    processes: tuple[int, ...] = ()
    spec_files: tuple[str, ...] = ()
    unit: bool | None = None
    managed: bool = False
    alone: bool = False
    unused_store: str = ""
    store: str = ""
    configured_store: str = ""
    outdated: tuple[str, ...] = ()
    unreached: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StateFacts:
    """The state file, read without changing it. `problem` is "" if it could be; `free` are bytes left on its disk."""

    path: str
    exists: bool = False
    problem: str = ""
    size: int = 0
    free: int | None = None
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """An interface as sysfs shows it. `below` are the names of the links it stands on.

    `carrier` is None while the link is down; `port_of` names the bridge or bond it is a port of, "" for none.
    `ethernet` is false for tunnels and PPP. `bond_mode` and `fail_over_mac` are a bond's settings, "" for other links.
    `arp_filter` is net.ipv4.conf.IFNAME.arp_filter, and `asks` whether net.ipv4.neigh.IFNAME.mcast_solicit is above 0.
    `leads_to` are addresses to which the host has a route of their own over it.
    """

    name: str
    up: bool = True
    carrier: bool | None = True
    mtu: int = 1500
    wireless: bool = False
    bridge: bool = False
    port_of: str = ""
    below: tuple[str, ...] = ()
    ethernet: bool = True
    bond_mode: str = ""
    fail_over_mac: str = ""
    arp_filter: bool | None = None
    asks: bool | None = None
    leads_to: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """A network of ours: its parent, the MTU it asks for (0 for the parent's), and whether it speaks IPv6.

    `subnets` are (address space, CIDR), with the space "" if another IPAM driver gives the addresses; `gateway` is
    whether it has an IPv4 one, or needs none; `host_access` whether its containers and the host shall reach each other.
    `running` are addresses of containers that run on this host.
    """

    name: str
    parent: str
    mtu: int = 0
    ipv6: bool = False
    subnets: tuple[tuple[str, str], ...] = ()
    gateway: bool = True
    host_access: bool = False
    running: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ManagerFacts:
    """Network managers of this host. `wildcards` are (file, link): files of systemd-networkd that would configure a
    link that the driver makes. `unguarded` says that NetworkManager runs, and no rule keeps it off these links."""

    wildcards: tuple[tuple[str, str], ...] = ()
    unguarded: bool = False


@dataclass(frozen=True, slots=True)
class FilterRule:
    """A rule of a packet filter. `links` are the interfaces of its packets, with * at the end for any rest of a name;
    all if it names none, all others if it is `negated`. `conditional` says that more than the interface decides.
    `target` is the chain that it leads to."""

    verdict: Decision = ""
    target: str = ""
    links: tuple[str, ...] = ()
    negated: bool = False
    conditional: bool = False


@dataclass(frozen=True, slots=True)
class FilterChain:
    """A chain of a packet filter, as `tool` (nft, iptables, ip6tables) shows it, in the kernel's order. `hook` is input
    or output if packets to and from the host begin here, else ""; `drops` is its policy."""

    tool: str
    table: str
    name: str
    hook: str = ""
    drops: bool = False
    rules: tuple[FilterRule, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """This host's part in a cluster, as the driver tells it. `problems` are in words, the next step after "; ".

    `resolver` is where it listens, "" if it is off; `nameservers` are those of resolv.conf, in order, and
    `resolv_conf_owner` warns of another program that writes it. `may_probe` is whether the driver has the right to ask
    a wire who has an address.
    """

    store: str
    store_problem: str = ""
    waiting: int = 0
    problems: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    resolver: str = ""
    resolver_problem: str = ""
    nameservers: tuple[str, ...] = ()
    resolv_conf_owner: str = ""
    may_probe: bool = True


@dataclass(frozen=True, slots=True)
class DoctorFacts:
    """All that the doctor knows. `links` are the host's, by name; `config_problem` is "" if it is right.
    `cluster` is None in local scope, and if no driver answers; `swarm` is None but on a manager of a swarm. `conflicts`
    are addresses in conflict, and what keeps the driver from seeing them, in words with the next step after "; ".
    `access_addresses` are those of `host_access_addresses`. `filters` are chains of the host's packet filters, in
    tables of which one begins at a hook; they are read only if a network has host access."""

    process: ProcessFacts
    kernel: KernelFacts
    platform: PlatformFacts
    engine: EngineFacts
    socket: SocketFacts
    driver: DriverFacts
    state: StateFacts
    config: str
    config_problem: str = ""
    networks: tuple[NetworkFacts, ...] = ()
    cluster: ClusterFacts | None = None
    swarm: SwarmFacts | None = None
    links: dict[str, LinkFacts] = field(default_factory=dict)
    managers: ManagerFacts = field(default_factory=ManagerFacts)
    conflicts: tuple[str, ...] = ()
    access_addresses: tuple[str, ...] = ()
    filters: tuple[FilterChain, ...] = ()
