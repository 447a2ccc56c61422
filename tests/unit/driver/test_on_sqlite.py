"""The whole driver on the real state file: what a restart finds."""

import asyncio
from pathlib import Path

from macvlan_global.store.sqlite import open_sqlite
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
