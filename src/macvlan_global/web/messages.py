"""Messages of the page that no command has: reports of hosts, and the events of the live feed."""

from typing import Literal

import msgspec

from macvlan_global.admin.messages import AddressView, VerdictView
from macvlan_global.doctor.findings import Finding

ParentState = Literal["up", "no carrier", "down", "missing"]


class NetworkReport(msgspec.Struct, frozen=True, kw_only=True):
    """A network on the host that reports. `id` is the one that all hosts know it by.

    `state` is that of its parent: up, no carrier, down or missing; `made` says that the driver made the parent, `vlan`
    is its VLAN id (0: none), and `members_down` names members of a bond, or ports of a bridge, without a carrier.
    `chosen` is the parent that would be chosen now, for the reasons in `verdicts`; `source` the option or file that
    asks for it.
    """

    id: str
    name: str
    parent: str
    state: ParentState
    made: bool = False
    vlan: int = 0
    members_down: list[str] = []
    chosen: str = ""
    source: str = ""
    verdicts: list[VerdictView] = []
    problem: str = ""


class HostReport(msgspec.Struct, frozen=True, kw_only=True):
    """A report of a host about itself. `problems` are those of its status, `findings` those of its doctor that are not
    ok, `addresses` those that the host has itself. `at` is seconds since the epoch."""

    id: str
    name: str
    version: str
    networks: list[NetworkReport] = []
    problems: list[str] = []
    findings: list[Finding] = []
    addresses: list[str] = []
    at: float = 0


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """First event of a stream, and the first after the store was away: all must be read anew. `live` says whether
    changes of other hosts are being received, `cluster` whether there are any, and `watching` whether this host watches
    for conflicts."""

    host: str
    version: str
    live: bool
    cluster: bool
    watching: bool


class AddressKey(msgspec.Struct, frozen=True, kw_only=True):
    """Identity of an address: the same address may be in several address spaces."""

    space: str
    address: str


class AddressNews(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses that were taken or changed, and those that are free again."""

    put: list[AddressView] = []
    gone: list[AddressKey] = []


class Topics(msgspec.Struct, frozen=True, kw_only=True):
    """Paths below /api/ that answer otherwise from now on."""

    changed: list[str]
