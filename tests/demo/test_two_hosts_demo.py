"""`make demo`: its hosts are namespaces, so it runs as it is, and must leave nothing of them."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.guest import kernel_has
from lab.leftovers import processes
from lab.paths import PREFIX, ROOT, RUN
from lab.speed import patience

SECONDS = 120
"""What it may take; on an idle machine it takes ten."""


def start(store: str) -> "subprocess.Popen[str]":
    """What `make demo STORE=...` runs."""
    command = [sys.executable, "-m", "demo.two_hosts", f"--store={store}"]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def left_by(pid: int) -> list[str]:
    """What a run made and did not take away: namespaces, folders, processes."""
    identity = f"{PREFIX}{pid}-"
    found = [str(path) for place in (Path("/run/netns"), RUN) for path in place.glob(f"{identity}*")]
    return found + [str(pid) for name in ("host1", "host2", "store101") for pid in processes(identity + name)]


@pytest.mark.parametrize("store", ["consul", "etcd"])
def test_the_whole_story(store: str) -> None:
    """The network of host1 is on host2's own interface, its containers meet by address and name, and all of it goes."""
    demo = start(store)
    shown, said = demo.communicate(timeout=patience(SECONDS))
    assert demo.returncode == 0, shown + said
    tag = ".10" if kernel_has("8021q") else ""
    assert f'-o parent="toothbrush, foo{tag}, bar{tag}" -o macvlan_mode=bridge mcv20' in shown
    assert re.search(rf"host2\$ macvlan-global parents mcv20\n.*\n.*\n +Parent: +bar{re.escape(tag)}\n", shown)
    assert "watch triggered with 2 hosts" in shown
    assert shown.count("1 packets received") == 5
    assert re.search(r"PING one \(192\.168\.20\.10\)[^P]*PING one \(fd20::10\)", shown.replace("packets", ""))
    assert "address 192.168.20.10 is in use by container one on host host1" in shown
    assert "host1 has removed it" in shown
    assert left_by(demo.pid) == []


def test_interrupted() -> None:
    """Ctrl-C in the middle takes all away, and says so."""
    demo = start("consul")
    assert demo.stdout is not None
    while "host2$ dockerd" not in (line := demo.stdout.readline()):
        assert line, "it ended too soon"
    os.kill(demo.pid, signal.SIGINT)
    _, said = demo.communicate(timeout=patience(SECONDS))
    assert (demo.returncode, said) == (130, "demo: interrupted; nothing of it is left\n")
    assert left_by(demo.pid) == []
