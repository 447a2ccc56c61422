"""Two hosts of a cluster with the page on one, all on doubles in this process, and a browser that looks at it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from playwright.async_api import Browser, Page, async_playwright

from lab.packages import ensure_chromium
from macvlan_global.admin.client import AdminClient
from macvlan_global.admin.messages import VerdictView
from macvlan_global.doctor.findings import Finding
from macvlan_global.engine.ports import EngineEndpoint, EngineNetwork
from macvlan_global.store.address_keys import padded
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import AddressRecord, HostRecord, NameRecord, ReportRecord
from macvlan_global.web.messages import HostReport, NetworkReport
from testkit.fake_engine import OUR_IPAM
from testkit.faults import Faults, FaultyStore
from tests.unit.running import SPACE, Running, free_address, running

LAN, GUESTS = "1a" * 32, "2b" * 32
NAMES = {LAN: "lan", GUESTS: "guests"}
SUBNET, SUBNET6, GUEST_SUBNET = "10.65.0.0/16", "fd65::/64", "10.66.0.0/24"
MANY_FROM, MANY_SUBNET = ip_address("10.68.0.1"), "10.68.0.0/14"
BOND = NetworkReport(
    id=LAN,
    name="lan",
    parent="bond0.7",
    state="up",
    vlan=7,
    members_down=["eth3"],
    chosen="bond0.7",
    source="parent=bond0.7, eth1",
    verdicts=[VerdictView(entry="bond0.7", usable=True, reason="VLAN 7 of bond0")],
)
FINDING = Finding("warning", "engine", "live-restore is off", 'set "live-restore": true in daemon.json')
SINCE = 1_790_000_000.0


@dataclass(slots=True)
class PageSite:
    """The cluster: its store, and both hosts, of which anna has the page. bert has network guests, anna has lan.

    A browser gets to the page `through` this HOST:PORT; empty if it asks the driver itself."""

    store: MemoryStore
    anna: Running
    bert: Running
    through: str = ""
    _containers: dict[str, list[EngineEndpoint]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{self.through or self.anna.config.page}/"

    async def make_networks(self) -> None:
        """lan with both families, on a list of parents of which the first is missing; guests on bert."""
        families = {SUBNET: "10.65.0.1", SUBNET6: "fd65::1"}
        await self.anna.create_network(LAN, "lan", families, parent="bond0, eth1")
        await self.bert.create_network(GUESTS, "guests", {GUEST_SUBNET: "10.66.0.1"}, parent="eth2")
        for each in (self.anna, self.bert):  # which has it learn the names, as the events of an engine do
            await asyncio.to_thread(AdminClient(each.config.admin_socket).networks)

    async def run(self, name: str, address: str, network: str = LAN) -> str:
        """`docker run --name --ip` up to the endpoint, which the engine then knows by its container; the endpoint."""
        host, subnet = (self.anna, SUBNET) if network == LAN else (self.bert, GUEST_SUBNET)
        endpoint = f"{sum(map(len, self._containers.values())) + 1:064x}"
        await host.create_endpoint(network, endpoint, subnet, address)
        containers = self._containers.setdefault(network, [])
        containers.append(EngineEndpoint(endpoint, name, ""))
        host.engine.learn(EngineNetwork(network, NAMES[network], OUR_IPAM, endpoints=tuple(containers)))
        return endpoint

    async def stop(self, endpoint: str, address: str, network: str = LAN) -> None:
        """`docker rm -f`."""
        host, subnet = (self.anna, SUBNET) if network == LAN else (self.bert, GUEST_SUBNET)
        await host.call("NetworkDriver.DeleteEndpoint", NetworkID=network, EndpointID=endpoint)
        await host.call("IpamDriver.ReleaseAddress", PoolID=f"{SPACE}/{subnet}", Address=address)

    async def hold(self, host: str, name: str, address: str, subnet: str = SUBNET) -> None:
        """A container of another host of the cluster on lan, as that host's driver writes it; nameless if `name` is
        ""."""
        endpoint = f"{host}-{address}"
        record = AddressRecord(
            space=SPACE,
            subnet=subnet,
            address=address,
            kind="endpoint",
            network=LAN,
            endpoint=endpoint,
            host=host,
            incarnation="run",
            at=SINCE,
        )
        published = NameRecord(
            network=LAN,
            network_name="lan",
            endpoint=endpoint,
            container=endpoint,
            names=[name],
            address=address,
            mac="02:42:0a:41:00:09",
            host=host,
            at=SINCE,
        )
        if name:
            await self.store.create(f"names/{LAN}/{host}/{endpoint}", msgspec.json.encode(published))
        await self.store.create(f"addresses/{SPACE}/{padded(address)}", msgspec.json.encode(record))

    async def hold_many(self, hosts: int, addresses: int) -> None:
        """Hosts with reports, and containers of theirs, of which one in a hundred has a name."""
        for number in range(hosts):
            await self.report(f"host{number}", BOND)
        for number in range(addresses):
            name = f"box{number}" if number % 100 == 0 else ""
            await self.hold(f"host{number % hosts}", name, str(MANY_FROM + number), MANY_SUBNET)

    async def report(self, host: str, *networks: NetworkReport, **fields: Any) -> None:
        """A host of the cluster that is down, with its last report."""
        row = HostRecord(id=host, name=host, version="0.1.0", engine="28.5.2", seen=SINCE)
        await self.store.create(f"hosts/{host}", msgspec.json.encode(row))
        report = HostReport(id=host, name=host, version="0.1.0", networks=list(networks), at=SINCE, **fields)
        record = ReportRecord(id=host, report=msgspec.to_builtins(report), at=SINCE)
        await self.store.create(f"reports/{host}", msgspec.json.encode(record))


@asynccontextmanager
async def page_site(folder: Path, faults: Faults | None = None) -> AsyncIterator[PageSite]:
    """Both hosts, without networks. No commands are run on them. `faults` are those of the store as anna sees it."""
    store, capsys = MemoryStore(), cast("pytest.CaptureFixture[str]", None)
    seen = FaultyStore(store.client(), faults)
    async with (
        running(folder, capsys, name="anna", shared=seen, page=free_address(), findings=[FINDING]) as anna,
        running(folder, capsys, name="bert", shared=store.client()) as bert,
    ):
        yield PageSite(store, anna, bert)


async def first_rows(page: Page, site: PageSite, addresses: int) -> float:
    """Seconds from opening the table of containers until it has so many, those in view drawn."""
    begun = time.monotonic()
    await page.goto(f"{site.url}#containers")
    text = f"{addresses} of {addresses}"
    await page.wait_for_function("text => document.querySelector('main').innerText.includes(text)", arg=text)
    return time.monotonic() - begun


async def filter_seconds(page: Page, words: str) -> float:
    """Seconds from a key in the filter of the table until the rows that match are drawn."""
    seconds: float = await page.evaluate(
        """async words => {
            const input = document.getElementById("filter"), begun = performance.now();
            input.value = words;
            input.dispatchEvent(new Event("input"));
            await new Promise(requestAnimationFrame);
            return (performance.now() - begun) / 1000;
        }""",
        words,
    )
    return seconds


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium, without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(ensure_chromium()))
        try:
            yield browser
        finally:
            await browser.close()
