"""The page in a real Chromium: its views on a cluster of two hosts, live changes, keyboard, schemes, and many rows."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from playwright.async_api import Page, Route

from lab.proxy import TcpProxy
from lab.speed import patience
from macvlan_global.admin.client import AdminClient
from macvlan_global.admin.messages import ConflictView
from macvlan_global.engine.ports import EngineNetwork
from testkit.fake_engine import OUR_IPAM
from testkit.faults import Faults
from tests.page.axe import violations
from tests.page.site import BOND, GUESTS, LAN, SINCE, PageSite, chromium, filter_seconds, first_rows, page_site

ROOT = Path(__file__).parents[2]
WRITES = bool(os.environ.get("MACVLAN_GLOBAL_TESTS_SCREENSHOTS"))
SHOTS = ROOT / ("docs/page" if WRITES else "build/page")
"""Folder of the screenshots; with this variable those of the documents are made anew."""
SHOWN = {"plan-cells-light", "hosts-light", "containers-dark", "problems-light"}
"""Screenshots that docs/page.md and README.md show."""
CONFLICT = "address 10.65.0.30 of container mail on host carl is in conflict on eth1: 02:aa:00:00:00:01 announces it"
REMEDY = "give that device another address, or exclude this one"
VIEWS = ("plan", "plan?space=macvlan-global&at=10.65.0.0%2F24", "hosts?host=carl&network=lan", "containers", "problems")
MANY_HOSTS, MANY = 1000, 100_000
SOON = 3.0
"""Seconds until a change shows: less than any look at intervals would take, so that an event brought it. Alone on the
machine it is 0.2 s on the host itself and 0.5 s across hosts."""
FIRST_SECONDS, FILTER_SECONDS = 60.0, 5.0
"""Limits for a browser that hangs; `python -m bench page` measures."""


async def _opened(page: Page, site: PageSite, view: str = "plan") -> list[str]:
    """Open the page and wait until it is live; what the browser's console says from now on."""
    told: list[str] = []
    page.on("console", lambda each: told.append(each.text) if each.type == "error" else None)
    page.on("pageerror", lambda each: told.append(str(each)))
    page.set_default_timeout(patience(10) * 1000)
    await page.goto(f"{site.url}#{view}")
    await _live(page)
    return told


async def _live(page: Page) -> None:
    await page.wait_for_function("() => document.getElementById('connection').textContent === 'live'")


async def _text(page: Page, text: str) -> None:
    await page.wait_for_function("text => document.querySelector('main').innerText.includes(text)", arg=text)


NONE = "1:2:3:4:5:6:7:8:9::a"
"""It looks like an address, and has too many groups."""


async def _fill(site: PageSite) -> None:
    await site.make_networks()
    for number, name in enumerate(("web", "api", "cache")):
        await site.run(name, f"10.65.0.{9 + number}")
    await site.run("visitor", "10.66.0.7", GUESTS)
    for number in range(40):
        await site.hold("carl", f"db{number}", f"10.65.{number % 3}.{20 + 2 * number}")
    await site.hold("carl", "mail", "10.65.0.30")
    await site.report("carl", BOND, problems=[f"{CONFLICT}; {REMEDY}"], addresses=["10.65.0.250", NONE, "x"])


async def test_views_by_keyboard(tmp_path: Path) -> None:
    """Each view shows both hosts, and the keyboard alone is enough; nothing is said on the console."""
    async with page_site(tmp_path) as site, chromium() as browser:
        await _fill(site)
        page = await browser.new_page()
        told = await _opened(page, site)
        await _text(page, "Held")
        await _by_plan(page)
        await _by_containers(page)
        await _by_hosts(page)
        await page.goto(f"{site.url}#problems")
        for text in (CONFLICT, REMEDY, "the host is down", "macvlan-global hosts remove carl"):
            await _text(page, text)
        assert told == []


