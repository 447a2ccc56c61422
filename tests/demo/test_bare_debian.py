"""`make run`, `make stop` and `make lab` as the first things that are typed on a minimal Debian 13."""

from collections.abc import Iterator

import pytest

from lab import leftovers
from lab.bare import SYSTEMS, System, bare_system
from lab.paths import RUN
from lab.site import links

FOLDERS = ("/run", "/run/docker", "/run/netns", "/var/lib", "/etc")
LONG = 900
"""Seconds that packages may take which are fetched and installed: what they wait for is a network and a disk."""


def test_nothing_stays_of_a_system_when_a_test_fails() -> None:
    """Processes, mounts and what was written are gone with the block, however it ends."""
    before = {path.name for path in SYSTEMS.iterdir()} if SYSTEMS.exists() else set()
    with pytest.raises(ZeroDivisionError), bare_system("trixie") as made:
        identity = made.host.namespace
        made.run("touch", "/written")
        assert leftovers.processes(identity)
        raise ZeroDivisionError
    assert leftovers.processes(identity) == []
    assert not (RUN / identity).exists()
    assert {path.name for path in SYSTEMS.iterdir()} - before == {"trixie"} - before
    assert not (SYSTEMS / "trixie/written").exists()


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """One for all tests of this module, in their order: the first finds it bare. Nothing of it stays."""
    with bare_system("trixie") as made:
        made.copy_repository()
        yield made
        host = made.host
    assert leftovers.processes(host.namespace) == []
    assert not (RUN / host.namespace).exists()


def traces(system: System) -> dict[str, object]:
    """What `make run` could leave behind but for packages, of which it says that they stay."""
    listed = system.run("find", *FOLDERS, "-maxdepth", "1", "-name", "*macvlan-global*", check=False).stdout.split()
    return {"ours": sorted(set(listed)), "links": sorted(links(system.host))}


def test_run_and_stop_install_what_they_need(system: System) -> None:
    """Neither python3 nor an engine nor `ip` is there; both commands work all the same, and leave packages only."""
    for program in ("python3", "dockerd", "ip", "busybox"):
        assert system.run("sh", "-c", f"command -v {program}", check=False).returncode != 0
    before = traces(system)
    shown = system.run("make", "run", timeout=LONG).stdout
    assert "Docker Engine 26." in shown
    assert shown.count("1 packets received") == 4
    assert "is gone" in system.run("make", "stop").stdout
    assert traces(system) == before
    system.run("make", "stop")


def test_the_lab_prepares_itself(system: System) -> None:
    """Engines of both ages, stores, a kernel and an image are there, whatever versions the release itself has."""
    assert "engines 20.10." in system.run("make", "lab", timeout=LONG).stdout
