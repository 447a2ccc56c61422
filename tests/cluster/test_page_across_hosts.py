"""The page of one host shows the other: real engines, a real store, the stream of events, and a real browser."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

from lab.cluster_site import ClusterSite, settle
from lab.hosts import Host
from lab.packages import ensure_chromium
from lab.page_events import PageEvents
from lab.speed import patience
from tests.cluster.conftest import PAGE


@contextmanager
def _browser(host: Host) -> Iterator[Page]:
    """A page of Chromium in the network of a host."""
    executable = str(ensure_chromium())
    with host.in_network():
        running = sync_playwright().start()
        browser = running.chromium.launch(executable_path=executable)
    try:
        page = browser.new_page()
        page.set_default_timeout(patience(20) * 1000)
        yield page
    finally:
        browser.close()
        running.stop()


def test_a_container_of_the_other_host_is_on_the_page(cluster: ClusterSite) -> None:
    """It is told to those who look at the page of the other host, where each view has it: by name, in its cell, and
    with the parent that its host chose. It is no more once it ended. How late, `python -m bench page` measures."""
    one, two = cluster.sites
    one.create("lan", "--subnet=10.75.0.0/24", "--gateway=10.75.0.1", "-o", "parent=eth7, eth1")
    cluster.wait_for("lan")
    with PageEvents(two.host, PAGE) as events:
        for number in (9, 10):
            one.start("lan", f"web{number}", f"--ip=10.75.0.{number}")
            address = f"10.75.0.{number}"
            settle(two, lambda address=address: events.host_of(address) == one.host.name, address)  # type: ignore[misc]
        one.docker("rm", "-f", "web10")
        settle(two, lambda: not events.host_of("10.75.0.10"), "end of web10")
    name = one.host.name
    with _browser(two.host) as page:
        page.goto(f"http://{PAGE}/#containers?q=web9+{name}")
        page.get_by_role("link", name="10.75.0.9").click()
        page.get_by_role("button", name=f"10.75.0.9: web9, {name}").wait_for()
        page.goto(f"http://{PAGE}/#hosts")
        page.get_by_role("button", name=f"lan on {name}: parent eth1, up").click()
        page.get_by_text("passed over").wait_for()
