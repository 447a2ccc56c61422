"""Three hosts and three members of a store, made to be broken: the store as a whole, a member, a lease, a host."""

import re
import sys
import uuid
from functools import partial
from pathlib import Path

from lab import Host
from lab.cluster import Member
from lab.cluster_site import ClusterSite, StoreKind, settle
from lab.consul import ConsulCluster
from lab.etcd import EtcdCluster
from lab.site import Site
from macvlan_global.admin.messages import AddressView
from macvlan_global.errors import Unavailable

GRACE = 1.0
"""For --host-grace, in seconds: how long a host is dead before what it had may be given back."""
_TOOK = re.compile(r"^.*?(\w+Driver\.\w+) .* in ([\d.]+) ms", re.MULTILINE)


class FragileCluster(ClusterSite):
    """Its hosts keep their state when they lose power; the engine of the second one is an old one."""

    def __init__(self, kind: StoreKind, disk: Path) -> None:
        """`disk` is a folder for what outlives a power cut, on a file system that can carry an overlay."""
        super().__init__("newest", "oldest", "newest", store=kind, members=3, flags=[f"--host-grace={GRACE:g}"])
        self._disk = disk

    def _plugged(self, name: str, number: int) -> Host:
        state = None
        if not name.startswith("store"):
            state = self._disk / name
            state.mkdir(exist_ok=True)
        host = self._stack.enter_context(Host(name, group=self._group, state=state))
        self.management.plug(host, "eth0", addresses=[f"10.99.0.{number}/24"])
        return host

    # --- the store

    def kill_store(self) -> None:
        """Crash every member: connections are refused."""
        for member in self.store.members:
            self.store.kill(member.index)

    def pause_store(self) -> None:
        """Let every member stand still: connections are accepted, and nothing is ever answered."""
        for member in self.store.members:
            self.store.pause(member.index)

    def heal(self) -> None:
        """Start what was killed and let go on what was paused; returns when all members take part."""
        for member in self.store.members:
            if member.running:
                self.store.resume(member.index)
        self.store.start(*(member.index for member in self.store.members if not member.running))

    def end_lease(self, host: str) -> None:
        """Let the lease of the host with this id end now, as it does by itself after some time without renewal."""
        member = self.store.members[self.store.leader()]
        if isinstance(self.store, ConsulCluster):
            _end_session(self.store, member, host)
        elif isinstance(self.store, EtcdCluster):
            _revoke(self.store, host)

    # --- hosts

    def power_off(self, site: Site) -> None:
        """Everything on a host ends at once; what is on its disk stays."""
        site.host.close()

    def power_on(self, site: Site) -> Site:
        """The host boots: driver and engine start as they did. It takes the place of `site` among the sites."""
        index = self.sites.index(site)
        host = self._plugged(site.host.name, index + 1)
        self.wire.plug(host)
        # all hosts share one kernel, and a host that booted is told from one that did not by what the kernel says
        boot = host.run_folder / "boot_id"
        boot.write_text(f"{uuid.uuid4()}\n")
        host.run(["mount", "--bind", "/run/boot_id", "/proc/sys/kernel/random/boot_id"])
        driver = self.driver(host)
        driver.start()
        host.start_engine(site.version)
        self.sites[index] = again = Site(self.wire, host, driver, site.version)
        return again

    def set_steady_clock(self, site: Site, ahead: int) -> None:
        """Crash the driver of a host and start it where the clock that nobody sets is so many seconds ahead.

        All hosts share the machine's clocks. Of these two the kernel lets a process have its own; a date it does not.
        """
        command = site.driver.command[site.driver.command.index(sys.executable) :]
        shifted = ["unshare", "--time", f"--monotonic={ahead}", f"--boottime={ahead}"] if ahead else []
        site.driver.kill()
        site.driver.command = [*shifted, *command]
        site.driver.start()
        site.driver.wait_for_engine()

    def up(self, site: Site) -> set[str]:
        """The names of the hosts that live, as one of them sees it."""
        return set(site.driver.admin.status().hosts)

    def _sees(self, site: Site, wanted: set[str]) -> bool:
        return wanted <= self.up(site)

    def wait_up(self, *sites: Site) -> None:
        """Return when every host sees these (all, if none is named) living."""
        wanted = {site.host.name for site in sites or self.sites}
        for site in self.sites:
            settle(site, partial(self._sees, site, wanted), f"sight of {', '.join(sorted(wanted))}", seconds=40)


def _end_session(store: ConsulCluster, member: Member, host: str) -> None:
    _, pairs = store.ask(member, "GET", "/v1/kv/?recurse")
    (session,) = {pair["Session"] for pair in pairs if pair["Key"].endswith(f"/alive/{host}")}
    status, _ = store.ask(member, "PUT", f"/v1/session/destroy/{session}")
    assert status == 200


def _revoke(store: EtcdCluster, host: str) -> None:
    for line in store.etcdctl("lease", "list").splitlines():
        if re.fullmatch(r"[0-9a-f]{8,}", line) and f"/alive/{host}" in store.etcdctl(
            "lease", "timetolive", line, "--keys"
        ):
            store.etcdctl("lease", "revoke", line)
            return
    raise AssertionError(f"host {host} has no lease")


def holders(site: Site) -> dict[str, str]:
    """Who holds each address of the cluster, as one host sees it: a container and its host, or "gateway", "reserved".

    Whichever host wrote it down that a network has a gateway is nobody's concern. While the store does not answer,
    which a busy machine may cause too, it is asked again.
    """
    found: list[AddressView] = []

    def read() -> bool:
        try:
            found[:] = site.driver.admin.addresses()
        except Unavailable:
            return False
        return True

    settle(site, read, "answer of the store")
    return {each.address: f"{each.holder} {each.host}" if each.kind == "endpoint" else each.kind for each in found}


def calls(site: Site) -> list[tuple[float, str]]:
    """How long the engine waited for each call of the driver, in seconds, the longest first."""
    found = _TOOK.findall(site.driver.log_text())
    return sorted(((float(took) / 1000, call) for call, took in found), reverse=True)
