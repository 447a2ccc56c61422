"""The page in Chromium with 1,000 hosts and 100,000 addresses: first rows, and filtering as one types."""

import asyncio
import tempfile
from pathlib import Path

from bench.rounds import Row
from tests.page.site import chromium, filter_seconds, first_rows, page_site

TITLES = (
    "page with 100,000 addresses, opened until its rows are there",
    "page with 100,000 addresses, a key in the filter",
)
HOSTS, ADDRESSES, OWN = 1000, 100_000, 3
FILTER_SECONDS = 0.1


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    opened, filtered = asyncio.run(_measure(1 if quick else 7, 1000 if quick else ADDRESSES))
    return [Row(TITLES[0], "s", opened), Row(TITLES[1], "ms", filtered, goal=FILTER_SECONDS)]


async def _measure(rounds: int, addresses: int) -> tuple[list[float], list[float]]:
    """Seconds of each round; each has a browser's page of its own."""
    opened, filtered = [], []
    with tempfile.TemporaryDirectory() as folder:
        async with page_site(Path(folder)) as site, chromium() as browser:
            await site.make_networks()
            await site.hold_many(HOSTS, addresses - OWN)
            for number in range(rounds):
                page = await browser.new_page()
                page.set_default_timeout(300_000)
                opened.append(await first_rows(page, site, addresses))
                filtered.append(await filter_seconds(page, f"host{77 + number} 10.68.2"))
                await page.close()
    return opened, filtered