async def _by_plan(page: Page) -> None:
    """From the subnet down to one address and out again. What a report has as an address, and is none, is nowhere."""
    assert await page.evaluate(f"import('/ip.js').then((ip) => ip.prefix('{NONE}'))") is None
    await page.locator("button.cell").first.focus()
    await page.keyboard.press("Enter")
    await _text(page, "10.65.0.0/24")
    for key in ("ArrowDown", "ArrowUp", *["ArrowRight"] * 9):
        await page.keyboard.press(key)
    await _text(page, "web")
    focused = await page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused == "10.65.0.9: web, anna"
    labels = await page.locator("button.cell").evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    assert labels[1].startswith("10.65.0.1: gateway")
    assert labels[30] == "10.65.0.30: conflict, mail, carl"
    assert labels[250] == "10.65.0.250: host"
    assert labels[251] == "10.65.0.251: free"
    await page.keyboard.press("Escape")
    await page.wait_for_function("() => document.querySelector('.cells').ariaLabel === 'Map of 10.65.0.0/16'")
    await page.keyboard.press("/")
    await page.keyboard.type("fd65::1")
    await page.keyboard.press("Enter")
    await page.wait_for_function(
        "() => document.activeElement.getAttribute('aria-label')?.startsWith('fd65::1: gateway')"
    )


async def _by_containers(page: Page) -> None:
    """The filter takes words in any order, is part of the address, and a link leads to the cell."""
    await page.get_by_role("link", name="Containers").press("Enter")
    await page.get_by_role("heading", name="Containers").wait_for()
    await page.keyboard.press("/")
    await page.keyboard.type("carl mail")
    await _text(page, "1 of ")
    assert page.url.endswith("#containers?q=carl+mail")
    await page.reload()
    await _text(page, "1 of ")
    await page.get_by_role("link", name="10.65.0.30").press("Enter")
    await page.wait_for_function("() => document.querySelector('.cells')?.ariaLabel === 'Map of 10.65.0.0/24'")
    await _text(page, "02:42:0a:41:00:09")


async def _by_hosts(page: Page) -> None:
    """A parent opens its reasons."""
    await page.get_by_role("link", name=re.compile("Hosts")).press("Enter")
    await page.get_by_role("button", name="lan on carl: parent bond0.7, up, with a problem").press("Enter")
    for text in ("VLAN 7 of bond0", "eth3", "parent=bond0.7, eth1"):
        await _text(page, text)
    await page.get_by_role("button", name="lan on anna: parent eth1, up").press("Enter")
    await _text(page, "passed over")
    assert page.url.endswith("#hosts?host=anna&network=lan")


async def test_changes_are_live(tmp_path: Path) -> None:
    """A container of either host comes and goes in time, a parent goes down, and a lost connection comes back."""
    async with page_site(tmp_path) as site, chromium() as browser, _wire(site) as wire:
        await _fill(site)
        page = await browser.new_page()
        await _opened(page, site, "containers")
        for network in (LAN, GUESTS):
            subnet = "10.65.9" if network == LAN else "10.66.0"
            await page.goto(f"{site.url}#containers?q={subnet}.2")
            taken = [await _time_to_show(page, site, f"{subnet}.{200 + number}", network) for number in range(3)]
            assert min(taken) < patience(SOON), f"{network}: {taken}"
        await page.goto(f"{site.url}#hosts")
        await site.anna.kernel.set_down("eth1")
        site.anna.kernel.shims.changed.set()  # the kernel tells of it
        await page.get_by_role("button", name=re.compile("lan on anna: parent eth1, down")).wait_for()
        wire.cut()
        await _connection(page, "lost")
        await site.run("later", "10.65.7.7")
        wire.mend()
        await _live(page)
        await page.goto(f"{site.url}#problems")
        await _text(page, "10.65.7.7 (lan) is held")


async def test_a_host_that_is_removed_leaves_the_page(tmp_path: Path) -> None:
    """With what it had reported, and without a reload."""
    async with page_site(tmp_path) as site, chromium() as browser:
        await site.make_networks()
        await site.report("carl", BOND, problems=[f"{CONFLICT}; {REMEDY}"])
        page = await browser.new_page()
        await _opened(page, site, "problems")
        for text in (CONFLICT, "macvlan-global hosts remove carl"):
            await _text(page, text)
        await asyncio.to_thread(AdminClient(site.anna.config.admin_socket).remove_host, "carl", force=False)
        await page.wait_for_function("() => !document.querySelector('main tbody').innerText.includes('carl')")
        await page.goto(f"{site.url}#hosts")
        await _text(page, "bert")
        assert "carl" not in await page.inner_text("main")


