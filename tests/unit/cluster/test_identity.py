"""The identity of a host."""

from pathlib import Path

from macvlan_global.cluster.identity import MOST_RUNS, begin_run, load_identity, machine_fingerprint, note_clock
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import IdentityRecord
from macvlan_global.store.table import Tables


def _tables() -> Tables:
    store = MemoryStore()
    return Tables(store, store)


async def test_an_id_is_drawn_once_and_kept() -> None:
    """Random, 32 hex digits, the same after a restart."""
    tables = _tables()
    first = await load_identity(tables.identity, "m1")
    assert len(first.id) == 32
    assert int(first.id, 16) >= 0
    assert await load_identity(tables.identity, "m1") == first
    assert (await load_identity(_tables().identity, "m1")).id != first.id


async def test_a_copied_state_folder_gets_an_id_of_its_own() -> None:
    """On another machine; what the engine was is not carried over; the copy keeps its new id."""
    tables = _tables()
    await tables.identity.put(IdentityRecord(id="a" * 32, machine="m1", engine="E1"), "this")
    copy = await load_identity(tables.identity, "m2", draw=lambda: "b" * 32)
    assert copy == IdentityRecord(id="b" * 32, machine="m2")
    assert await load_identity(tables.identity, "m2") == copy


async def test_a_machine_that_cannot_be_told_keeps_its_identity() -> None:
    """Without a machine id now, or without one when it was written, which is then filled in."""
    tables = _tables()
    first = await load_identity(tables.identity, "")
    assert await load_identity(tables.identity, "") == first
    known = await load_identity(tables.identity, "m1")
    assert (known.id, known.machine) == (first.id, "m1")
    assert await load_identity(tables.identity, "") == known


async def test_the_runs_of_a_state_folder_are_recorded() -> None:
    """The last ones; a folder of an earlier version knows none, and its identity stays what it was."""
    tables = _tables()
    own = await load_identity(tables.identity, "m1")
    assert await begin_run(tables.identity, "r0") == ()
    for number in range(1, 20):
        earlier = await begin_run(tables.identity, f"r{number}")
        assert (earlier[-1], len(earlier)) == (f"r{number - 1}", min(number, MOST_RUNS))
    again = await load_identity(tables.identity, "m1")
    assert (again.id, again.machine, again.runs[-1]) == (own.id, own.machine, "r19")


async def test_a_clock_that_was_set_between_two_runs_is_noticed() -> None:
    """In one boot. In another boot the monotonic clock begins anew, and an earlier release noted nothing."""
    tables = _tables()
    await load_identity(tables.identity, "m1")
    assert await note_clock(tables.identity, "boot1", 1000.0) == 0
    assert await note_clock(tables.identity, "boot1", 1000.0) == 0
    assert await note_clock(tables.identity, "boot1", 4600.0) == 3600
    assert await note_clock(tables.identity, "boot2", 9000.0) == 0
    assert await note_clock(tables.identity, "boot2", 8999.0) == -1


def test_the_fingerprint_is_not_the_machine_id(tmp_path: Path) -> None:
    """It tells machines apart, and does not give their ids away; nothing is known of a machine without one."""
    one, other, empty = (tmp_path / name for name in ("one", "other", "empty"))
    one.write_text("0123456789abcdef0123456789abcdef\n")
    other.write_text("1123456789abcdef0123456789abcdef\n")
    empty.write_text("\n")
    found = machine_fingerprint(one)
    assert found == machine_fingerprint(one)
    assert "0123456789" not in found
    assert found != machine_fingerprint(other)
    assert machine_fingerprint(empty) == machine_fingerprint(tmp_path / "none") == ""
