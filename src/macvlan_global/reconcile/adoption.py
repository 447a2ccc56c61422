"""Adoption: the request for a network that the engine has and the state lost, from what the engine tells. Pure."""

from dataclasses import replace

from macvlan_global.driver.requests import NetworkRequest, SubnetRequest
from macvlan_global.engine.ports import EngineNetwork, EngineSubnet
from macvlan_global.ipam.pool_id import DEFAULT_SPACE, network_of
from macvlan_global.reconcile.plan import space_of
from macvlan_global.store.records import PoolRecord
from macvlan_global.subnets import parse_subnet


def request_of(network: EngineNetwork, *, ours: bool, host: str, at: float) -> NetworkRequest:
    """The request by which a network is adopted, by this host at this time. Its pools are `ours` if our IPAM driver
    gave them."""
    return NetworkRequest(
        id=network.id,
        options=network.options,
        internal=network.internal,
        subnets=tuple(_adopted(network, each, host, at) if ours else _foreign(each) for each in network.subnets),
        adopted=True,
        cluster=network_of(network.ipam_options) if ours else "",
    )


def _foreign(subnet: EngineSubnet) -> SubnetRequest:
    """A subnet of which another IPAM driver gives the addresses."""
    return SubnetRequest.read("", subnet.subnet, subnet.gateway, subnet.aux)


def _adopted(network: EngineNetwork, subnet: EngineSubnet, host: str, at: float) -> SubnetRequest:
    """A subnet of ours of a network that is adopted, with the pool that this network has as far as the engine knows."""
    request = SubnetRequest.read(DEFAULT_SPACE, subnet.subnet, subnet.gateway, subnet.aux)
    # the engine has what the user typed, which may be another spelling
    part = parse_subnet(subnet.range, "--ip-range") if subnet.range else request.subnet
    pool = PoolRecord(
        space=space_of(network),
        subnet=str(request.subnet),
        range="" if part == request.subnet else str(part),
        network=network_of(network.ipam_options) or network.id,
        host=host,
        at=at,
    )
    return replace(request, adopted=pool)
