"""Host access (`-o host_access=true`): the cost of an attach with it, beside one without; and throughput between the
host and a container over the shim, beside a container whose veth is on a bridge of the host, as those of Docker's
bridge networks are. There are no iptables rules on either side.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from pyroute2 import IPRoute, netns

from bench.inside import call
from bench.plugin import Attached, Plugin, PluginNetwork
from bench.rounds import Figures, Row, Samples, take_turns
from lab import Host, Wire
from lab.apt import unpack
from lab.driver import Driver
from lab.paths import BUILD
from lab.process import wait_until

TITLES = (
    "attach with host access, the driver alone",
    "detach with host access, the driver alone",
    "TCP from host to container, host access",
    "TCP from container to host, host access",
)
SUBNET, HOST = "10.65.0.0/16", "10.65.0.1"
BRIDGED, BRIDGE = "10.67.0.2", "10.67.0.1"
SANDBOX, PORT = "/run/netns/shim", "5201"
_TREE = BUILD / "iperf3"
_PACKAGES = ("iperf3", "libiperf0", "libsctp1", "libssl3")
_LIBRARIES = ":".join(str(_TREE / part / "x86_64-linux-gnu") for part in ("usr/lib", "lib"))


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    unpack("bookworm", _PACKAGES, _TREE)
    rounds, seconds = (2, 1) if quick else (60, 3)
    with Wire() as wire, Host("hostaccess") as host:
        wire.plug(host, "eth1", addresses=[f"{HOST}/16"])
        wire.plug(host, "eth2")
        driver = Driver(host, "--log-level=info")
        driver.start()
        found: Samples = call(host, turns, rounds=rounds, flow_rounds=1 if quick else 7, seconds=seconds)
        driver.stop()
    over, bridge = found["shim"], found["bridge"]
    plain = "without host access"
    return [
        Row(TITLES[0], "ms", found["with"]["attach"], found["without"]["attach"], plain),
        Row(TITLES[1], "ms", found["with"]["detach"], found["without"]["detach"], plain),
        Row(TITLES[2], "Gbit/s", over["to"], bridge["to"], "a bridge", sense="at least"),
        Row(TITLES[3], "Gbit/s", over["from"], bridge["from"], "a bridge", sense="at least"),
    ]


def turns(rounds: int, flow_rounds: int, seconds: int) -> Samples:
    """On the host, with the driver serving: seconds of each attach, and bits per second to and from each container."""
    netns.create("shim")
    plugin = Plugin()
    networks = {
        "with": plugin.create_network(SUBNET, "eth1", host_access="true"),
        "without": plugin.create_network("10.66.0.0/16", "eth2"),
    }
    attaching = take_turns({name: partial(_attach, each) for name, each in networks.items()}, rounds, warm_up=3)
    attached = networks["with"].attach(SANDBOX)
    _move(attached)
    _bridge()
    addresses = {"shim": attached.address.partition("/")[0], "bridge": BRIDGED}
    with _serving(addresses):
        flowing = take_turns({name: partial(_flow, each, seconds) for name, each in addresses.items()}, flow_rounds)
    return attaching | flowing


def _attach(network: PluginNetwork) -> Figures:
    begun = time.perf_counter()
    attached = network.attach(SANDBOX)
    there = time.perf_counter()
    network.detach(attached)
    return {"attach": there - begun, "detach": time.perf_counter() - there}


def _move(attached: Attached) -> None:
    """Move a link into its container and set it up, as an engine does."""
    with IPRoute() as host, IPRoute(netns="shim") as container:
        host.link("set", index=host.link_lookup(ifname=attached.link)[0], net_ns_fd=SANDBOX)
        index = container.link_lookup(ifname=attached.link)[0]
        address, _, prefix = attached.address.partition("/")
        container.link("set", index=index, ifname="eth0")
        container.addr("add", index=index, address=address, prefixlen=int(prefix))
        container.link("set", index=index, state="up")


def _bridge() -> None:
    """A container on a bridge of the host."""
    netns.create("bridge")
    for line in (
        "link add br0 type bridge",
        "link set br0 up",
        f"address add {BRIDGE}/24 dev br0",
        "link add port0 master br0 type veth peer name eth0 netns bridge",
        "link set port0 up",
        f"-n bridge address add {BRIDGED}/24 dev eth0",
        "-n bridge link set eth0 up",
    ):
        subprocess.run(["ip", *line.split()], check=True)


@contextmanager
def _serving(addresses: dict[str, str]) -> Iterator[None]:
    """Within the block a server of iperf3 runs in each container."""
    servers = [
        subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{name}", *_iperf("-s", "-B", each)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name, each in addresses.items()
    ]
    try:
        for each in addresses.values():
            answers: Callable[[], bool] = partial(_answers, each)
            wait_until(answers, f"iperf3 on {each}")
        yield
    finally:
        for server in servers:
            server.kill()
            server.wait()


def _answers(address: str) -> bool:
    return subprocess.run(_iperf("-c", address, "-n", "1M"), capture_output=True, check=False).returncode == 0


def _flow(address: str, seconds: int) -> Figures:
    to, back = (_rate("-c", address, "-t", str(seconds), *more) for more in ((), ("-R",)))
    return {"to": to, "from": back}


def _rate(*arguments: str) -> float:
    """Bits a second that were received. If iperf3 does not tell, the measurement is made again: its server may be busy
    with the end of the one before."""
    told: list[float] = []

    def is_measured() -> bool:
        done = subprocess.run(_iperf("-J", *arguments), capture_output=True, check=False)
        with suppress(ValueError, KeyError):
            told.append(float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]))
        return bool(told)

    wait_until(is_measured, f"iperf3 {' '.join(arguments)}")
    return told[0]


def _iperf(*arguments: str) -> list[str]:
    return ["env", f"LD_LIBRARY_PATH={_LIBRARIES}", str(_TREE / "usr/bin/iperf3"), "-p", PORT, *arguments]
