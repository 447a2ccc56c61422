"""History of a run: requests of engines, their answers, and whether an address ever had two holders. Pure.

An address is *reserved* for an endpoint from the answer of RequestAddress to the call of ReleaseAddress, or to the
claim; it is *held* from the answer of CreateEndpoint to the call of DeleteEndpoint. A network holds its gateway and its
aux addresses from the answer of CreateNetwork to the call that removes it. So an interval begins when somebody could
rely on it, and ends when he no longer did: two of them that overlap are a fault of ours, however slow messages are.

A reservation is a promise that repair may take back once it is old; what is held by a container that runs is taken by
nobody. After the cluster's store was put back to an older snapshot, an address whose claim was lost with it may be
given away again, until its host's repair has found that out (`confirm`): such a pair is `excused`, and listed apart.
So is the gateway that is promised to a container on a host that lost its state and joins the network anew just then:
CreateEndpoint refuses it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from macvlan_global.ipam.owners import network_claims
from macvlan_global.store.records import AddressRecord

What = Literal[
    "request",
    "create",
    "run",
    "delete",
    "release",
    "vanish",
    "take back",
    "fix",
    "unfix",
    "confirm",
    "restore",
    "forget",
]
"""Kind of an event. Besides the engine's requests: `run`, a container runs with its address; `vanish`, it is gone
without a word (power loss); `take back`, repair let go of a reservation or an endpoint; `fix` and `unfix`, a network
has a gateway or aux address, and is removed; `confirm`, the store knows the holder; `restore`, the store became that of
an older snapshot at some moment from `begun` to `ended`; `forget`, a host lost its state folder. (A stop of the driver
is no event: containers run on.)"""
Outcome = Literal["ok", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. Times are in seconds on one clock for all hosts.

    `endpoint` is the network's id for `fix`; "" in a `take back` of a reservation, whoever's it is. A `take back` that
    is not "ok" may not have been done. `asked` says that a container wanted this very address; of a `fix`, that it is
    the network's gateway, which a container may be if its user says so.
    """

    what: What
    host: str
    begun: float
    ended: float
    outcome: Outcome = "ok"
    endpoint: str = ""
    address: str = ""
    asked: bool = False


@dataclass(slots=True)
class Hold:
    """From when to when somebody could rely on an address. `origin` is when it was first asked for, `requested` when
    this hold was, which may be in the store since; `promised` says that it was reserved until then."""

    kind: Literal["reserved", "endpoint", "fixed"]
    host: str
    holder: str
    address: str
    origin: float
    requested: float
    begun: float
    ended: float = float("inf")
    asked: bool = False
    promised: bool = True
    runs: bool = False

    def describe(self) -> str:
        """In words, for the text of a violation."""
        until = "the end" if self.ended == float("inf") else f"{self.ended:.3f}"
        return f"{self.kind} by {self.holder[:16]} on host {self.host} from {self.begun:.3f} to {until}"


@dataclass(frozen=True, slots=True)
class Violation:
    """A violation: its kind, its address, and the story."""

    kind: str
    address: str
    text: str
    holders: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line."""
        return f"{self.kind}: {self.address} {self.text}"


@dataclass(slots=True)
class Verdict:
    """`violations` must be none. `excused` are pairs that only the loss of the store's newest writes made possible."""

    violations: list[Violation] = field(default_factory=list)
    excused: list[Violation] = field(default_factory=list)


def judge(events: Iterable[Event]) -> Verdict:
    """Read a whole history, in whatever order."""
    ordered = sorted(events, key=lambda each: each.begun)
    reader = _read(ordered)
    verdict = Verdict(reader.violations)
    lost = _Losses(ordered)
    by_address: dict[str, list[Hold]] = defaultdict(list)
    for hold in reader.holds:
        by_address[hold.address].append(hold)
    for address, them in by_address.items():
        gateways = [each for each in them if each.kind == "fixed" and each.asked]
        for first, second in _overlaps(them):
            if kind := _clash(first, second, gateways):
                text = f"{first.describe()}; {second.describe()}"
                found = Violation(kind, address, text, (first.holder, second.holder))
                # a reservation that was lost on its way is answered all the same, perhaps after the next one's; and
                # who lost one without knowing claims it, although it was promised to somebody else since; a claim, too,
                # may be lost before it is answered
                claimed = second.origin if "reserved" in {first.kind, second.kind} else second.requested
                excused = lost.explain(first, second, first.origin) or lost.explain(second, first, claimed)
                (verdict.excused if excused else verdict.violations).append(found)
    return verdict


