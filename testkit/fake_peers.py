"""Who else holds addresses, as a test says."""

from dataclasses import dataclass, field

from macvlan_global.store.records import AddressRecord


@dataclass
class FakePeers:
    """Holders that are what the test says: addresses in `stale` belong to the dead."""

    stale: set[str] = field(default_factory=set)

    async def is_stale(self, address: AddressRecord) -> bool:
        """See `Peers.is_stale`."""
        return address.address in self.stale

    async def network_name(self, network: str) -> str:
        """See `Peers.network_name`."""
        return f"net-{network}"

    async def endpoint_name(self, address: AddressRecord) -> str:
        """See `Peers.endpoint_name`."""
        return f"container {address.endpoint}"

    def host_name(self, host: str) -> str:
        """See `Peers.host_name`."""
        return host
