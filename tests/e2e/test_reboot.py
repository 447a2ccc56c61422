"""A real reboot, in the user-mode kernel: VLAN sub-interfaces and containers come back by themselves."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from lab import ENGINES, guest_run, make_disk
from lab.paths import BUILD, ROOT

SCRIPT = "tests/e2e/reboot_in_guest.py"

Found = dict[str, Any]


def boot(stage: str, version: str, disk: Path) -> Found:
    """Boot the guest once on this disk, with an engine of this version; what it found."""
    env = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = guest_run([sys.executable, SCRIPT, stage, version], disk=disk, env=env, timeout=300, echo=False)
    assert done.returncode == 0, done.output
    [found] = [line.partition("FOUND ")[2] for line in done.output.splitlines() if "FOUND " in line]
    return dict(json.loads(found))


@pytest.fixture(scope="module", params=ENGINES)
def boots(request: pytest.FixtureRequest) -> tuple[Found, Found]:
    """What was found before and after the reboot."""
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        disk = make_disk(Path(folder) / "disk.ext4", size="1G")
        return boot("before", request.param, disk), boot("after", request.param, disk)


def test_sub_interfaces_are_back_before_containers_start(boots: tuple[Found, Found]) -> None:
    """The driver makes eth1.65 again when it starts, before any engine runs, and tags it as it was."""
    before, after = boots
    assert before["boot"] != after["boot"]
    assert "eth1.65" in before["links"]
    assert "eth1.65" in after["links before the engine"]
    assert "vlan protocol 802.1Q id 65" in after["vlan"]


def test_a_container_comes_back_with_its_address(boots: tuple[Found, Found]) -> None:
    """The container with a restart policy has its address again and is reached; the other one holds none."""
    after = boots[1]
    assert after["address"] == "192.168.65.10"
    held = {each: kind for each, kind in after["held"].items() if kind != "host"}
    assert held == {"192.168.65.254": "gateway", "192.168.65.10": "endpoint"}
    assert "0% packet loss" in after["ping"]


def test_the_host_reaches_it_again(boots: tuple[Found, Found]) -> None:
    """From the address of the pool that it had."""
    own = [[each for each, kind in found["held"].items() if kind == "host"] for found in boots]
    assert len(own[0]) == 1
    assert own[0] == own[1]
    assert " 0% packet loss" in boots[1]["host's ping"]