def compare_end(
    records: Iterable[AddressRecord],
    living: Mapping[str, tuple[str, Collection[str]]],
    fixed: Mapping[str, Collection[str]],
) -> list[Violation]:
    """Compare the store, when all is quiet and repaired, with the endpoints that live.

    Args:
        records: every address in the store.
        living: of each endpoint that runs, its host's id and its addresses.
        fixed: of each network, its gateways and aux addresses.
    """
    found = []
    kept = {record.address: record for record in records}
    used = set()
    for endpoint, (host, addresses) in living.items():
        for address in addresses:
            used.add(address)
            record = kept.get(address)
            if record is None or (record.kind, record.endpoint, record.host) != ("endpoint", endpoint, host):
                said = f"{record.kind} of {record.endpoint[:16]} on {record.host}" if record else "nobody's"
                text = f"is used by {endpoint[:16]} on host {host}, and is {said} in the store"
                found.append(Violation("endpoint without its address", address, text, (endpoint,)))
    for network, own in fixed.items():
        for address in own:
            used.add(address)
            record = kept.get(address)
            if record is None or network not in {each.network for each in network_claims(record)}:
                text = f"belongs to network {network[:16]}, and the store does not say so"
                found.append(Violation("gateway or aux address lost", address, text, (network,)))
    for record in kept.values():
        if record.address not in used:
            text = (
                f"is {record.kind} of {(record.endpoint or record.network)[:16]} on {record.host}, and nobody uses it"
            )
            found.append(Violation("held by nobody", record.address, text))
    return found


# -------------------------------------------------------------------- inside


