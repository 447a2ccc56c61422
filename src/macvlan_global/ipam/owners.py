"""Owners of addresses: the run of a driver that wrote a record, and the network or endpoint that claims it. Pure."""

from dataclasses import dataclass
from typing import Literal

from macvlan_global.store.records import AddressRecord


@dataclass(frozen=True, slots=True)
class Identity:
    """One run of one host's driver, written into each record.

    `host` is the host's id, which no rename changes; `name` is what operators call it, "" if that is its id. `boot` is
    the kernel's boot id: no endpoint outlives its boot.
    """

    host: str
    incarnation: str
    boot: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """The claimant of an address. `label` names an aux address."""

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
