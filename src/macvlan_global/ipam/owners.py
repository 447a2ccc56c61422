"""Owners of addresses: the run of a driver that wrote a record, and the networks or endpoint that claim it. Pure.

An address space is a wire. Its networks may name one router as their gateway, or one device as an aux address; so a
record may hold claims of several networks, and ends with the last of them. A container may be the gateway of networks,
if its user says so: then its record holds their claims beside its own.
"""

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal

import msgspec

from macvlan_global.store.records import AddressRecord, NetworkClaim, NetworkRecord
from macvlan_global.subnets import overlap


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
    """The claimant of an address. `label` names an aux address, `mac` is that of an endpoint. For a host that claims
    one for itself `endpoint` is its id."""

    kind: Literal["gateway", "aux", "endpoint", "host"]
    network: str
    endpoint: str = ""
    label: str = ""
    mac: str = ""

    def holds(self, record: AddressRecord) -> bool:
        """Whether `record` holds this claim already. A network has one claim: a gateway may be an aux address too."""
        if self.kind in {"endpoint", "host"}:
            mine = self.kind, self.network, self.endpoint
            return (record.kind, record.network, record.endpoint) == mine
        return any(each.network == self.network for each in network_claims(record))

    def shares(self, record: AddressRecord) -> bool:
        """Whether this claim of a network may be added to those of other networks in `record`."""
        return self.kind in {"gateway", "aux"} and bool(network_claims(record))

    def follows(self, record: AddressRecord) -> bool:
        """Whether a row that was written a moment ago becomes this holder's without another look."""
        plain = record.kind == "reserved" and not record.network
        return plain and not (record.sharers and self.kind != "endpoint")


def network_claims(record: AddressRecord) -> tuple[NetworkClaim, ...]:
    """The claims of networks on an address, the first one's first."""
    if record.kind in {"reserved", "endpoint", "host"}:
        return tuple(record.sharers)
    kind: Literal["gateway", "aux"] = "gateway" if record.kind == "gateway" else "aux"
    first = NetworkClaim(kind=kind, network=record.network, label=record.label, host=record.host)
    return (first, *record.sharers)


def is_gateway_of(record: AddressRecord, network: str) -> bool:
    """Whether an address is the gateway of a network and of no container: then a container of this network may have
    it if its user says so."""
    if record.kind in {"reserved", "endpoint", "host"}:
        return False
    return any((each.kind, each.network) == ("gateway", network) for each in network_claims(record))


def with_claim(record: AddressRecord, holder: Holder, host: str) -> AddressRecord:
    """The record with the claim of one more network, as gateway or aux address, which the host `host` wrote."""
    kind: Literal["gateway", "aux"] = "gateway" if holder.kind == "gateway" else "aux"
    claim = NetworkClaim(kind=kind, network=holder.network, label=holder.label, host=host)
    return msgspec.structs.replace(record, sharers=[*record.sharers, claim])


def without_container(record: AddressRecord) -> AddressRecord | None:
    """The record once its container lets go of it: that of the networks that claim the address, None if none does."""
    if not record.sharers:
        return None
    first, *others = record.sharers
    return msgspec.structs.replace(
        record,
        kind=first.kind,
        network=first.network,
        endpoint="",
        label=first.label,
        host=first.host,
        static=False,
        asked=True,
        sharers=others,
    )


def without_network(record: AddressRecord, network: str) -> AddressRecord | None:
    """The record without the claims of a network and of its containers, None if nothing is left of it."""
    kept = msgspec.structs.replace(record, sharers=[each for each in record.sharers if each.network != network])
    return without_container(kept) if record.network == network else kept


def is_of(record: AddressRecord, network: str) -> bool:
    """Whether a network or an endpoint of it has a claim on an address."""
    return record.network == network or any(each.network == network for each in record.sharers)


def is_claim_of(record: AddressRecord, network: str) -> bool:
    """Whether an address is the gateway or an aux address of a network, and of no container or host."""
    return record.kind in {"gateway", "aux"} and is_of(record, network)


def is_on_wire_of(record: AddressRecord, network: NetworkRecord) -> bool:
    """Whether a claimed address is of a network, or of another one that is surely on its wire: their subnets overlap in
    one address space."""
    subnets = [each.prefix for each in network.subnets if each.space and each.space == record.space]
    return record.network == network.shared_id or any(overlap(each, ip_network(record.subnet)) for each in subnets)


def beside(record: AddressRecord, before: AddressRecord) -> AddressRecord:
    """A new record of an address with what stays of the one before: claims of networks, and whether the user of the
    container chose the address."""
    same = record.kind in {"reserved", "endpoint"} and (before.kind == "reserved" or not record.endpoint)
    static = record.static or (same and before.static)
    return msgspec.structs.replace(record, static=static, sharers=list(network_claims(before)))