class _Losses:
    """Losses of the store: times of restores, and of each holder's confirmation afterwards."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._restored = [(event.begun, event.ended) for event in events if event.what == "restore"]
        self._forgot = {event.host for event in events if event.what == "forget"}
        self._confirmed: dict[tuple[str, str], list[float]] = defaultdict(list)
        for event in events:
            if event.what == "confirm":
                self._confirmed[event.endpoint, event.address].append(event.begun)

    def explain(self, first: Hold, second: Hold, since: float) -> bool:
        """Whether a restore lost what the store may have had of `first` `since` then, before `second` was asked for,
        and no repair had noticed."""
        if first.kind == "fixed" and second.kind == "reserved" and second.host in self._forgot:
            return True
        if not self._restored:
            return False
        confirmed = self._confirmed.get((first.holder, first.address), [])
        return any(
            since <= over and began <= second.begun and not any(over <= at <= second.origin for at in confirmed)
            for began, over in self._restored
        )


class _Reader:
    """Turns events into holds."""

    def __init__(self) -> None:
        self.holds: list[Hold] = []
        self.violations: list[Violation] = []
        self._open: dict[tuple[str, str], Hold] = {}  # by holder and address
        self._reserved: dict[tuple[str, str], list[Hold]] = defaultdict(list)  # by host and address
        self._releases: dict[tuple[str, str], list[Event]] = defaultdict(list)  # by host and address
        self.removed: set[str] = set()
        self._asked: set[tuple[str, str]] = set()  # by holder and address

    def begin(self, event: Event, kind: Literal["reserved", "endpoint", "fixed"]) -> None:
        key = event.endpoint, event.address
        if event.asked and kind == "reserved":
            self._asked.add(key)
        if kind == "fixed" and event.endpoint in self.removed:
            return  # a copy that was being made while the network was removed: it goes again, and holds nothing
        if kind == "reserved" and self._was_released_meanwhile(event):
            return  # before it was answered; the claim finds out
        before = self._open.get(key)
        if before and before.kind == kind:
            return  # a repeated request
        origin = before.origin if before else event.begun
        if before:
            self.end(key, event.ended)
        hold = Hold(kind, event.host, event.endpoint, event.address, origin, event.begun, event.ended)
        hold.promised = before is not None
        hold.asked = event.asked or key in self._asked
        self.holds.append(hold)
        self._open[key] = hold
        if kind == "reserved":
            self._reserved[event.host, event.address].append(hold)

    def take(self, event: Event, at: float) -> None:
        """Whatever is not the beginning of a hold."""
        if event.what == "run":
            self.run(event)
        elif event.what == "take back":
            self.take_back(event)
        elif event.what == "release":
            self.release(event, at)
        elif event.what == "unfix":
            self.remove(event)
        elif event.what in {"delete", "vanish"}:
            self.end((event.endpoint, event.address), event.begun)

    def end(self, key: tuple[str, str], at: float) -> None:
        if hold := self._open.pop(key, None):
            hold.ended = max(at, hold.begun)
            if hold.kind == "reserved":
                self._reserved[hold.host, hold.address].remove(hold)

    def _was_released_meanwhile(self, request: Event) -> bool:
        """Whether a release on the same host may have taken what was reserved: it does not say whose it is."""
        releases = self._releases.get((request.host, request.address), [])
        return any(each.ended >= request.begun for each in releases)

    def remove(self, event: Event) -> None:
        self.removed.add(event.endpoint)
        self.end((event.endpoint, event.address), event.begun)

    def run(self, event: Event) -> None:
        self.begin(event, "endpoint")  # if it was taken back when it was not running yet, and is there all the same
        self._open[event.endpoint, event.address].runs = True

    def release(self, event: Event, at: float) -> None:
        self.end((event.endpoint, event.address), at)
        self._releases[event.host, event.address].append(event)
        # it does not say for whom it was reserved: a release that comes late is as good as any
        for hold in list(self._reserved.get((event.host, event.address), [])):
            self.end((hold.holder, hold.address), at)

    def take_back(self, event: Event) -> None:
        if not event.endpoint:  # a reservation, and the store does not know for whom
            for reserved in list(self._reserved.get((event.host, event.address), [])):
                self.end((reserved.holder, reserved.address), event.begun)
            return
        key = event.endpoint, event.address
        if (hold := self._open.get(key)) and hold.runs:
            if event.outcome != "ok":
                return
            text = f"was taken by repair at {event.begun:.3f} from a container that runs: {hold.describe()}"
            self.violations.append(Violation("running container touched", event.address, text, (event.endpoint,)))
        else:
            self.end(key, event.begun)


def _read(ordered: Sequence[Event]) -> _Reader:
    """An event counts when it could be relied upon: what begins, at its end; what ends, when it begins."""
    reader = _Reader()
    begins: dict[str, Literal["reserved", "endpoint", "fixed"]] = {
        "request": "reserved",
        "create": "endpoint",
        "fix": "fixed",
    }

    moments = []
    for event in ordered:
        late = event.what in begins or event.what == "run"
        moments.append((event.ended if late else event.begun, event))
        if event.what == "release":  # it takes its effect when it does
            moments.append((event.ended, event))
    for at, event in sorted(moments, key=lambda each: each[0]):
        if event.what not in begins:
            reader.take(event, at)
        elif event.outcome == "ok":
            reader.begin(event, begins[event.what])
    return reader


def _overlaps(holds: list[Hold]) -> Iterator[tuple[Hold, Hold]]:
    """Pairs of different holders at one time, the one that began first first."""
    holds.sort(key=lambda each: (each.begun, each.ended))
    open_now: list[Hold] = []
    for hold in holds:
        open_now = [each for each in open_now if each.ended > hold.begun]
        if hold.ended > hold.begun:
            yield from ((each, hold) for each in open_now if each.holder != hold.holder)
            open_now.append(hold)


def _clash(first: Hold, second: Hold, gateways: Sequence[Hold]) -> str:
    """The kind of violation that these two at one time are; "" for none. `gateways` are the networks that have the
    address as their gateway: a container of one of them may be it, whatever others call it."""
    kinds = {first.kind, second.kind}
    if kinds == {"fixed"}:  # networks on one wire have one router
        return ""
    if "fixed" in kinds:
        container, network = (second, first) if first.kind == "fixed" else (first, second)
        # it was when the container asked for it: its network may be removed elsewhere meanwhile
        is_gateway = any(each.begun < container.ended and container.origin < each.ended for each in gateways)
        may_be = (container.asked and is_gateway) or _asked_while_made(container, network)
        return "" if may_be else "gateway or aux address handed out"
    if kinds == {"endpoint"}:
        return "two holders"
    if kinds == {"reserved"}:
        # two containers of one host may ask for one address: a repeated request looks the same, the first claim wins
        return "" if first.host == second.host and first.asked and second.asked else "two reservations"
    if first.kind == "reserved":
        # or repair took back what the other one had reserved: of two containers of a host the first claim wins
        return "" if first.host == second.host and (first.asked or not second.promised) else "reservation lost"
    # the other container asked before this one's claim was answered
    return "" if first.host == second.host and second.origin < first.begun else "reserved while held"


def _asked_while_made(container: Hold, network: Hold) -> bool:
    """Whether a container's address was asked for by name while its host was making a network that has it: a repeated
    request looks the same, the first claim wins, and the container is refused."""
    mere = container.kind == "reserved" and container.asked and container.host == network.host
    return mere and network.origin < container.begun <= network.begun
