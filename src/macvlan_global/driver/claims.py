"""Claims of networks and endpoints on pools and addresses.

CreateNetwork and CreateEndpoint turn a reservation into a claim; their ends turn it back, or free it. A claim may
replace one whose holder is known to be dead. If the cluster's store is away, the end of a claim is kept in the outbox.
"""

from collections.abc import Iterable, Sequence

from macvlan_global.driver.holders import Holders
from macvlan_global.driver.outbox import Outbox
from macvlan_global.errors import Unavailable
from macvlan_global.ipam.addresses import Addresses
from macvlan_global.ipam.conflicts import AddressTaken
from macvlan_global.ipam.owners import Holder
from macvlan_global.ipam.pools import Pools
from macvlan_global.ipam.subnet_use import SpaceSubnet
from macvlan_global.store.records import AddressRecord, EndpointRecord, NetworkRecord, PoolRecord
from macvlan_global.store.table import Row
from macvlan_global.subnets import Address, Subnet


class AddressClaims:
    """Claims of networks and endpoints on pools and addresses, and their end."""

    def __init__(self, pools: Pools, addresses: Addresses, holders: Holders, outbox: Outbox | None = None) -> None:
        """An `outbox` keeps releases while a store that is shared with other hosts is away."""
        self._pools = pools
        self._addresses = addresses
        self._holders = holders
        self._outbox = outbox

    @property
    def in_own_store(self) -> bool:
        """Whether addresses are in the store of this host, which carries out writes in the order of asking."""
        return self._outbox is None

    async def claim_pool(self, subnet: Subnet, network: str) -> PoolRecord:
        """Claim the pool with this subnet that was just reserved, for a network. Idempotent.

        Raises:
            Conflict: another network has it, nobody reserved it, or the choice is not clear.
        """
        async with self._holders.named():
            return await self._pools.claim(subnet, network)

    def joined(self, subnets: Sequence[str]) -> str:
        """The network of the cluster whose pools with these subnets this host is joining just now; "" if none."""
        return self._pools.joined(subnets)

    def end_joining(self, network: str) -> None:
        """The network is made here: from now on its gateway and aux addresses are as taken as any."""
        self._pools.end_joining(network)

    async def drop_network(self, network: str, *, if_empty: bool, subnets: Iterable[SpaceSubnet]) -> bool:
        """Let go of all that a network which this host's engine has no more claims. See `Pools.drop_network`."""
        return await self._pools.drop_network(network, if_empty=if_empty, ends_here=True, subnets=subnets)

    async def restore_pool(self, record: PoolRecord) -> None:
        """Write a pool of a network anew that the store lost. Idempotent.

        Raises:
            Conflict: another network has it, or one that it overlaps with.
        """
        async with self._holders.named():
            await self._pools.restore(record)

    async def claim(self, pool: PoolRecord, address: Address, holder: Holder, *, in_use: bool = False) -> None:
        """Make `holder` the holder of an address. Idempotent for the same holder.

        With `in_use` its interface is up already: another host's mere reservation is then no obstacle.

        Raises:
            Conflict: somebody else claims it.
        """
        dead: Row[AddressRecord] | None = None
        while True:
            try:
                return await self._addresses.claim(pool, address, holder, in_use=in_use, dead=dead)
            except AddressTaken as taken:
                dead = await self._holders.refuse_unless_dead(taken)

    async def hold(self, pool: PoolRecord, address: Address) -> None:
        """Have an address reserved in the name of a network of another driver, a container of which has it. Idempotent.

        Raises:
            Conflict: it has another holder.
        """
        try:
            await self._addresses.hold(pool, address)
        except AddressTaken as taken:
            await self._holders.refuse_unless_dead(taken)
            raise

    async def refuse_mac(self, network: NetworkRecord, mac: str, endpoint: str) -> None:
        """Check that no other endpoint on the wire of a network of the cluster has a MAC that a user chose. Call it
        once the endpoint has its claims: of two that want one MAC at once, at least one then sees the other.

        Raises:
            Conflict: one has; the text names the container and its host.
        """
        for row in await self._addresses.held.with_mac(network, mac, endpoint):
            await self._holders.refuse_mac_unless_dead(row.record)

    async def is_static(self, space: str, address: Address) -> bool:
        """Whether the user of a container chose an address that is reserved or in use."""
        return await self._addresses.held.is_static(space, address)

    async def let_go(self, network: NetworkRecord, endpoint: EndpointRecord, *, release_follows: bool = True) -> None:
        """Let go of the addresses of an endpoint, those of our IPAM driver. Idempotent. See `unclaim`."""
        holder = Holder("endpoint", network.shared_id, endpoint.id)
        for address in endpoint.addresses:
            subnet = network.subnet_of(address)
            if subnet and subnet.space:
                ran = bool(endpoint.sandbox)
                await self.unclaim(subnet.space, address, holder, release_follows=release_follows, ran=ran)

    async def unclaim(
        self, space: str, address: Address, holder: Holder, *, release_follows: bool = True, ran: bool = True
    ) -> None:
        """Let go of an address if this holder has it; otherwise do nothing. Idempotent. See `Addresses.unclaim`."""
        try:
            await self._addresses.unclaim(space, address, holder, release_follows=release_follows, ran=ran)
        except Unavailable:
            if self._outbox is None:
                raise
            await self._outbox.release_later(space, address, network=holder.network, endpoint=holder.endpoint)
