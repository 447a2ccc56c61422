"""The engine is looked at for networks of other drivers when a request waits for that, and nothing else goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from macvlan_global.driver.driver import Driver
from macvlan_global.engine.ports import Engine
from macvlan_global.reconcile.apply import Reconciler


@asynccontextmanager
async def looking(driver: Driver, engine: Engine) -> AsyncIterator[None]:
    """Within the block, look at once."""
    reconciler = Reconciler(driver, grace=60)

    async def look() -> None:
        while True:
            await driver.pools.requested.wait()
            driver.pools.requested.clear()
            await reconciler.claim_foreign(engine)

    task = asyncio.ensure_future(look())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
