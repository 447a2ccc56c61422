"""Whatever hangs, each request of the engine is answered within ten seconds, and works again when it no more does."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from macvlan_global.deadline import Deadline
from macvlan_global.driver.networks import Networks
from macvlan_global.driver.requests import NetworkRequest, SubnetRequest
from macvlan_global.errors import Unavailable
from macvlan_global.parents.choose import ParentChooser, ParentFiles
from testkit.brief import BRIEF
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_engine import Subnet, engine_id

LAN = Subnet("10.8.0.0/24", gateway="10.8.0.1")
N2, E2 = engine_id("n2"), engine_id("e2")
POOL = "macvlan-global/10.8.0.0/24"


async def _timed(request: Coroutine[Any, Any, Any]) -> tuple[str, float]:
    """The error of a request under its deadline ("" if there is none), and how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        await Deadline().run("it", request)
    except Unavailable as error:
        return str(error), loop.time() - began
    return "", loop.time() - began


def _requests(host: ClusterHost) -> dict[str, dict[str, Any]]:
    lan, web = host.engine.id_of("lan"), host.engine.containers["web"]
    data = [{"AddressSpace": "macvlan-global", "Pool": "10.9.0.0/24", "Gateway": "10.9.0.1/24"}]
    generic = {"com.docker.network.generic": {"parent": "eth0"}}
    ids = {"NetworkID": lan, "EndpointID": web.endpoint}
    return {
        "IpamDriver.RequestPool": {"AddressSpace": "macvlan-global", "Pool": "10.10.0.0/24", "Options": {}},
        "IpamDriver.ReleasePool": {"PoolID": POOL},
        "IpamDriver.RequestAddress": {"PoolID": POOL, "Address": "", "Options": {}},
        "IpamDriver.ReleaseAddress": {"PoolID": POOL, "Address": "10.8.0.77"},
        "NetworkDriver.CreateNetwork": {"NetworkID": N2, "Options": generic, "IPv4Data": data},
        "NetworkDriver.CreateEndpoint": {
            "NetworkID": lan,
            "EndpointID": E2,
            "Interface": {"Address": "10.8.0.99/24"},
            "Options": {},
        },
        "NetworkDriver.DeleteEndpoint": ids,
        "NetworkDriver.DeleteNetwork": {"NetworkID": lan},
    }


LEFT = 200 if BRIEF else 1_000
METHODS = (
    *("IpamDriver.RequestPool", "IpamDriver.ReleasePool", "IpamDriver.RequestAddress", "IpamDriver.ReleaseAddress"),
    *("NetworkDriver.CreateNetwork", "NetworkDriver.CreateEndpoint", "NetworkDriver.DeleteEndpoint"),
    "NetworkDriver.DeleteNetwork",
)


@pytest.mark.virtual_time
@pytest.mark.parametrize("method", METHODS)
async def test_a_store_that_hangs(method: str) -> None:
    """The request names the store, or is kept for later; another network can be made as soon as the store is back."""
    rig = await ClusterRig.build()
    host = await rig.host("a")
    await host.publish("lan", LAN)
    await host.engine.run("web", "lan")
    fields = _requests(host)[method]
    host.faults.hangs = True
    error, seconds = await _timed(host.plugin.call(method, **fields))
    assert seconds < 10
    assert not error or "it waits for the store (" in error
    host.faults.hangs = False
    await host.publish("other", Subnet("10.20.0.0/24"))


