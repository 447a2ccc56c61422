"""The action for one name, fact by fact."""

from dataclasses import replace

import pytest
from msgspec import structs

from macvlan_global.engine.ports import EngineEndpoint, EngineNetwork, EngineSubnet
from macvlan_global.replication.decide import (
    LOST_SECONDS,
    STOPPED_SECONDS,
    Action,
    Create,
    DeleteDefinition,
    ForgetLost,
    InConflict,
    Keep,
    LeaveAlone,
    Publish,
    Remove,
    RemoveDuplicate,
    ReplicationFacts,
    SetPublished,
    SetRemoved,
    Settled,
    TakeBackRemoval,
    Wait,
    WriteTombstone,
    decide,
)
from macvlan_global.replication.definition import definition_of
from macvlan_global.store.records import NetworkRecord

NOW = 1000.0
LAN = EngineNetwork("aa", "lan", "", subnets=(EngineSubnet("10.8.0.0/24"),))
OTHER = replace(LAN, id="bb", subnets=(EngineSubnet("10.9.0.0/24"),))
COPY = replace(LAN, id="cc", ipam_options={"network": "aa"})
USED = replace(LAN, endpoints=(EngineEndpoint("e1", "web", ""), EngineEndpoint("e2", "db", "")))
DEFINED = definition_of(LAN, "host-b", 5.0)
NEW = NetworkRecord(id="aa", name="lan", cluster="aa", given={}, at=NOW)
KNOWN = NetworkRecord(id="aa", name="lan", cluster="aa", published=True, given={}, at=0.0)
KEPT = structs.replace(KNOWN, removed=True)
NEW_OTHER = structs.replace(NEW, id="bb", cluster="bb")
NOTHING = ReplicationFacts("lan", "host-a", NOW, publisher="beta")
GONE = frozenset({"aa"})

