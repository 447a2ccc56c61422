"""Docker's plugin protocol: the table of paths, and a handler for each that turns a request into a call of the driver.

The engine speaks it in HTTP over a unix socket: `NetworkDriver.*` for networks and endpoints, `IpamDriver.*` for pools
and addresses. `docker run` is RequestAddress, CreateEndpoint, Join and ProgramExternalConnectivity; `docker stop` is
Leave, DeleteEndpoint and ReleaseAddress. The engine repeats a request whose connection broke, so the driver's methods
may all be repeated. Handlers check ids and the shape of options, and nothing else. None calls the engine's API: the
engine may hold the lock that its answer needs.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any

from macvlan_global.driver.addresses import ADDRESS_SPACE
from macvlan_global.driver.driver import Driver
from macvlan_global.driver.requests import EndpointRequest, NetworkRequest, SubnetRequest, is_no_subnet
from macvlan_global.errors import Invalid
from macvlan_global.libnetwork import messages as m
from macvlan_global.options.endpoint import parse_endpoint_options

GENERIC = "com.docker.network.generic"
INTERNAL = "com.docker.network.internal"
REQUEST_TYPE = "RequestAddressType"
GATEWAY = "com.docker.network.gateway"
MAC_KEY = "com.docker.network.endpoint.macaddress"
NAME_KEY = "com.docker.network.endpoint.name"
"""The name of the container that an address is for: engines from 29.0 on (moby c6717f4387)."""
MAX_ID = 128
NO_IPAM_IN_SWARM = (
    "--ipam-driver macvlan-global cannot be used in a swarm, whose managers assign the addresses; create the network "
    "again without --ipam-driver"
)

Handler = Callable[[Any], Coroutine[Any, Any, m.Message]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path of the protocol: its request message, and the handler of that."""

    request: type[m.Message]
    handle: Handler


