"""Addresses of pools for this host itself, so that its containers reach it (`-o host_access=true`)."""

from macvlan_global.driver.addresses import IpamDriver
from macvlan_global.driver.claims import AddressClaims
from macvlan_global.errors import Conflict
from macvlan_global.ipam.owners import Holder
from macvlan_global.ipam.pool_id import pool_id
from macvlan_global.store.records import PoolRecord, SubnetRecord
from macvlan_global.subnets import Address


class HostClaims:
    """Addresses for this host: chosen as those of containers are, and claimed as kind `host`."""

    def __init__(self, ipam: IpamDriver, claims: AddressClaims, host: str) -> None:
        """`host` is the id of this host."""
        self._ipam = ipam
        self._claims = claims
        self._host = host

    async def reserve(self, subnet: SubnetRecord, address: Address | None) -> str:
        """Reserve this address of a subnet, or the next one; bare. With `-o probe=true` the segment is probed for it.

        Raises:
            Invalid: no interface of the subnet can have it.
            Conflict: somebody else has it.
            Exhausted: there is none.
        """
        if address and str(address) == subnet.gateway:  # which a container may be
            raise Conflict(f"address {address} is the gateway of the network; choose another")
        cidr = await self._ipam.request_address(pool_id(_pool(subnet)), str(address) if address else "", for_host=True)
        return cidr.partition("/")[0]

    async def cancel(self, subnet: SubnetRecord, address: str) -> None:
        """Cancel the reservation of a bare address."""
        await self._ipam.release_address(pool_id(_pool(subnet)), address)

    async def claim(self, network: str, subnet: SubnetRecord, address: Address) -> None:
        """Claim an address for this host on a network (its id in the cluster). Idempotent.

        Raises:
            Conflict: somebody else has it.
        """
        await self._claims.claim(_pool(subnet), address, Holder("host", network, self._host))

    async def release(self, network: str, space: str, address: Address) -> None:
        """Give an address back, if this host has it."""
        holder = Holder("host", network, self._host)
        await self._claims.unclaim(space, address, holder, release_follows=False, ran=False)


def _pool(subnet: SubnetRecord) -> PoolRecord:
    return PoolRecord(space=subnet.space, subnet=subnet.subnet, range=subnet.range, at=0)
