"""Addresses that hosts have themselves: no container gets one, chosen or by `--ip`, and neither the gateway of a host.

This host's own are those that its kernel has now; of other hosts those that they published (`cluster.host_addresses`).
"""

import logging
from collections.abc import Callable
from ipaddress import ip_address

from macvlan_global.errors import Conflict, MacvlanGlobalError
from macvlan_global.ipam.avoided import HOST_MOST, Avoided, OnHost
from macvlan_global.kernel.ports import Kernel, RouteFacts
from macvlan_global.store.records import HostAddress
from macvlan_global.subnets import Address

log = logging.getLogger(__name__)


class HostAddresses:
    """The addresses of all hosts, as `Avoided` has them, with this host's own kept up to date."""

    def __init__(self, kernel: Kernel, avoided: Avoided, host: str, *, host_name: Callable[[str], str] = str) -> None:
        """`host` is the id of this host; `host_name` gives the name of another one by its id."""
        self._kernel = kernel
        self._avoided = avoided
        self._host = host
        self._host_name = host_name
        self._seen: RouteFacts | None = None

    async def refresh(self) -> tuple[HostAddress, ...]:
        """Read this host's own addresses, if they changed; the addresses. They are as before if the kernel fails."""
        try:
            facts = await self._kernel.own_addresses()
        except MacvlanGlobalError as error:
            log.warning("the addresses of this host cannot be read, those seen before are avoided: %s", error)
            return self._avoided.of_host(self._host)
        if facts is not self._seen:
            self._avoided.set_host(self._host, own_addresses(facts))
            self._seen = facts
        return self._avoided.of_host(self._host)

    def gateways(self) -> list[Address]:
        """The next hops of this host's default routes, the preferred one first."""
        return [ip_address(each.address) for each in self._avoided.of_host(self._host) if each.gateway]

    def have(self, address: Address) -> bool:
        """Whether a host has an address, or uses it as its gateway."""
        return bool(self._avoided.on_hosts(address))

    def refuse(self, address: Address, *, is_gateway: bool) -> None:
        """Check that no host has an address that a container asks for. The gateway of a host may be a container if it
        is the gateway of the container's network too (`is_gateway`).

        Raises:
            Conflict: a host has it; the text names the host and the interface.
        """
        for each in self._avoided.on_hosts(address):
            if not each.gateway:
                raise Conflict(
                    f"address {address} is in use: {self._named(each)} has it on {each.link}; use another, or remove "
                    f"it from {each.link}"
                )
            if not is_gateway:
                raise Conflict(
                    f"address {address} is in use: {self._named(each)} has it as its default gateway on {each.link}; "
                    "use another"
                )

    def _named(self, found: OnHost) -> str:
        return "this host" if found.host == self._host else f"host {self._host_name(found.host)}"


def own_addresses(facts: RouteFacts) -> tuple[HostAddress, ...]:
    """The addresses and gateways of a host that matter to others, at most `HOST_MOST`: no loopback addresses, and no
    link-local ones of IPv6, which every link has of its own."""
    found = [
        *(HostAddress(address=str(gateway), link=link, gateway=True) for link, gateway in facts.gateways),
        *(HostAddress(address=str(each.ip), link=link) for link, each in facts.addresses),
    ]
    kept = [each for each in found if _matters(each)]
    return tuple(dict.fromkeys(kept))[:HOST_MOST]


def _matters(found: HostAddress) -> bool:
    address = ip_address(found.address)
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return False
    return address.version == 4 or not address.is_link_local
