"""The whole driver on the real state file: what a restart finds."""

import asyncio
import sqlite3
from pathlib import Path

from macvlan_global.store.sqlite import SqliteStore, open_sqlite
from testkit.brief import BRIEF
from testkit.fake_engine import Subnet
from testkit.rig import Rig

MANY = 30 if BRIEF else 100


async def test_many_containers_and_a_restart_in_between(tmp_path: Path) -> None:
    """Started at once, found again by the next run of the driver, stopped by it; nothing is left."""
    disk = open_sqlite(tmp_path / "state.db")
    rig = await Rig.build("eth0", disk=disk)
    before = await rig.snapshot()
    await rig.engine.create_network("n1", Subnet("10.0.0.0/24", gateway="10.0.0.1"), options={"parent": "eth0.10"})
    started = await asyncio.gather(*(rig.engine.run(f"c{number}", "n1") for number in range(MANY)))
    assert len({each.address for each in started}) == MANY
    running = await rig.snapshot()
    await disk.close()

    disk = open_sqlite(tmp_path / "state.db")
    again = await Rig.build(kernel=rig.kernel, disk=disk, clock=rig.clock, engine=rig.engine)
    assert await again.mend() == []
    assert await again.snapshot() == running
    await asyncio.gather(*(again.engine.stop(f"c{number}") for number in range(MANY)))
    await again.engine.remove_network("n1")
    assert await again.snapshot() == before | {"containers": {}}
    await disk.close()


async def test_a_container_s_claim_is_not_written_before_its_record(tmp_path: Path) -> None:
    """In the same transaction, as a rule: so after a power cut no address has a holder that nobody knows."""
    path, order = tmp_path / "state.db", list[str]()
    await open_sqlite(path).close()
    connection, reader = (sqlite3.connect(path, isolation_level=None, check_same_thread=False) for _ in range(2))
    disk = SqliteStore(connection, reader)
    rig = await Rig.build("eth0", disk=disk)
    await rig.engine.create_network("n1", Subnet("10.0.0.0/24"), options={"parent": "eth0"})
    connection.set_trace_callback(order.append)
    await rig.engine.run("c1", "n1")
    await disk.close()
    written = [
        next(kind for kind in ("endpoints/", "addresses/") if kind in each)
        for each in order
        if each.startswith(("INSERT", "UPDATE entries"))
    ]
    requests = {
        "RequestAddress": ["addresses/"],
        "CreateEndpoint": ["endpoints/", "addresses/"],
        "Join": ["endpoints/"],
    }
    assert written == [each for kinds in requests.values() for each in kinds]
    assert order.count("COMMIT") <= len(written)
