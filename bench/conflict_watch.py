"""CPU of the conflict watch at 1,000 frames a second: 500 devices ask for each other, beside 100 containers."""

import asyncio
import socket
import sys
import time
from ipaddress import ip_address

from bench.rounds import Row
from lab import Host
from macvlan_global.conflicts.watch import ConflictWatch
from macvlan_global.driver.driver import Driver, Settings
from macvlan_global.ipam.owners import Identity
from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.kernel.arp_ndp import advertisement
from macvlan_global.kernel.netlink import NetlinkKernel
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import EndpointRecord, NetworkRecord, SubnetRecord
from macvlan_global.store.table import Tables

TITLES = ("conflict watch at 1,000 frames a second, CPU of a second",)
FRAMES, DEVICES, CONTAINERS = 1000, 500, 100
GOAL_SECONDS = 0.01
NETWORK = "a" * 64


def measure(*, quick: bool) -> list[Row]:
    """The row of this measurement."""
    rounds = 1 if quick else 7
    with Host("watch") as host:
        host.run(["ip", "link", "add", "port0", "type", "veth", "peer", "name", "peer0"])
        for name in ("port0", "peer0"):
            host.run(["ip", "link", "set", name, "up"])
        with host.in_network():
            samples = asyncio.run(_measure(rounds, 3.0 if quick else 10.0))
    return [Row(TITLES[0], "ms", samples, goal=GOAL_SECONDS)]


async def _measure(rounds: int, seconds: float) -> list[float]:
    """Seconds of CPU for each second of each round."""
    kernel = NetlinkKernel()
    driver = await _driver(kernel)
    watch = ConflictWatch(driver)
    sender = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.conflict_watch", "peer0")
    running = asyncio.ensure_future(watch.run())
    samples = []
    try:
        await _until_frames_come(watch)
        for _ in range(rounds):
            begun, used = time.monotonic(), time.process_time()
            await asyncio.sleep(seconds)
            samples.append((time.process_time() - used) / (time.monotonic() - begun))
        assert not watch.ledger.all()
    finally:
        sender.kill()
        await sender.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await kernel.close()
    return samples


async def _until_frames_come(watch: ConflictWatch) -> None:
    async with asyncio.timeout(60):
        for _ in range(600):
            if any(len(segment.tallies) >= DEVICES for segment in watch.segments.values()):
                return
            await asyncio.sleep(0.1)


async def _driver(kernel: NetlinkKernel) -> Driver:
    store = MemoryStore()
    tables = Tables(store, store)
    subnet = SubnetRecord(space=DEFAULT_SPACE, subnet="10.8.0.0/16", gateway="10.8.0.1")
    network = NetworkRecord(id=NETWORK, given={"parent": "port0"}, subnets=[subnet], parent="port0", at=0.0)
    await tables.networks.put(network, NETWORK)
    for number in range(CONTAINERS):
        endpoint = f"{number:064x}"
        record = EndpointRecord(
            network=NETWORK,
            id=endpoint,
            address=f"10.8.1.{number}",
            mac=f"02:00:00:00:01:{number:02x}",
            link=f"mg-{number}",
            boot="boot",
            at=0.0,
        )
        await tables.endpoints.put(record, NETWORK, endpoint)
    return Driver.build(tables, kernel, Identity("host", "run", "boot", "host"), Settings())


def _send(link: str) -> None:
    """Send the frames of the devices at an even pace, until killed."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.bind((link, 0))
    first = int(ip_address("10.8.4.0"))
    frames = [
        advertisement(ip_address(first + each), bytes((2, 0, 0, 1, each >> 8, each & 255))) for each in range(DEVICES)
    ]
    begun, sent = time.monotonic(), 0
    while True:
        while sent < (time.monotonic() - begun) * FRAMES:
            opened.send(frames[sent % DEVICES])
            sent += 1
        time.sleep(0.002)


if __name__ == "__main__":
    _send(sys.argv[1])
