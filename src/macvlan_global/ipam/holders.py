"""Who holds an address, and what may be asked about them. Pure."""

from dataclasses import dataclass
from typing import Literal, Protocol

from macvlan_global.store.records import AddressRecord


@dataclass(frozen=True, slots=True)
class Identity:
    """Which run of which host's driver this is, and during which boot; written beside what is taken."""

    host: str
    incarnation: str
    boot: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who claims an address. `label` names an aux address."""

    kind: Literal["gateway", "aux", "endpoint"]
    network: str
    endpoint: str = ""
    label: str = ""

    def holds(self, record: AddressRecord) -> bool:
        """Whether `record` already is this claim."""
        return record.kind == self.kind and record.network == self.network and record.endpoint == self.endpoint

    def shares(self, record: AddressRecord) -> bool:
        """Whether `record` is another claim of its network on the same address: a gateway may be an aux address too."""
        return self.kind != "endpoint" and record.kind in {"gateway", "aux"} and record.network == self.network


class Peers(Protocol):
    """What the address book asks about those who hold addresses."""

    async def is_stale(self, address: AddressRecord) -> bool:
        """Whether the endpoint that claims an address is known to be dead."""
        ...

    async def network_name(self, network: str) -> str:
        """A network as the operator knows it: its name if it is known, else the beginning of its id."""
        ...

    async def endpoint_name(self, network: str, endpoint: str) -> str:
        """An endpoint as the operator knows it: its container if that is known, else the beginning of its id."""
        ...


def is_our_earlier_request(record: AddressRecord, identity: Identity) -> bool:
    """Whether this host asked for this very address before, and nothing came of it yet."""
    return record.kind == "reserved" and record.asked and record.host == identity.host