@pytest.mark.virtual_time
async def test_a_removal_does_not_wait_for_what_others_left() -> None:
    """Releases wait after an outage, more than a second's work: networks are removed and made beside their delivery."""
    rig = await ClusterRig.build()
    host = await rig.host("a")
    for number in range(3):
        await host.publish(f"lan{number}", Subnet(f"10.{number}.0.0/24"))
    pool = (await host.driver.pools.all())[0]
    rig.reach(away=True)
    for _ in range(LEFT):
        await host.driver.ipam.release_address(f"macvlan-global/{pool.subnet}", "10.0.0.9")
    rig.reach(away=False)
    assert len(await host.outbox.waiting()) == LEFT
    host.faults.delay = 0.01
    delivering = asyncio.ensure_future(host.outbox.deliver())
    await asyncio.sleep(0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(host.engine.remove_network("lan1"), host.publish("new", Subnet("10.77.0.0/24")))
    assert loop.time() - began < 1
    assert not delivering.done()
    assert [row.record.name for row in await host.driver.tables.removed.scan()] == ["lan1"]
    assert await delivering == LEFT


@pytest.mark.virtual_time
async def test_a_network_of_many_aux_addresses_keeps_nobody_waiting() -> None:
    """They are claimed side by side, and others decide about parents meanwhile."""
    rig = await ClusterRig.build()
    host = await rig.host("a")
    aux = {f"a{number}": f"10.8.1.{number}" for number in range(1, 250)}
    await host.publish("first", Subnet("10.9.0.0/24"))
    taking = asyncio.ensure_future(host.publish("lan", Subnet("10.8.0.0/16", aux=aux)))
    await asyncio.sleep(0)
    host.faults.delay = 0.05
    loop = asyncio.get_running_loop()
    began = loop.time()
    await host.engine.run("web", "first")
    assert loop.time() - began < 2
    await taking


async def test_a_parent_file_that_hangs() -> None:
    """It is an error that names it, each time; a file elsewhere is read meanwhile."""
    gone = threading.Event()

    def read(path: str) -> str:
        if path.startswith("/mnt/dead"):
            gone.wait()
        return "eth1"

    files = ParentFiles(read, seconds=0.05)
    for _ in range(10):
        with pytest.raises(Unavailable, match="parent-file=/mnt/dead/parent could not be read within"):
            await files.read("/mnt/dead/parent")
    assert await files.read("/etc/parent") == "eth1"
    gone.set()


class _DeadMount(ParentFiles):
    """Each file is on a mount that is away."""

    async def read(self, path: str) -> str:
        """See `ParentFiles.read`."""
        await asyncio.sleep(3)
        raise Unavailable(f"{path} could not be read")


@pytest.mark.virtual_time
async def test_a_parent_file_that_hangs_keeps_no_other_network_waiting() -> None:
    """A copy whose file hangs is made without a parent. Its containers wait side by side for the file, and decisions
    about the parents of other networks do not wait for it."""
    rig = await ClusterRig.build()
    one, host = await rig.host("a"), await rig.host("b")
    driver, mount, loop = host.driver, {"parent-file": "/mnt/dead/parent"}, asyncio.get_running_loop()
    parents = ParentChooser(driver.kernel, driver.owned, {}, "global", files=_DeadMount())
    networks = Networks(
        driver.tables, driver.claims, driver.kernel, driver.owned, parents, driver.liveness, outbox=driver.outbox
    )

    async def create(network: str, subnet: str, options: dict[str, str], cluster: str = "") -> None:
        await driver.ipam.request_pool(subnet, "", {"network": cluster} if cluster else {}, ipv6=False)
        subnets = (SubnetRequest.read("macvlan-global", subnet, "", {}),)
        await networks.create(NetworkRequest(network, options, subnets=subnets))

    async def join() -> None:
        with pytest.raises(Unavailable, match="/mnt/dead/parent could not be read"):
            await networks.ready_parent(copy)

    with pytest.raises(Unavailable, match="/mnt/dead/parent could not be read"):
        await create(N2, "10.9.0.0/24", mount)
    await create(N2, "10.8.0.0/24", mount, await one.publish("lan", Subnet("10.8.0.0/24")))
    copy = await networks.get(N2)
    assert copy.parent == ""
    began = loop.time()
    joins = asyncio.gather(*(join() for _ in range(4)))
    await asyncio.sleep(0.1)
    await create(engine_id("n3"), "10.10.0.0/24", {"parent": "eth0"})
    assert loop.time() - began < 1
    await joins
    assert loop.time() - began < 4
