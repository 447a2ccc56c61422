"""Books of a segment: which containers, hosts and gateways have which address on a parent. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from macvlan_global.conflicts.claims import AddressClaim
from macvlan_global.conflicts.judge import SETTLE_SECONDS, Holding
from macvlan_global.ipam.avoided import OnHost
from macvlan_global.store.records import EndpointRecord, HostAccessRecord, NetworkRecord
from macvlan_global.subnets import Address, Subnet


@dataclass(frozen=True, slots=True)
class SegmentBooks:
    """Networks on one parent. `subnets` are those with the address space ("" if another IPAM driver gives addresses)
    and the network; `holdings` by address, and containers of this host by MAC."""

    parent: str
    subnets: tuple[tuple[Subnet, str, NetworkRecord], ...] = ()
    holdings: dict[Address, list[Holding]] = field(default_factory=dict)
    by_mac: dict[str, list[Holding]] = field(default_factory=dict)

    def concern(self, claim: AddressClaim) -> bool:
        """Whether a claim concerns an address of the books, or the MAC of a container."""
        return claim.address in self.holdings or claim.mac in self.by_mac

    def subnet_of(self, address: Address) -> tuple[Subnet, str, NetworkRecord] | None:
        """The subnet that holds an address, its space and its network."""
        return next((each for each in self.subnets if address in each[0]), None)


def books_of(
    parent: str,
    networks: Iterable[NetworkRecord],
    endpoints: Iterable[EndpointRecord],
    host: str,
    given: Iterable[HostAccessRecord] = (),
    *,
    now: float = float("inf"),
) -> SegmentBooks:
    """The books of the segment of `parent` from the networks and endpoints of this host, whose name is `host`. `given`
    are the addresses of pools that it has on its shims. A container that was made later than `now` was made before the
    clock was set, at nobody knows when."""
    there = {each.id: each for each in networks if each.parent == parent}
    subnets = tuple((each.prefix, each.space, network) for network in there.values() for each in network.subnets)
    books = SegmentBooks(parent, subnets)
    for network in there.values():
        for each in network.subnets:
            if each.gateway_address and not network.internal:
                gateway = Holding(each.gateway_address, "gateway", f"network {network.shown}", network.shown)
                books.holdings[each.gateway_address] = [gateway]
    for access in given:
        if access.network in there:
            shown, address = there[access.network].shown, ip_address(access.address)
            books.holdings[address] = [Holding(address, "host", host, shown, host, here=True)]
    for endpoint in endpoints:
        if endpoint.network not in there:
            continue
        shown = there[endpoint.network].shown
        for address in endpoint.addresses:
            holding = Holding(
                address,
                "container",
                endpoint.shown,
                shown,
                host,
                endpoint.mac,
                here=True,
                endpoint=endpoint.id,
                since=endpoint.at if endpoint.at <= now + SETTLE_SECONDS else 0.0,
            )
            containers = [each for each in books.holdings.get(address, ()) if each.kind == "container"]
            books.holdings[address] = [*containers, holding]
            books.by_mac.setdefault(endpoint.mac, []).append(holding)
    return books


def with_hosts(
    holdings: Sequence[Holding],
    address: Address,
    found: Iterable[OnHost],
    on: SegmentBooks,
    here: str,
    name_of: Callable[[str], str],
) -> list[Holding]:
    """The holdings of an address with the hosts that have it on this segment, or have it as their default gateway.

    `here` is the id of this host, `name_of` gives names by id. Addresses on other links count if they are in a subnet
    of the segment: Linux answers for them on every link (arp_ignore in ip-sysctl.rst).
    """
    inside = on.subnet_of(address) is not None
    kept = list(holdings)
    for each in found:
        if not inside and (each.host, each.link) != (here, on.parent):
            continue
        name = name_of(each.host)
        if not each.gateway:
            kept.append(Holding(address, "host", name, host=name, here=each.host == here))
        elif not kept:
            kept.append(Holding(address, "gateway", f"host {name}", host=name))
    if any(each.kind == "container" or (each.kind == "host" and each.here) for each in kept):
        return [each for each in kept if each.kind != "gateway"]
    return kept


def since(holdings: Sequence[Holding], times: Mapping[Address, float]) -> list[Holding]:
    """The holdings; those of this host itself with the times (seconds since the epoch) since when it has them."""
    return [
        replace(each, since=times.get(each.address, 0.0)) if each.kind == "host" and each.here else each
        for each in holdings
    ]