CASES = {
    "ours, by another name of the driver": (
        replace(NOTHING, found=replace(LAN, driver="lan"), record=KNOWN, definition=DEFINED),
        Settled,
    ),
    "nothing anywhere": (NOTHING, Settled),
    "it is only defined": (replace(NOTHING, definition=DEFINED), Create),
    "defined, and removed": (replace(NOTHING, definition=DEFINED, removed=GONE), DeleteDefinition),
    "made here just now": (replace(NOTHING, found=LAN, record=NEW), Publish),
    "its definition is lost": (replace(NOTHING, found=LAN, record=KNOWN), Publish),
    "the driver does not know it": (replace(NOTHING, found=LAN), Wait),
    "published, and not noted": (replace(NOTHING, found=LAN, record=NEW, definition=DEFINED), SetPublished),
    "all is well": (replace(NOTHING, found=LAN, record=KNOWN, definition=DEFINED), Settled),
    "removed, and idle": (replace(NOTHING, found=LAN, record=KNOWN, removed=GONE), Remove),
    "removed, and the driver does not know it": (replace(NOTHING, found=LAN, removed=GONE), Remove),
    "removed, in use, and the driver does not know it": (replace(NOTHING, found=USED, removed=GONE), Wait),
    "removed, stopped, and the driver does not know it": (
        replace(NOTHING, found=replace(LAN, referring=("web",)), removed=GONE),
        Wait,
    ),
    "removed, and in use": (replace(NOTHING, found=USED, record=KNOWN, removed=GONE), SetRemoved),
    "removed, in use, and noted": (replace(NOTHING, found=USED, record=KEPT, removed=GONE), Keep),
    "removed, noted, and defined again": (replace(NOTHING, found=USED, record=KEPT, definition=DEFINED), SetPublished),
    "removed, and the next one of the name is there": (
        replace(NOTHING, found=USED, record=KEPT, removed=GONE, definition=definition_of(OTHER, "host-b", 6.0)),
        Keep,
    ),
    "it was removed while nobody looked": (replace(NOTHING, missing=KNOWN, definition=DEFINED), WriteTombstone),
    "and its definition is lost": (replace(NOTHING, missing=KNOWN), WriteTombstone),
    "it was seen, and is missing just now": (replace(NOTHING, missing=KNOWN, definition=DEFINED, lost_for=0.0), Wait),
    "it was seen, and the engine has lost it": (
        replace(NOTHING, missing=KNOWN, definition=DEFINED, lost_for=LOST_SECONDS),
        ForgetLost,
    ),
    "it was seen, and removed elsewhere": (
        replace(NOTHING, missing=KNOWN, lost_for=LOST_SECONDS, removed=GONE),
        Settled,
    ),
    "and it is young": (replace(NOTHING, missing=structs.replace(KNOWN, at=NOW - 59), definition=DEFINED), Wait),
    "and its clock was ahead": (replace(NOTHING, missing=structs.replace(KNOWN, at=NOW + 9)), WriteTombstone),
    "and that is known": (replace(NOTHING, missing=KNOWN, removed=GONE), Settled),
    "the cluster has another": (replace(NOTHING, found=OTHER, record=NEW_OTHER, definition=DEFINED), InConflict),
    "a bridge has the name": (replace(NOTHING, found=replace(LAN, driver="bridge"), definition=DEFINED), InConflict),
    "one of this host only has it": (
        replace(NOTHING, found=LAN, record=structs.replace(KNOWN, cluster=""), definition=DEFINED),
        InConflict,
    ),
    "the swarm's has it": (replace(NOTHING, found=replace(LAN, scope="swarm"), definition=DEFINED), InConflict),
    "a bridge nobody asks about": (replace(NOTHING, found=replace(LAN, driver="bridge")), Settled),
    "another IPAM driver gives its addresses": (
        replace(NOTHING, found=replace(LAN, ipam_driver="default"), record=KNOWN),
        Settled,
    ),
    "the engine made two of the name": (
        replace(NOTHING, found=replace(OTHER, twins=(COPY,)), record=NEW_OTHER, definition=DEFINED),
        RemoveDuplicate,
    ),
    "ours is the first of the two": (
        replace(NOTHING, found=replace(COPY, twins=(OTHER,)), record=KNOWN, definition=DEFINED),
        RemoveDuplicate,
    ),
    "and containers are on ours": (
        replace(
            NOTHING,
            found=replace(OTHER, twins=(replace(USED, id="cc", ipam_options=COPY.ipam_options),)),
            record=NEW_OTHER,
        ),
        Publish,
    ),
    "an operator made both": (
        replace(NOTHING, found=replace(OTHER, twins=(LAN,)), record=NEW_OTHER, definition=DEFINED),
        InConflict,
    ),
    "it is not as defined": (
        replace(NOTHING, found=replace(LAN, internal=True), record=KNOWN, definition=DEFINED),
        InConflict,
    ),
    "its id in the cluster is recorded wrongly": (
        replace(NOTHING, found=LAN, record=structs.replace(KNOWN, cluster="zz"), definition=DEFINED),
        SetPublished,
    ),
    "a newer version defined it": (replace(NOTHING, found=LAN, record=KNOWN, unreadable=True), LeaveAlone),
    "a newer version removed it": (replace(NOTHING, found=LAN, record=KNOWN, unreadable_removals=GONE), LeaveAlone),
}


@pytest.mark.parametrize("case", CASES)
def test_each_case(case: str) -> None:
    """Each has one answer, with a reason."""
    facts, kind = CASES[case]
    action: Action = decide(facts)
    assert type(action) is kind
    assert action.reason


def test_a_copy_is_known_by_its_origin() -> None:
    """A network that replication made goes by the id in its IPAM options, not by its own."""
    copy = replace(LAN, id="cc", ipam_options={"network": "aa"})
    record = structs.replace(KNOWN, id="cc")
    assert type(decide(replace(NOTHING, found=copy, record=record, definition=DEFINED))) is Settled
    action = decide(replace(NOTHING, found=copy, record=record))
    assert isinstance(action, Publish)
    assert action.definition == structs.replace(DEFINED, host="host-a", at=NOW)
    removed = decide(replace(NOTHING, found=copy, record=record, removed=GONE))
    assert isinstance(removed, Remove)
    assert removed.network == "cc"


def test_a_network_is_recorded_under_the_name_that_the_engine_has_for_it() -> None:
    """The event that tells its name may be lost: a record without a name is not found once its network is gone."""
    nameless = structs.replace(NEW, name="")
    for facts in (replace(NOTHING, definition=DEFINED), replace(NOTHING, removed=GONE)):
        action = decide(replace(facts, found=LAN, record=nameless))
        assert isinstance(action, SetPublished | Remove)
        assert action.name == "lan"


def test_why_a_network_is_published() -> None:
    """A new one, or one whose definition was lost."""
    assert decide(replace(NOTHING, found=LAN, record=NEW)).reason == "it was created on this host"
    assert decide(replace(NOTHING, found=LAN, record=KNOWN)).reason == "the cluster lost its definition"


