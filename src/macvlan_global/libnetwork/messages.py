"""Requests and replies of the plugin protocol, one type each. Unknown keys are ignored.

Go writes an absent list or map as null, so every field that holds one may be None.
"""

from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Base of every message. Keys are the field names in PascalCase."""


class Empty(Message, frozen=True, kw_only=True):
    """A request without content, or the reply `{}`."""


class NetworkCapabilities(Message, frozen=True, kw_only=True):
    """Reply of NetworkDriver.GetCapabilities. `scope` is the SCOPE column of `docker network ls`."""

    scope: str
    connectivity_scope: str
    gw_alloc_checker: bool = True


class Activation(Message, frozen=True, kw_only=True):
    """Reply of Plugin.Activate: the driver interfaces that this socket serves."""

    implements: list[str]


class GwAllocCheck(Message, frozen=True, kw_only=True):
    """Sent before a network is created (engine 28 and newer): whether it needs a gateway address."""

    options: dict[str, Any] | None = None


class GwAllocAnswer(Message, frozen=True, kw_only=True):
    """Reply of GwAllocCheck. True: request no gateway address from the IPAM driver unless the user gave one."""

    skip_ipv4: bool = msgspec.field(name="SkipIPv4")
    skip_ipv6: bool = msgspec.field(name="SkipIPv6")


class IPData(Message, frozen=True, kw_only=True):
    """One subnet of a network. `pool`, `gateway` and the values of `aux_addresses` are CIDR text."""

    address_space: str = ""
    pool: str = ""
    gateway: str = ""
    aux_addresses: dict[str, str] | None = None


class CreateNetwork(Message, frozen=True, kw_only=True):
    """The user's `-o` options are below `com.docker.network.generic` in `options`."""

    network_id: str = msgspec.field(name="NetworkID")
    options: dict[str, Any] | None = None
    ipv4_data: list[IPData] | None = msgspec.field(name="IPv4Data", default=None)
    ipv6_data: list[IPData] | None = msgspec.field(name="IPv6Data", default=None)


class AllocateNetwork(Message, frozen=True, kw_only=True):
    """Sent on a swarm manager only: a network is created for the whole swarm."""

    network_id: str = msgspec.field(name="NetworkID")
    options: dict[str, str] | None = None
    ipv4_data: list[IPData] | None = msgspec.field(name="IPv4Data", default=None)
    ipv6_data: list[IPData] | None = msgspec.field(name="IPv6Data", default=None)


class AllocatedNetwork(Message, frozen=True, kw_only=True):
    """Reply of AllocateNetwork: the options that each node gets in CreateNetwork."""

    options: dict[str, str]


class NetworkOnly(Message, frozen=True, kw_only=True):
    """DeleteNetwork, FreeNetwork."""

    network_id: str = msgspec.field(name="NetworkID")


class Interface(Message, frozen=True, kw_only=True):
    """Addresses in CIDR form and a MAC, each "" if absent."""

    address: str = ""
    address_ipv6: str = msgspec.field(name="AddressIPv6", default="")
    mac_address: str = ""


class CreateEndpoint(Message, frozen=True, kw_only=True):
    """`interface` holds the addresses and the MAC chosen by the IPAM driver or the user."""

    network_id: str = msgspec.field(name="NetworkID")
    endpoint_id: str = msgspec.field(name="EndpointID")
    interface: Interface | None = None
    options: dict[str, Any] | None = None


class Added(Message, frozen=True, kw_only=True, omit_defaults=True):
    """MAC and IPv6 address (CIDR) that the driver chose, "" for none. A value of the request must not be repeated here:
    the engine refuses that."""

    mac_address: str = ""
    address_ipv6: str = msgspec.field(name="AddressIPv6", default="")


class CreatedEndpoint(Message, frozen=True, kw_only=True):
    """Reply of CreateEndpoint."""

    interface: Added | None = None


class EndpointOnly(Message, frozen=True, kw_only=True):
    """DeleteEndpoint, Leave, EndpointOperInfo, ProgramExternalConnectivity, RevokeExternalConnectivity."""

    network_id: str = msgspec.field(name="NetworkID")
    endpoint_id: str = msgspec.field(name="EndpointID")
    options: dict[str, Any] | None = None


class OperInfo(Message, frozen=True, kw_only=True):
    """Reply of EndpointOperInfo: free-form facts about an endpoint."""

    value: dict[str, str]


class Join(Message, frozen=True, kw_only=True):
    """`sandbox_key` is the path of the container's network namespace; before engine 28 it may not exist yet."""

    network_id: str = msgspec.field(name="NetworkID")
    endpoint_id: str = msgspec.field(name="EndpointID")
    sandbox_key: str = ""
    options: dict[str, Any] | None = None


class InterfaceName(Message, frozen=True, kw_only=True):
    """The link to move into the container, and the prefix of its name there. `src_name` "": there is none to move."""

    src_name: str
    dst_prefix: str


class JoinReply(Message, frozen=True, kw_only=True):
    """Reply of Join. Bare gateways. `disable_gateway_service`: do not add a leg in docker_gwbridge."""

    interface_name: InterfaceName
    gateway: str = ""
    gateway_ipv6: str = msgspec.field(name="GatewayIPv6", default="")
    disable_gateway_service: bool = True


class Discovery(Message, frozen=True, kw_only=True):
    """DiscoverNew, DiscoverDelete: a node joined or left the swarm."""

    discovery_type: int = 0
    discovery_data: dict[str, Any] | None = None


class IpamCapabilities(Message, frozen=True, kw_only=True):
    """Reply of IpamDriver.GetCapabilities. The engine need not replay requests: the driver has its own state."""

    requires_mac_address: bool = msgspec.field(name="RequiresMACAddress", default=False)
    requires_request_replay: bool = False


class AddressSpaces(Message, frozen=True, kw_only=True):
    """Reply of GetDefaultAddressSpaces."""

    local_default_address_space: str
    global_default_address_space: str


class RequestPool(Message, frozen=True, kw_only=True):
    """`pool` "" means any; `sub_pool` is `--ip-range`; `options` are `--ipam-opt`."""

    address_space: str = ""
    pool: str = ""
    sub_pool: str = ""
    options: dict[str, str] | None = None
    v6: bool = False


class Pool(Message, frozen=True, kw_only=True):
    """Reply of RequestPool. `pool` in CIDR form."""

    pool_id: str = msgspec.field(name="PoolID")
    pool: str
    data: dict[str, str] = {}


class PoolOnly(Message, frozen=True, kw_only=True):
    """ReleasePool."""

    pool_id: str = msgspec.field(name="PoolID")


class RequestAddress(Message, frozen=True, kw_only=True):
    """`address` "" means any. `options` say whether it is for a gateway."""

    pool_id: str = msgspec.field(name="PoolID")
    address: str = ""
    options: dict[str, str] | None = None


class AddressReply(Message, frozen=True, kw_only=True):
    """Reply of RequestAddress. `address` in CIDR form."""

    address: str
    data: dict[str, str] = {}


class ReleaseAddress(Message, frozen=True, kw_only=True):
    """`address` bare or in CIDR form."""

    pool_id: str = msgspec.field(name="PoolID")
    address: str = ""