async def test_an_answer_that_is_older_than_an_event(tmp_path: Path) -> None:
    """What changes while all addresses and reports are read is not undone by their answers, which were made before."""
    async with page_site(tmp_path) as site, chromium() as browser:
        await site.make_networks()
        goes = await site.run("goes", "10.65.9.1")
        page = await browser.new_page()
        made, may_come = asyncio.Semaphore(0), asyncio.Event()

        async def hold_back(route: Route) -> None:
            answer = await route.fetch()
            made.release()
            await may_come.wait()
            await route.fulfill(response=answer)

        for path in ("addresses", "reports"):
            await page.route(f"**/api/{path}", hold_back)
        await _opened(page, site, "containers?q=10.65.9")
        await made.acquire()
        await made.acquire()
        await site.stop(goes, "10.65.9.1")
        await site.run("comes", "10.65.9.2")
        await site.report("dora", BOND)
        await _data(page, "data.state.addresses.has('macvlan-global 10.65.9.2') && data.state.reports.has('dora')")
        may_come.set()
        await _data(page, "data.state.loaded")
        await _text(page, "10.65.9.2")
        assert "10.65.9.1" not in await page.inner_text("main")
        await page.goto(f"{site.url}#hosts")
        await _text(page, "dora")


async def test_a_page_that_is_opened_while_the_store_is_away(tmp_path: Path) -> None:
    """It shows what the host knows by itself, says that addresses are not known, and has all when the store is back,
    which is no news."""
    faults = Faults()
    async with page_site(tmp_path, faults) as site, chromium() as browser:
        await site.make_networks()
        await site.run("web", "10.65.0.9")
        await site.report("carl", BOND, problems=[f"{CONFLICT}; {REMEDY}"])
        faults.away = True
        page = await browser.new_page()
        page.set_default_timeout(patience(10) * 1000)
        await page.goto(f"{site.url}#plan?space=macvlan-global&at=10.65.0.0%2F24")
        await _connection(page, "the store does not answer")
        await _text(page, "it is not known who has which address")
        assert await page.locator("button.cell").nth(9).get_attribute("aria-label") == "10.65.0.9: not known"
        await page.goto(f"{site.url}#containers")
        await _text(page, "it is not known who has which address")
        await page.goto(f"{site.url}#hosts")
        await page.get_by_role("button", name="lan on anna: parent eth1, up").wait_for()
        await _rename_lan(page, site)
        faults.away = False
        await _live(page)
        await page.goto(f"{site.url}#plan?space=macvlan-global&at=10.65.0.0%2F24")
        await page.wait_for_function(
            "() => document.querySelectorAll('button.cell')[9]?.ariaLabel === '10.65.0.9: web, anna'"
        )
        await page.goto(f"{site.url}#problems")
        await _text(page, CONFLICT)
        came = await page.inner_text(".events")
        assert ("10.65.0.9" in came, CONFLICT in came) == (False, False)


async def test_what_other_hosts_reported_stays_while_the_store_is_away(tmp_path: Path) -> None:
    """What this host answers then has its own report alone."""
    faults = Faults()
    async with page_site(tmp_path, faults) as site, chromium() as browser:
        await site.make_networks()
        await site.report("carl", BOND)
        page = await browser.new_page()
        await _opened(page, site, "hosts")
        on_carl = page.get_by_role("button", name="lan on carl: parent bond0.7")
        await on_carl.wait_for()
        faults.away = True
        async with page.expect_response("**/api/reports"):
            await site.report("dora", BOND)  # of which the watch does not tell: it breaks
            await _connection(page, "the store does not answer")
        await page.evaluate("import('/data.js').then((data) => data.read('reports'))")  # until it was read
        assert await on_carl.count() == 1
        faults.away = False
        await page.get_by_role("button", name="lan on dora: parent bond0.7").wait_for()


async def _rename_lan(page: Page, site: PageSite) -> None:
    """A change of this host shows while the store is away, and the page stays connected."""
    await page.evaluate(
        """() => import('/data.js').then((data) => {
            window.connections = [];
            data.onChange(() => window.connections.push(data.state.connection));
        })"""
    )
    site.anna.engine.learn(EngineNetwork(LAN, "office", OUR_IPAM))
    await asyncio.to_thread(AdminClient(site.anna.config.admin_socket).networks)
    await _text(page, "office")
    assert set(await page.evaluate("window.connections")) == {"store"}