def test_a_conflict_says_all() -> None:
    """It names the publisher, the differences and the next step; and containers cannot be started on it."""
    action = decide(replace(NOTHING, found=OTHER, record=NEW_OTHER, definition=DEFINED))
    assert action == InConflict(
        "bb",
        "network lan here is not the cluster's network of that name, which is from host beta: "
        "subnets: 10.8.0.0/24 there and 10.9.0.0/24 here",
        "remove the one on this host (docker network rm lan), then the cluster's is created",
        blocks=True,
    )


def test_containers_that_a_network_has_may_be_started_again() -> None:
    """Those that run and those that are stopped count, each once: a removal or a conflict elsewhere breaks none."""
    conflict = decide(
        replace(
            NOTHING,
            found=replace(OTHER, endpoints=USED.endpoints, referring=("web", "app")),
            record=NEW_OTHER,
            definition=DEFINED,
        )
    )
    kept = decide(replace(NOTHING, found=replace(USED, referring=("web", "db")), record=KEPT, removed=GONE))
    assert (isinstance(conflict, InConflict) and conflict.room, isinstance(kept, Keep) and kept.room) == (3, 2)


def test_a_conflict_of_twins() -> None:
    """Two that look the same still are two; and the host may be this one."""
    twin = structs.replace(definition_of(replace(OTHER, id="cc"), "host-a", 5.0))
    action = decide(replace(NOTHING, found=OTHER, record=NEW_OTHER, definition=twin))
    assert action.reason == (
        "network lan here is not the cluster's network of that name, which is from this host, earlier: it has the "
        "same settings, and addresses of its own"
    )


def test_a_foreign_network_is_named() -> None:
    """The driver of the one here; its containers are none of our business."""
    action = decide(replace(NOTHING, found=replace(LAN, driver="bridge"), definition=DEFINED))
    assert action == InConflict(
        "aa",
        "the cluster's network lan (from host beta) cannot be created here: this host has a network of driver bridge "
        "of that name",
        "remove the one on this host (docker network rm lan), then the cluster's is created",
        blocks=False,
    )
    mine = decide(replace(NOTHING, found=LAN, record=structs.replace(KNOWN, cluster=""), definition=DEFINED))
    assert "this host has a local network of that name" in mine.reason


def test_who_keeps_a_removed_network() -> None:
    """The containers are named."""
    action = decide(replace(NOTHING, found=USED, record=KEPT, removed=GONE))
    assert (
        action.reason == "network lan was removed in the cluster and is kept on this host for its containers: db, web"
    )


STOPPED = replace(LAN, referring=("app",))


def test_a_removal_is_taken_back_for_stopped_containers() -> None:
    """Once they were seen stopped for a while: those of `docker run --rm` are about to be removed."""
    facts = replace(NOTHING, found=STOPPED, record=KNOWN, removed=GONE)
    assert isinstance(decide(replace(facts, stopped_for=STOPPED_SECONDS - 1)), Wait)
    action = decide(replace(facts, stopped_for=STOPPED_SECONDS))
    assert action == TakeBackRemoval(
        "aa", "lan", "aa", ("app",), "it was removed on another host, and stopped containers refer to it here: app"
    )
    again = decide(replace(facts, removed=frozenset(), kept_for=("app",)))
    assert isinstance(again, Publish)
    assert again.definition.kept_for == ["app"]


def test_a_removal_is_not_taken_back_once_the_name_is_anothers() -> None:
    """The copy stays for its stopped containers, which may start on it."""
    other = structs.replace(DEFINED, id="zz")
    facts = replace(NOTHING, found=STOPPED, record=KNOWN, removed=GONE, definition=other, stopped_for=STOPPED_SECONDS)
    assert isinstance(decide(facts), SetRemoved), "the other one may be removed too, when this tombstone is gone"
    action = decide(replace(facts, record=KEPT))
    assert isinstance(action, InConflict)
    assert not action.blocks
    assert "is kept on this host for its stopped containers: app" in action.reason


def test_a_container_that_runs_keeps_a_removed_network_as_before() -> None:
    """It is not stopped, though the engine lists it among those that refer to the network."""
    found = replace(USED, referring=("db", "web"))
    assert isinstance(decide(replace(NOTHING, found=found, record=KEPT, removed=GONE)), Keep)
