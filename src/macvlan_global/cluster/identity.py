"""The identity of this host: a random id of its own, for good, kept in its state folder."""

import hashlib
import logging
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from macvlan_global.store.records import IdentityRecord
from macvlan_global.store.table import Table

log = logging.getLogger(__name__)

MACHINE_ID = Path("/etc/machine-id")
ROW = "this"
MOST_RUNS = 8


def machine_fingerprint(path: Path = MACHINE_ID) -> str:
    """A hash that tells this machine from others, "" if nothing does.

    Not the machine's id itself: machine-id(5) wants that kept on the machine.
    """
    try:
        text = path.read_text().strip()
    except OSError:
        return ""
    return hashlib.sha256(b"macvlan-global " + text.encode()).hexdigest()[:32] if text else ""


async def begin_run(table: Table[IdentityRecord], run: str) -> tuple[str, ...]:
    """Record a run of the driver with this state folder; the runs before it, () if an earlier version recorded none.

    A key in the cluster of one of them is this host's own, of a run that is over: only one run uses the folder at a
    time. That of any other run is another machine's, which has a copy of the folder.
    """
    row = await table.get(ROW)
    if row is None:
        return ()
    await table.change(ROW, runs=[*row.record.runs, run][-MOST_RUNS:])
    return tuple(row.record.runs)


async def note_clock(table: Table[IdentityRecord], boot: str, clock: float) -> float:
    """Record the wall clock's lead over the monotonic one, in seconds, in this run of a boot; the seconds by which the
    wall clock was set since the run before, 0 if that was in another boot.
    """
    row = await table.get(ROW)
    await table.change(ROW, boot=boot, clock=clock)
    return clock - row.record.clock if row and row.record.boot == boot else 0.0


async def load_identity(
    table: Table[IdentityRecord], machine: str, *, draw: Callable[[], str] = lambda: secrets.token_hex(16)
) -> IdentityRecord:
    """The identity in this state folder, made if there is none. It survives restarts, reboots and new names.

    `machine` is this machine's fingerprint. If the identity was made on another machine, the folder is a copy (a cloned
    disk, a golden image): two hosts must not have one id, so this one gets an id of its own.
    """
    row = await table.get(ROW)
    if row is None:
        made = IdentityRecord(id=draw(), machine=machine)
        log.info("this host gets the id %s", made.id[:12])
        return (await table.put(made, ROW)).record
    found = row.record
    if not machine or found.machine == machine:
        return found
    if not found.machine:
        return (await table.put(msgspec.structs.replace(found, machine=machine), ROW)).record
    made = IdentityRecord(id=draw(), machine=machine)
    log.warning(
        "the state folder was made on another machine, as host %s: it is a copy, and this host gets the id %s",
        found.id[:12],
        made.id[:12],
    )
    return (await table.put(made, ROW)).record
