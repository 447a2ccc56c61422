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


def boot(stage: str, disk: Path) -> dict[str, Found]:
    """Boot the guest once on this disk; what it found, by engine."""
    env = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = guest_run([sys.executable, SCRIPT, stage], disk=disk, env=env, timeout=300, echo=False)
    assert done.returncode == 0, done.output
    lines = [line.partition("FOUND ")[2] for line in done.output.splitlines() if "FOUND " in line]
    return {each["version"]: each for each in map(json.loads, lines)}


@pytest.fixture(scope="module")
def boots() -> tuple[dict[str, Found], dict[str, Found]]:
    """What was found before and after the reboot, by engine."""
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        disk = make_disk(Path(folder) / "disk.ext4", size="1G")
        return boot("before", disk), boot("after", disk)


@pytest.mark.parametrize("version", ENGINES)
def test_sub_interfaces_are_back_before_containers_start(
    boots: tuple[dict[str, Found], dict[str, Found]], version: str
) -> None:
    """The driver makes eth1.65 again when it starts, before any engine runs, and tags it as it was."""
    before, after = boots[0][version], boots[1][version]
    assert before["boot"] != after["boot"]
    assert "eth1.65" in before["links"]
    assert "eth1.65" in after["links before the engine"]
    assert "vlan protocol 802.1Q id 65" in after["vlan"]


@pytest.mark.parametrize("version", ENGINES)
def test_a_container_comes_back_with_its_address(
    boots: tuple[dict[str, Found], dict[str, Found]], version: str
) -> None:
    """The container with a restart policy has its address again and is reached; the other one holds none."""
    after = boots[1][version]
    assert after["address"] == "192.168.65.10"
    assert after["held"] == {"192.168.65.254": "gateway", "192.168.65.10": "endpoint"}
    assert "0% packet loss" in after["ping"]
