"""The page of one host shows the other: real engines, a real store, the stream of events, and a real browser."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page, sync_playwright

from lab.cluster_site import ClusterSite, settle
from lab.hosts import Host
from lab.packages import ensure_chromium
from lab.speed import patience
from tests.cluster.conftest import PAGE

ACROSS_SECONDS = 3.0


class _Watcher:
    """A stream of events, and when each address was first told with its container."""

    def __init__(self, host: Host) -> None:
        connection = http.client.HTTPConnection(PAGE, timeout=patience(60))
        with host.in_network():
            connection.connect()
        self._socket: socket.socket = connection.sock
        connection.request("GET", "/api/events")
        self._stream = connection.getresponse()
        self.live = False
        self.told: dict[str, float] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._stream.close()
        self._socket.close()

    def _read(self) -> None:
        name = ""
        for line in iter(self._stream.readline, b""):
            name = line[7:].decode().strip() if line.startswith(b"event: ") else name
            if line.startswith(b"data: "):
                self._take(name, json.loads(line[6:]))

    def _take(self, name: str, data: dict[str, Any]) -> None:
        self.live |= name == "hello" and data["live"]
        for each in data.get("put", ()):
            if each["kind"] == "endpoint":
                self.told.setdefault(f"{each['address']} on {each['host']}", time.monotonic())


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
    """Within half a second of the engine's answer its address is told on the page of the other host, where each view
    has it: by name, in its cell, and with the parent that its host chose."""
    one, two = cluster.sites
    one.create("lan", "--subnet=10.75.0.0/24", "--gateway=10.75.0.1", "-o", "parent=eth7, eth1")
    cluster.wait_for("lan")
    watcher, late = _Watcher(two.host), []
    try:
        settle(two, lambda: watcher.live, "the watches of the page")
        for number in (9, 10):
            one.start("lan", f"web{number}", f"--ip=10.75.0.{number}")
            answered, key = time.monotonic(), f"10.75.0.{number} on {one.host.name}"
            settle(two, lambda key=key: key in watcher.told, key)  # type: ignore[misc]  # a loop's own variable
            late.append(watcher.told[key] - answered)
        assert min(late) < patience(ACROSS_SECONDS)
    finally:
        watcher.close()
    name = one.host.name
    with _browser(two.host) as page:
        page.goto(f"http://{PAGE}/#containers?q=web9+{name}")
        page.get_by_role("link", name="10.75.0.9").click()
        page.get_by_role("button", name=f"10.75.0.9: web9, {name}").wait_for()
        page.goto(f"http://{PAGE}/#hosts")
        page.get_by_role("button", name=f"lan on {name}: parent eth1, up").click()
        page.get_by_text("passed over").wait_for()
