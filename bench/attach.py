"""One attach through the plugin socket, beside one ADD of CNI's macvlan with host-local.

"The driver alone" is what the driver is asked: RequestAddress, CreateEndpoint, Join; then Leave, DeleteEndpoint,
ReleaseAddress. "And the engine's part" adds what the engine then does in any case: it moves the link into the
container, renames it, gives it its address and sets it up. CNI makes its link in the container, with no move.

host-local does not wait for a disk, so state is in memory on both sides, but for one row: there ours is on the disk,
and what an attach writes is safe against a power cut before the engine is answered.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pyroute2 import IPRoute, netns

from bench.inside import call
from bench.plugin import Attached, Plugin
from bench.rounds import Figures, Row, Samples, take_turns
from lab import Host, Wire
from lab.apt import unpack
from lab.driver import Driver
from lab.paths import BUILD, scratch_folder

TITLES = (
    "attach, the driver alone",
    "detach, the driver alone",
    "attach, and the engine's part",
    "detach, link in the container",
    "attach, the driver alone, on a disk",
)
CNI = BUILD / "cni"
_PROGRAMS = CNI / "usr/lib/cni"
SETTLED_SECONDS = 0.03
"""Time for the kernel to free a link whose deletion was answered."""
_YARDSTICK = "CNI macvlan + host-local"


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    ensure_cni()
    rounds = 2 if quick else 60
    memory = _on_a_host(None, rounds)
    with scratch_folder(BUILD) as disk:
        durable = _on_a_host(disk, rounds)
    cni, alone, whole = memory["cni"], memory["alone"], memory["whole"]
    return [
        Row(TITLES[0], "ms", alone["attach"], cni["attach"], f"{_YARDSTICK} ADD", goal=0.2),
        Row(TITLES[1], "ms", alone["detach"], cni["detach"], f"{_YARDSTICK} DEL", goal=0.8),
        Row(TITLES[2], "ms", whole["attach"], cni["attach"], f"{_YARDSTICK} ADD"),
        Row(TITLES[3], "ms", whole["detach"], cni["detach"], f"{_YARDSTICK} DEL", goal=0.8),
        Row(TITLES[4], "ms", durable["alone"]["attach"], durable["cni"]["attach"], f"{_YARDSTICK} ADD", goal=0.3),
    ]


def _on_a_host(state: Path | None, rounds: int) -> Samples:
    with Wire() as wire, Host("attach", state=state) as host:
        for parent in ("eth1", "eth2"):
            wire.plug(host, parent)
        driver = Driver(host, "--log-level=info")
        driver.start()
        samples: Samples = call(host, turns, rounds=rounds)
        driver.stop()
    return samples


def ensure_cni() -> None:
    """Unpack Debian's CNI plugins, unless they are."""
    unpack("bookworm", ("containernetworking-plugins",), CNI)


def turns(rounds: int) -> Samples:
    """On the host, with the driver serving."""
    plugin = _PluginSides()
    return take_turns(
        {"cni": _cni, "alone": plugin.alone, "whole": plugin.whole}, rounds, warm_up=3, pause=SETTLED_SECONDS
    )


class _PluginSides:
    def __init__(self) -> None:
        netns.create("plugin")
        self._sandbox = "/run/netns/plugin"
        self._network = Plugin().create_network("10.65.0.0/16", "eth1")
        self._host = IPRoute()
        self._container = IPRoute(netns="plugin")

    def alone(self) -> Figures:
        return self._turn(lambda _: None)

    def whole(self) -> Figures:
        return self._turn(self._engines_part)

    def _turn(self, between: Callable[[Attached], None]) -> Figures:
        begun = time.perf_counter()
        attached = self._network.attach(self._sandbox)
        between(attached)
        there = time.perf_counter()
        self._network.detach(attached)
        return {"attach": there - begun, "detach": time.perf_counter() - there}

    def _engines_part(self, attached: Attached) -> None:
        index = self._host.link_lookup(ifname=attached.link)[0]
        self._host.link("set", index=index, net_ns_fd=self._sandbox)
        index = self._container.link_lookup(ifname=attached.link)[0]
        address, _, prefix = attached.address.partition("/")
        self._container.link("set", index=index, ifname="eth0")
        self._container.addr("add", index=index, address=address, prefixlen=int(prefix))
        self._container.link("set", index=index, state="up")


def _cni() -> Figures:
    if not Path("/run/netns/cni").exists():
        netns.create("cni")
    times = {}
    for name, command in (("attach", "ADD"), ("detach", "DEL")):
        begun = time.perf_counter()
        subprocess.run(
            [_PROGRAMS / "macvlan"],
            input=json.dumps(_CNI_CONFIG).encode(),
            env={**os.environ, **_CNI_ENVIRONMENT, "CNI_COMMAND": command},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        times[name] = time.perf_counter() - begun
    return times


_CNI_ENVIRONMENT = {
    "CNI_CONTAINERID": "one",
    "CNI_NETNS": "/run/netns/cni",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": str(_PROGRAMS),
}
_CNI_CONFIG = {
    "cniVersion": "0.4.0",
    "name": "bench",
    "type": "macvlan",
    "master": "eth2",
    "mode": "bridge",
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.66.0.0/16"}]], "dataDir": "/run/cni"},
}