class Handlers:
    """Handlers of the network driver and the IPAM driver, which share a socket."""

    def __init__(self, driver: Driver, *, swarm: bool = False) -> None:
        """Call this driver. In a `swarm` the engines share networks and addresses among themselves."""
        self._swarm = swarm
        self._networks = driver.networks
        self._endpoints = driver.endpoints
        self._ipam = driver.ipam

    def routes(self) -> dict[str, Route]:
        """Routes by path. The engine takes the 404 of any other path as a method that is not implemented."""
        return {
            "/Plugin.Activate": Route(m.Empty, self._activate),
            "/NetworkDriver.GetCapabilities": Route(m.Empty, self._network_capabilities),
            "/NetworkDriver.GwAllocCheck": Route(m.GwAllocCheck, self._gateway_check),
            "/NetworkDriver.AllocateNetwork": Route(m.AllocateNetwork, self._allocate_network),
            "/NetworkDriver.FreeNetwork": Route(m.NetworkOnly, self._nothing),
            "/NetworkDriver.CreateNetwork": Route(m.CreateNetwork, self._create_network),
            "/NetworkDriver.DeleteNetwork": Route(m.NetworkOnly, self._delete_network),
            "/NetworkDriver.CreateEndpoint": Route(m.CreateEndpoint, self._create_endpoint),
            "/NetworkDriver.EndpointOperInfo": Route(m.EndpointOnly, self._oper_info),
            "/NetworkDriver.DeleteEndpoint": Route(m.EndpointOnly, self._delete_endpoint),
            "/NetworkDriver.Join": Route(m.Join, self._join),
            "/NetworkDriver.Leave": Route(m.EndpointOnly, self._leave),
            "/NetworkDriver.DiscoverNew": Route(m.Discovery, self._nothing),
            "/NetworkDriver.DiscoverDelete": Route(m.Discovery, self._nothing),
            "/NetworkDriver.ProgramExternalConnectivity": Route(m.EndpointOnly, self._nothing),
            "/NetworkDriver.RevokeExternalConnectivity": Route(m.EndpointOnly, self._nothing),
            "/IpamDriver.GetCapabilities": Route(m.Empty, self._ipam_capabilities),
            "/IpamDriver.GetDefaultAddressSpaces": Route(m.Empty, self._address_spaces),
            "/IpamDriver.RequestPool": Route(m.RequestPool, self._request_pool),
            "/IpamDriver.ReleasePool": Route(m.PoolOnly, self._release_pool),
            "/IpamDriver.RequestAddress": Route(m.RequestAddress, self._request_address),
            "/IpamDriver.ReleaseAddress": Route(m.ReleaseAddress, self._release_address),
        }

    async def _activate(self, _request: m.Empty) -> m.Activation:
        return m.Activation(implements=["NetworkDriver", "IpamDriver"])

    async def _nothing(self, _request: m.Message) -> m.Empty:
        return m.Empty()

    # ---------------------------------------------------------- network driver

    async def _network_capabilities(self, _request: m.Empty) -> m.NetworkCapabilities:
        # local scope with global connectivity: outside a swarm the engine distributes nothing, this driver does
        return m.NetworkCapabilities(scope="global" if self._swarm else "local", connectivity_scope="global")

    async def _gateway_check(self, _request: m.GwAllocCheck) -> m.GwAllocAnswer:
        # like the built-in macvlan driver since engine 29: without --gateway, none is allocated
        return m.GwAllocAnswer(skip_ipv4=True, skip_ipv6=True)

    async def _allocate_network(self, request: m.AllocateNetwork) -> m.AllocatedNetwork:
        # nodes of the swarm get the options of this reply, and no others
        return m.AllocatedNetwork(options=request.options or {})

    async def _create_network(self, request: m.CreateNetwork) -> m.Empty:
        options = request.options or {}
        network = NetworkRequest(
            id=_identifier("NetworkID", request.network_id),
            options=_user_options(options.get(GENERIC)),
            internal=options.get(INTERNAL) in (True, "true"),  # not a set: the value may be a list
            subnets=tuple(
                SubnetRequest.read(data.address_space, data.pool, data.gateway, data.aux_addresses or {})
                for data in (*(request.ipv4_data or ()), *(request.ipv6_data or ()))
                # of --ipam-driver null, which gives no addresses
                if data.pool and not is_no_subnet(data.address_space, data.pool)
            ),
        )
        await self._networks.create(network)
        return m.Empty()

    async def _delete_network(self, request: m.NetworkOnly) -> m.Empty:
        network = _identifier("NetworkID", request.network_id)
        async with self._networks.leftovers.ending(network):
            await self._networks.delete(network)
        return m.Empty()

    async def _create_endpoint(self, request: m.CreateEndpoint) -> m.CreatedEndpoint:
        given = request.interface or m.Interface()
        options = parse_endpoint_options(request.options or {})
        endpoint = EndpointRequest.read(*_ids(request), given.address, given.address_ipv6, given.mac_address, options)
        derived = None
        if self._swarm and isinstance(endpoint.address, IPv4Address) and not endpoint.address6:
            derived = await self._networks.derived_address(endpoint.network, endpoint.address)
            endpoint = replace(endpoint, address6=derived.ip if derived else None)
        mac = await self._endpoints.create(endpoint)
        if given.mac_address and not derived:
            return m.CreatedEndpoint()
        added = m.Added(mac_address="" if given.mac_address else mac, address_ipv6=str(derived or ""))
        return m.CreatedEndpoint(interface=added)

    async def _oper_info(self, request: m.EndpointOnly) -> m.OperInfo:
        endpoint = await self._endpoints.get(*_ids(request))
        facts = {
            "parent": endpoint.parent,
            "link": endpoint.link,
            "com.docker.network.endpoint.macaddress": endpoint.mac,
        }
        return m.OperInfo(value=facts)

    async def _delete_endpoint(self, request: m.EndpointOnly) -> m.Empty:
        await self._endpoints.delete(*_ids(request))
        return m.Empty()

    async def _join(self, request: m.Join) -> m.JoinReply:
        joined = await self._endpoints.join(*_ids(request), request.sandbox_key)
        # without `src_name` the engine moves no link: a direct one is in the container already. The prefix is its name:
        # engine 20.10 reads the rest of the name as a number when it finds the link again after a restart
        name = m.InterfaceName(src_name="" if joined.ifname else joined.link, dst_prefix=joined.ifname or "eth")
        return m.JoinReply(
            interface_name=name,
            gateway=joined.gateway,
            gateway_ipv6=joined.gateway6,
        )

    async def _leave(self, request: m.EndpointOnly) -> m.Empty:
        await self._endpoints.leave(*_ids(request))
        return m.Empty()

    # ------------------------------------------------------------- IPAM driver

    async def _ipam_capabilities(self, _request: m.Empty) -> m.IpamCapabilities:
        return m.IpamCapabilities()

    async def _address_spaces(self, _request: m.Empty) -> m.AddressSpaces:
        return m.AddressSpaces(local_default_address_space=ADDRESS_SPACE, global_default_address_space=ADDRESS_SPACE)

    async def _request_pool(self, request: m.RequestPool) -> m.Pool:
        if self._swarm:
            raise Invalid(NO_IPAM_IN_SWARM)
        pool_id, subnet = await self._ipam.request_pool(
            request.pool, request.sub_pool, request.options or {}, ipv6=request.v6
        )
        return m.Pool(pool_id=pool_id, pool=subnet)

    async def _release_pool(self, request: m.PoolOnly) -> m.Empty:
        await self._ipam.release_pool(request.pool_id)
        return m.Empty()

    async def _request_address(self, request: m.RequestAddress) -> m.AddressReply:
        options = request.options or {}
        gateway, name = options.get(REQUEST_TYPE) == GATEWAY, options.get(NAME_KEY, "").removeprefix("/")
        address = await self._ipam.request_address(request.pool_id, request.address, gateway=gateway, container=name)
        return m.AddressReply(address=address)

    async def _release_address(self, request: m.ReleaseAddress) -> m.Empty:
        await self._ipam.release_address(request.pool_id, request.address)
        return m.Empty()


def _ids(request: m.CreateEndpoint | m.EndpointOnly | m.Join) -> tuple[str, str]:
    return _identifier("NetworkID", request.network_id), _identifier("EndpointID", request.endpoint_id)


def _identifier(name: str, value: str) -> str:
    if not 0 < len(value) <= MAX_ID or not value.isascii() or not value.isalnum():
        raise Invalid(f"{name} {value[:MAX_ID]!r} is not an id of Docker (letters and digits)")
    return value


def _user_options(generic: object) -> dict[str, str]:
    if generic is None:
        return {}
    if not isinstance(generic, dict) or not all(isinstance(value, str) for value in generic.values()):
        raise Invalid(f"{GENERIC} must be a map of strings")
    return generic
