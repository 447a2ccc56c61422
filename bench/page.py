"""The page in Chromium: with 1,000 hosts and 100,000 addresses, first rows and filtering as one types; and how late a
change is on it, of its own host and of another one.

The second is measured in the browser, on the real page of a real driver: from the answer to the engine's request that
makes a container's endpoint, until the row of its address is drawn. The engine is played, so that nothing comes after
the change.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from bench.rounds import Row
from lab.cluster_site import ClusterSite, StoreKind
from lab.hosts import Host
from lab.packages import ensure_chromium
from tests.cli.plugin import SPACE, Plugin
from tests.page.site import chromium, filter_seconds, first_rows, page_site

STORES: tuple[StoreKind, ...] = ("consul", "etcd")
OWN_TITLE = "change of its own host on the page"
ACROSS_TITLES = {store: f"change of another host on the page, {store}" for store in STORES}
TITLES = (
    "page with 100,000 addresses, opened until its rows are there",
    "page with 100,000 addresses, a key in the filter",
    OWN_TITLE,
    *ACROSS_TITLES.values(),
)
HOSTS, ADDRESSES, OWN = 1000, 100_000, 3
FILTER_SECONDS, OWN_SECONDS, ACROSS_SECONDS = 0.1, 0.2, 0.5
ADDRESS = "127.0.0.1:8153"
_WAIT_FOR = """text => {
    const main = document.querySelector("main"), there = () => main.innerText.includes(text);
    window.shown = new Promise(done => {
        const look = () => there() && requestAnimationFrame(() => done(Date.now() / 1000));
        new MutationObserver(look).observe(main, { childList: true, subtree: true, characterData: true });
    });
}"""


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    opened, filtered = asyncio.run(_measure(1 if quick else 7, 1000 if quick else ADDRESSES))
    own: list[float] = []
    rows = [Row(TITLES[0], "s", opened), Row(TITLES[1], "ms", filtered, goal=FILTER_SECONDS)]
    across = []
    for store, title in ACROSS_TITLES.items():
        of_own, of_another = _late(store, 1 if quick else 40)
        own += of_own
        across.append(Row(title, "ms", of_another, goal=ACROSS_SECONDS))
    return [*rows, Row(OWN_TITLE, "ms", own, goal=OWN_SECONDS), *across]


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


@dataclass(frozen=True, slots=True)
class _Side:
    """A host with a network, whose containers are to be seen."""

    plugin: Plugin
    network: str
    subnet: str

    def seconds_to_show(self, page: Page, number: int) -> float:
        """From the answer that a container's endpoint is there, to its row on the page; it is gone afterwards."""
        address, endpoint = f"{self.subnet.rpartition('.')[0]}.{number}", f"{number:064x}"
        page.evaluate(_WAIT_FOR, address)
        self.plugin.create_endpoint(self.network, endpoint, self.subnet, address)
        answered = time.time()
        shown = float(page.evaluate("window.shown"))
        self.plugin.call("NetworkDriver.DeleteEndpoint", NetworkID=self.network, EndpointID=endpoint)
        self.plugin.call("IpamDriver.ReleaseAddress", PoolID=f"{SPACE}/{self.subnet}", Address=address)
        page.wait_for_function("text => !document.querySelector('main').innerText.includes(text)", arg=address)
        return max(0.0, shown - answered)


def _late(store: StoreKind, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds until changes are on a host's page: its own, and those of another host."""
    own, across = [], []
    with ClusterSite(store=store) as cluster:
        sides = []
        for number, flags in enumerate(((f"--page={ADDRESS}",), ())):
            host = cluster.machine()
            cluster.driver(host, *flags).start()
            side = _Side(Plugin(host), f"{number + 1:x}a" * 32, f"10.65.{number}.0/24")
            side.plugin.create_network(side.network, {side.subnet: f"10.65.{number}.1"}, parent="eth1")
            sides.append((host, side))
        with _opened(sides[0][0]) as page:
            for number in range(rounds + 1):
                samples = [side.seconds_to_show(page, 100 + number) for _, side in sides]
                if number:  # the first one warms up
                    own.append(samples[0])
                    across.append(samples[1])
    return own, across


@contextlib.contextmanager
def _opened(host: Host) -> Iterator[Page]:
    """The table of containers of a host's page, live, in a browser on that host."""
    executable = str(ensure_chromium())
    with host.in_network():
        running = sync_playwright().start()
        browser = running.chromium.launch(executable_path=executable)
    try:
        page = browser.new_page()
        page.goto(f"http://{ADDRESS}/#containers?q=10.65")
        page.wait_for_function("() => document.getElementById('connection').textContent === 'live'")
        yield page
    finally:
        browser.close()
        running.stop()