async def test_a_conflict_that_is_over_is_none_on_the_plan(tmp_path: Path) -> None:
    """The host keeps it among its latest; the cell and its panel show those that go on."""
    async with page_site(tmp_path) as site, chromium() as browser:
        await site.make_networks()
        await site.run("web", "10.65.0.9")
        await site.run("api", "10.65.0.10")
        conflicts = [_conflict("10.65.0.9", current=True), _conflict("10.65.0.10", current=False)]
        page = await browser.new_page()
        await page.route("**/api/conflicts", lambda route: route.fulfill(body=msgspec.json.encode(conflicts)))
        await _opened(page, site, "plan?space=macvlan-global&at=10.65.0.0%2F24")
        await _data(page, "data.state.loaded && data.state.conflicts.length === 2")
        for at, label, shown in ((9, "10.65.0.9: conflict, web, anna", True), (10, "10.65.0.10: api, anna", False)):
            cell = page.locator("button.cell").nth(at)
            await page.wait_for_function(
                "([at, label]) => document.querySelectorAll('button.cell')[at].ariaLabel === label", arg=[at, label]
            )
            await cell.focus()
            assert ("announces it on eth1" in await page.inner_text("aside")) is shown


def _conflict(address: str, *, current: bool) -> ConflictView:
    return ConflictView(
        address=address,
        kind="container",
        holder="container web",
        container="web",
        network="lan",
        host="anna",
        holder_mac="",
        mac="02:aa:00:00:00:01",
        vendor="",
        other="",
        how="announces",
        claimed="",
        parent="eth1",
        vlan=0,
        first=SINCE,
        last=SINCE,
        count=1,
        current=current,
    )


async def _data(page: Page, condition: str) -> None:
    """Wait until this is so in the page's `data`."""
    await page.wait_for_function(f"import('/data.js').then((data) => {condition})")


@asynccontextmanager
async def _wire(site: PageSite) -> AsyncIterator[TcpProxy]:
    """A wire between browser and page that can be cut."""
    with TcpProxy(site.anna.config.page) as wire:
        site.through = wire.endpoint
        yield wire


async def _time_to_show(page: Page, site: PageSite, address: str, network: str) -> float:
    """Seconds from the engine's answer to the row on the page; the row goes again with its container."""
    endpoint = await site.run("fresh", address, network)
    begun = time.monotonic()
    await _text(page, address)
    taken = time.monotonic() - begun
    await site.stop(endpoint, address, network)
    await page.wait_for_function("text => !document.querySelector('main').innerText.includes(text)", arg=address)
    return taken


async def _connection(page: Page, word: str) -> None:
    await page.wait_for_function("word => document.getElementById('connection').innerText.includes(word)", arg=word)


@pytest.mark.parametrize(("scheme", "width", "height"), [("light", 1200, 820), ("dark", 390, 780)])
async def test_anybody_can_read_it(tmp_path: Path, scheme: str, width: int, height: int) -> None:
    """axe-core finds nothing, on a desk in light and on a phone in dark; nothing is wider than the phone."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    async with page_site(tmp_path) as site, chromium() as browser:
        await _fill(site)
        context = await browser.new_context(
            color_scheme="light" if scheme == "light" else "dark", viewport={"width": width, "height": height}
        )
        page = await context.new_page()
        await _opened(page, site)
        for view in VIEWS:
            await page.goto(f"{site.url}#{view}")
            await _text(page, "carl" if view != VIEWS[1] else "10.65.0.0/24")
            assert await violations(page) == [], view
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
            name = re.sub(r"\W.*", "", view) + ("-cells" if view == VIEWS[1] else "")
            if not WRITES or f"{name}-{scheme}" in SHOWN:
                await page.screenshot(path=SHOTS / f"{name}-{scheme}.png")
        behind = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert behind == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(16, 22, 29)")


async def test_a_thousand_hosts_and_a_hundred_thousand_addresses(tmp_path: Path) -> None:
    """They are shown and filtered in time, and only what is in view is in the document."""
    async with page_site(tmp_path) as site, chromium() as browser:
        await site.make_networks()
        await site.hold_many(MANY_HOSTS, MANY - 3)
        page = await browser.new_page()
        page.set_default_timeout(patience(30) * 1000)
        first = await first_rows(page, site, MANY)
        assert await page.locator("tbody tr").count() < 100
        filtering = await filter_seconds(page, "host77 10.68.2")
        await page.goto(f"{site.url}#plan")
        await _text(page, "Held")
        assert await page.locator("main *").count() < 800
        await page.goto(f"{site.url}#hosts")
        await _text(page, "bond0.7")
        assert await page.locator("tbody tr").count() < 100
        print(f"first rows after {first:.2f} s, filtered in {filtering * 1000:.0f} ms")
        assert first < patience(FIRST_SECONDS)
        assert filtering < patience(FILTER_SECONDS)
