"""Judgement of a claim on an address against the books: is it ours, a device outside, or a conflict. Pure.

What holders are known to have decides differently:

* a container of this host has one MAC, so any other one is a rival, if nothing but a change of MAC inside the container
  explains it (`ConflictVerdict.certain` is false: the caller looks);
* this host has the MACs of its links;
* of containers and addresses of other hosts, and of gateways, nobody here knows whether their MAC changed, or whether
  they moved. So two MACs are a conflict only if both claim the address at one time (`Claimants`): a router that fails
  over, or a container that was made anew elsewhere, is seen with one MAC and then with the other. A router may fail
  back, too (the preemption of VRRP, RFC 9568): of routers and hosts it takes one turn more;
* a container of another host may be silent for hours, and its answers to others do not pass here. A device that claims
  its address meanwhile is a `suspect`: the caller probes the segment for the address, and both answer.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from macvlan_global.conflicts.claims import AddressClaim
from macvlan_global.subnets import Address

SETTLE_SECONDS = 1.0
"""Frames that are older than their address's new holder, and so much more, are those of the holder before."""
TURNS = 3
"""Changes from one MAC to the other that a failover and its end do not explain: those are two."""

Kind = Literal["container", "host", "gateway"]
Judged = Literal["ours", "outside", "conflict", "suspect"]


@dataclass(frozen=True, slots=True)
class Holding:
    """An address and its holder. `name` is that of the container, the host or the network, `mac` "" if it is not known;
    `here` says that the holder is on this host. `endpoint` is the id of a container's (on another host `HOST/ID`), and
    `since` when it was made, in seconds since the epoch."""

    address: Address
    kind: Kind
    name: str
    network: str = ""
    host: str = ""
    mac: str = ""
    here: bool = False
    endpoint: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """Frames that made one claim: `first` and `last` of them in seconds since the epoch, their count. `outgoing` says
    that this host sent them, `reflected` that it sent the same as well: a switch or an access point may send frames
    back. Frames `to_one` receiver may be of a container of this host to another one: the kernel shows them to the
    parent as received (macvlan_queue_xmit in drivers/net/macvlan.c)."""

    claim: AddressClaim
    first: float
    last: float
    count: int = 1
    outgoing: bool = False
    reflected: bool = False
    to_one: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """The time from the first to the last frame by which a MAC claimed an address, and how often it did after another
    one had (`turns`)."""

    first: float
    last: float
    turns: int = 0

    def overlaps(self, other: "Span") -> bool:
        """Whether both lasted at one time, for longer than a frame may be late."""
        return self.last > other.first + SETTLE_SECONDS and other.last > self.first + SETTLE_SECONDS


@dataclass(frozen=True, slots=True)
class ConflictVerdict:
    """A judgement. In a conflict the device `mac` claims the address of `holding`, which `holder_mac` has; `same_mac`
    says that it is the MAC which both have. Unless it is `certain`, a changed MAC of the container would explain it. A
    suspect becomes a conflict once the holder claims the address beside the device."""

    judged: Judged
    holding: Holding | None = None
    mac: str = ""
    holder_mac: str = ""
    certain: bool = True
    same_mac: bool = False


OURS, OUTSIDE = ConflictVerdict("ours"), ConflictVerdict("outside")


def judge(
    seen: Sighting,
    holdings: Sequence[Holding],
    own_macs: Collection[str],
    spans: Mapping[str, Span],
    same_mac: Sequence[Holding] = (),
) -> ConflictVerdict:
    """Judge a sighting. `holdings` are of its address on its segment, `own_macs` those of this host's links, `spans`
    when each MAC claimed the address lately, this sighting included. `same_mac` are containers of this host on the
    segment that have the MAC of the claim."""
    claim = seen.claim
    if claim.how == "probes for" and (claim.own_probe or claim.mac in own_macs):
        return OURS
    if twin := _twin(seen, same_mac):
        return ConflictVerdict("conflict", twin, claim.mac, twin.mac, same_mac=True)
    containers = [each for each in holdings if each.kind == "container"]
    if any(each.mac == claim.mac for each in containers):
        others = [each for each in containers if each.mac not in {"", claim.mac} and _is_settled(each, seen)]
        return ConflictVerdict("conflict", others[0], claim.mac, others[0].mac) if others else OURS
    found = [_against(each, seen, own_macs, spans) for each in holdings]
    for judged in ("conflict", "suspect"):
        if first := next((each for each in found if each.judged == judged), None):
            return first
    if holdings:
        return OURS
    return OURS if claim.mac in own_macs else OUTSIDE


def _against(holding: Holding, seen: Sighting, own_macs: Collection[str], spans: Mapping[str, Span]) -> ConflictVerdict:
    claim = seen.claim
    if not _is_settled(holding, seen):
        return OURS
    if holding.kind == "container" and holding.here:
        return ConflictVerdict("conflict", holding, claim.mac, holding.mac, certain=False)
    if holding.kind == "host" and holding.here:
        if claim.mac in own_macs:
            return OURS
        return ConflictVerdict("conflict", holding, claim.mac, holding.mac)
    return (_elsewhere if holding.kind == "container" else _of_two)(holding, seen, spans)


def _elsewhere(holding: Holding, seen: Sighting, spans: Mapping[str, Span]) -> ConflictVerdict:
    """Judge a claim on the address of a container of another host."""
    known, span = spans.get(holding.mac), spans.get(seen.claim.mac)
    if span is None or not holding.mac:  # a mere probe; or nobody knows whose frames these are
        return OURS
    rivals = known is not None and known.overlaps(span)
    return ConflictVerdict("conflict" if rivals else "suspect", holding, seen.claim.mac, holding.mac)


def _of_two(holding: Holding, seen: Sighting, spans: Mapping[str, Span]) -> ConflictVerdict:
    """Judge a claim on an address whose holder's MAC is known by its frames alone: the first of two has it."""
    mac = seen.claim.mac
    others = {each: span for each, span in spans.items() if each != mac}
    if seen.claim.how == "probes for":
        if mac in spans or not others:  # the holder itself, which starts; or nobody
            return OURS
        return ConflictVerdict("conflict", holding, mac, min(others, key=lambda each: others[each].first))
    span = spans.get(mac)
    if span is None:
        return OURS
    for other, theirs in others.items():
        if theirs.overlaps(span) and theirs.turns + span.turns >= TURNS:
            earlier, later = (other, mac) if theirs.first <= span.first else (mac, other)
            return ConflictVerdict("conflict", holding, later, earlier)
    return OURS


def _twin(seen: Sighting, same_mac: Sequence[Holding]) -> Holding | None:
    """The container of this host whose MAC a device outside has too: it claims an address that the container lacks."""
    if seen.outgoing or seen.reflected or seen.to_one or any(each.address == seen.claim.address for each in same_mac):
        return None
    return next((each for each in same_mac if _is_settled(each, seen)), None)


def _is_settled(holding: Holding, seen: Sighting) -> bool:
    return seen.last >= holding.since + SETTLE_SECONDS
