"""Runs inside the guest kernel, on a disk that outlives it: `before` or `after` a real reboot, with one engine.

What it finds is printed as one line of JSON, behind the word FOUND.
"""

import json
import subprocess
import sys
from pathlib import Path

from lab import Host, Wire
from lab.driver import Driver
from lab.process import wait_until
from lab.site import Site, links

DISK = Path("/mnt/disk")
NETWORK = ("--subnet=192.168.65.0/24", "--gateway=192.168.65.254", "-o", "parent=eth1.65", "-o", "host_access=true")


def boot_id() -> str:
    """What the kernel calls this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def held(site: Site) -> dict[str, str]:
    """Every address that is held, and of which kind its holder is."""
    return {each.address: each.kind for each in site.driver.admin.addresses()}


def before(site: Site) -> dict[str, object]:
    """A VLAN network with one container that comes back, and one that does not."""
    site.create("vlan65", *NETWORK)
    site.start("vlan65", "back", "--ip=192.168.65.10", "--restart=always")
    site.start("vlan65", "gone")
    return {"links": links(site.host), "held": held(site)}


def after(site: Site) -> dict[str, object]:
    """What is there again, by itself."""
    wait_until(lambda: "back" in site.docker("ps", "--format", "{{.Names}}"), "container that came back", seconds=60)
    site.driver.admin.repair(dry_run=False, grace=0)
    return {
        "address": site.docker("inspect", "-f", "{{.NetworkSettings.Networks.vlan65.IPAddress}}", "back"),
        "held": held(site),
        "vlan": site.host.run(["ip", "-d", "link", "show", "eth1.65"]).stdout,
        "host's ping": site.host.run(["ping", "-c1", "-W5", "192.168.65.10"], check=False).stdout,
        "ping": site.run("vlan65", "alpine", "ping", "-c1", "-W2", "192.168.65.10"),
    }


def run(stage: str, version: str) -> dict[str, object]:
    """One host, its driver started before its engine, as the units order them."""
    state = DISK / version
    state.mkdir(exist_ok=True)
    with Wire() as wire, Host(version, state=state) as host:
        wire.plug(host)
        driver = Driver(host)
        driver.start()
        found: dict[str, object] = {"version": version, "boot": boot_id(), "links before the engine": links(host)}
        host.start_engine(version)
        found |= {"before": before, "after": after}[stage](Site(wire, host, driver, version))
        subprocess.run(["sync"], check=True)
        # the power goes now: nothing is stopped, the host's namespaces are simply dropped
    return found


if __name__ == "__main__":
    print("FOUND", json.dumps(run(*sys.argv[1:])), flush=True)
