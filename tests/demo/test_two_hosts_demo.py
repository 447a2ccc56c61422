"""`make demo`: its hosts are namespaces, so it runs as it is, and must leave nothing of them.

One run is the recording of the documents, with a browser beside it. `MACVLAN_GLOBAL_TESTS_SCREENSHOTS=1` has it write
recording and pictures of docs/demo anew.
"""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from lab.guest import kernel_has
from lab.leftovers import processes
from lab.packages import ensure_chromium
from lab.paths import PREFIX, ROOT, RUN
from lab.speed import patience
from tests.demo.recording import RECORDING, STAYS, Piece, pieces, plain, read, start, story, written

SECONDS = 120
"""What it may take; on an idle machine it takes fifteen."""
WRITES = bool(os.environ.get("MACVLAN_GLOBAL_TESTS_SCREENSHOTS"))
SHOTS = ROOT / ("docs/demo" if WRITES else "build/demo")
PLAN = "#plan?space=macvlan-global&at=192.168.30.0%2F24"


@contextmanager
def _demo(*options: str, colours: bool = False) -> Iterator["subprocess.Popen[bytes]"]:
    """The demo, which is killed if it hangs."""
    demo = start(*options, colours=colours)
    limit = threading.Timer(patience(SECONDS), demo.kill)
    limit.start()
    try:
        yield demo
    finally:
        demo.terminate()  # of a test that failed: it takes all away, unless it hangs
        demo.communicate()
        limit.cancel()


def _said(demo: "subprocess.Popen[bytes]") -> str:
    return demo.stderr.read().decode() if demo.stderr else ""


def left_by(pid: int) -> list[str]:
    """What a run made and did not take away: namespaces, folders, processes."""
    identity = f"{PREFIX}{pid}-"
    found = [str(path) for place in (Path("/run/netns"), RUN) for path in place.glob(f"{identity}*")]
    names = ("c1-host1", "c1-host2", "c1-store101", "printer")
    return found + [str(pid) for name in names for pid in processes(identity + name)]


def _came_true(shown: str, tag: str) -> None:
    """Both acts ended as they should."""
    assert f'-o parent="toothbrush, foo{tag}, bar{tag}" -o macvlan_mode=bridge mcv20' in shown
    assert re.search(rf"host2\$ macvlan-global parents mcv20\n.*\n.*\n +Parent: +bar{re.escape(tag)}\n", shown)
    assert "watch triggered with 2 hosts" in shown
    assert shown.count("1 packets received") == 5
    assert re.search(r"PING one \(192\.168\.20\.10\)[^P]*PING one \(fd20::10\)", shown.replace("packets", ""))
    assert "address 192.168.20.10 is in use by container one on host host1" in shown
    for told in ("web on host1", "web on host2", "a conflict, which both hosts see", "no web any more"):
        assert f"the page shows {told}" in shown
    assert "host1 has removed it" in shown


def test_the_whole_story() -> None:
    """The network of host1 is on host2's own interface, its containers meet by address and name, and all of it goes."""
    with _demo("--store=etcd") as demo:
        shown = plain(list(pieces(demo)))
        assert demo.wait(patience(SECONDS)) == 0, shown + _said(demo)
        _came_true(shown, ".10" if kernel_has("8021q") else "")
        assert left_by(demo.pid) == []


def test_the_recording_is_what_it_prints_today() -> None:
    """docs/demo has each line of it, and the page shows the conflict while it waits."""
    heard: list[Piece] = []
    browser = str(ensure_chromium())
    with _demo("--no-vlans", "--stay", colours=True) as demo:
        assert demo.stdin is not None
        for each in pieces(demo):
            heard.append(each)
            if STAYS in each.text:
                _look(plain(heard), browser)
                demo.stdin.write(b"\n")
                demo.stdin.flush()
        shown = plain(heard)
        assert demo.wait(patience(SECONDS)) == 0, shown + _said(demo)
        assert left_by(demo.pid) == []
    _came_true(shown, "")
    if WRITES:
        RECORDING.write_text(written(heard))
    recorded = read(RECORDING.read_text())
    assert story(recorded) == story(heard), "record it anew, see CONTRIBUTING.md"
    assert recorded[-1].at > 5
    assert read(written(heard)) == heard


def _look(shown: str, browser_program: str) -> None:
    """Look at the page of host2 as a browser of this machine does, and take its pictures."""
    found = re.search(r"(http://127\.0\.0\.1:\d+/) on this machine", shown)
    assert found, shown
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=browser_program)
        page = browser.new_page(viewport={"width": 1200, "height": 620})
        page.set_default_timeout(patience(20) * 1000)
        page.goto(found[1] + PLAN)
        page.get_by_role("button", name="192.168.30.9: conflict, web, host2").click()
        _picture(page, "plan")
        page.goto(f"{found[1]}#problems?q=conflict")  # and not what the doctor says of this machine
        for parent in ("foo", "bar"):
            page.get_by_text(f"is in conflict on {parent}").first.wait_for()
        _picture(page, "problems")
        browser.close()


def _picture(page: Page, name: str) -> None:
    page.screenshot(path=SHOTS / f"{name}.png")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('{"version": 1, "width": 120, "height": 40}', "no recording of the second form"),
        ('{"version": 2, "width": 120, "height": 40}\n[2.0, "o", "a"]\n[1.0, "o", "b"]', "before the one above it"),
        ('{"version": 2, "width": 120, "height": 40}\n[2.0, "x", "a"]', "is no output"),
    ],
)
def test_a_recording_that_no_player_would_play(line: str, wrong: str) -> None:
    """Another version, times that go back, and events that do not exist are refused."""
    with pytest.raises(ValueError, match=wrong):
        read(line)


def test_interrupted() -> None:
    """Ctrl-C in the middle takes all away, and says so."""
    with _demo() as demo:
        for each in pieces(demo):
            if "host2$ dockerd" in each.text:
                break
        os.kill(demo.pid, signal.SIGINT)
        for _ in pieces(demo):
            pass
        assert (demo.wait(patience(SECONDS)), _said(demo)) == (130, "demo: interrupted; nothing of it is left\n")
        assert left_by(demo.pid) == []
