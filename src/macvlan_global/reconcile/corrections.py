"""Corrections of a reconciliation: `plan` makes them, `apply` carries them out. Each has its reason."""

from dataclasses import dataclass

from macvlan_global.engine.ports import EngineEndpoint, EngineNetwork
from macvlan_global.ipam.owners import Holder
from macvlan_global.store.records import AddressRecord, LinkRecord, PoolRecord


@dataclass(frozen=True, slots=True)
class _Reasoned:
    """The object of a correction and the difference found, both in the operator's words."""

    subject: str
    reason: str

    def is_like(self, other: "_Reasoned") -> bool:
        """Whether both are the same correction, planned at different times."""
        return (type(self), self.subject, self.reason) == (type(other), other.subject, other.reason)


@dataclass(frozen=True, slots=True)
class RestoreLink(_Reasoned):
    """Make a parent of ours again."""

    link: LinkRecord


@dataclass(frozen=True, slots=True)
class RemoveLink(_Reasoned):
    """Delete a parent of ours."""

    name: str


@dataclass(frozen=True, slots=True)
class DeleteStray(_Reasoned):
    """Delete a container's link that belongs to no endpoint."""

    name: str


@dataclass(frozen=True, slots=True)
class DeleteNetwork(_Reasoned):
    """Delete a network that the engine does not have."""

    network: str


@dataclass(frozen=True, slots=True)
class DeleteEndpoint(_Reasoned):
    """Delete an endpoint that nothing uses."""

    network: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class GiveBackAddress(_Reasoned):
    """Release an address that nobody holds; with a `network`, only the claims of that one."""

    address: AddressRecord
    network: str = ""


@dataclass(frozen=True, slots=True)
class GiveBackPool(_Reasoned):
    """Release a pool that no network has."""

    pool: PoolRecord


@dataclass(frozen=True, slots=True)
class ForgetNetwork(_Reasoned):
    """Release the pools of a network that was removed from the cluster, and its addresses, in these subnets too."""

    network: str
    subnets: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class RestorePool(_Reasoned):
    """Write the record of a pool that a network of this host has and the store lost. `network` is its id on this
    host."""

    pool: PoolRecord
    network: str


@dataclass(frozen=True, slots=True)
class ClaimAddress(_Reasoned):
    """Claim an address that this host uses and the store has no claim for. `network` is as in `RestorePool`."""

    pool: PoolRecord
    address: str
    holder: Holder
    network: str


@dataclass(frozen=True, slots=True)
class HoldAddress(_Reasoned):
    """Reserve an address in the name of a network of another driver, whose container has it."""

    pool: PoolRecord
    address: str


@dataclass(frozen=True, slots=True)
class AdoptNetwork(_Reasoned):
    """Record a network that the engine has and our state lost."""

    network: EngineNetwork


@dataclass(frozen=True, slots=True)
class AdoptEndpoint(_Reasoned):
    """Record an endpoint that the engine has and our state lost, and claim its addresses."""

    network: str
    endpoint: EngineEndpoint


Correction = (
    RestoreLink
    | RemoveLink
    | DeleteStray
    | DeleteNetwork
    | DeleteEndpoint
    | GiveBackAddress
    | GiveBackPool
    | ForgetNetwork
    | RestorePool
    | ClaimAddress
    | HoldAddress
    | AdoptNetwork
    | AdoptEndpoint
)
