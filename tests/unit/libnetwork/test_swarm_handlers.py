"""What the two drivers answer in a swarm, where the engines agree among themselves."""

import pytest

from macvlan_global.driver.driver import Settings
from macvlan_global.engine.ports import EngineEndpoint, EngineNetwork, EngineSubnet
from macvlan_global.errors import Conflict, Invalid, MacvlanGlobalError
from macvlan_global.libnetwork import messages as m
from macvlan_global.libnetwork.codec import encode
from macvlan_global.libnetwork.handlers import GENERIC, Handlers
from macvlan_global.reconcile.corrections import AdoptEndpoint, AdoptNetwork
from testkit.fake_engine import engine_id
from testkit.rig import Rig

N1, E1 = engine_id("n1"), engine_id("e1")
IPV4 = m.IPData(address_space="LocalDefault", pool="10.65.0.0/24", gateway="10.65.0.1/24")
IPV6 = m.IPData(address_space="LocalDefault", pool="fd65::/64")
# what a node is told about the network, and what a container's Join is refused with
WRONG = {
    "an unknown option": ({"parnt": "eth0"}, [], "did you mean 'parent'", Invalid),
    "an impossible value": ({"parent": "eth0", "mode": "loud"}, [], "is not a macvlan mode", Invalid),
    "no parent": ({}, [], "no parent interface was passed", Invalid),
    "IPv6": ({"parent": "eth0"}, [IPV6], "without --ipv6 and its subnet, and with -o ipv6-subnet=", Conflict),
    "IPv6 twice": ({"parent": "eth0", "ipv6-subnet": "fd65::/64"}, [IPV6], "without --ipv6", Conflict),
    "a probe": ({"parent": "eth0", "probe": "true"}, [], "managers assign the addresses; leave it out", Invalid),
    "a container as gateway": (
        {"parent": "eth0", "ipv6-subnet": "fd65::/64", "ipv6-gateway": "fd65::10.65.0.7"},
        [],
        "is the IPv6 address of the container with 10.65.0.7",
        Invalid,
    ),
}
DERIVED = {"parent": "eth0", "ipv6-subnet": "fd65::/64", "ipv6-gateway": "fd65::1"}


async def test_the_scope_is_the_swarms() -> None:
    """Only in a swarm: elsewhere the engine would take a global network for its own to share."""
    driver = (await Rig.build()).driver
    for swarm, scope in ((True, "global"), (False, "local")):
        found = await Handlers(driver, swarm=swarm).routes()["/NetworkDriver.GetCapabilities"].handle(m.Empty())
        assert (found.scope, found.connectivity_scope) == (scope, "global")  # type: ignore[attr-defined]


async def test_no_pool_is_given_in_a_swarm() -> None:
    """The text says what works."""
    handlers = Handlers((await Rig.build()).driver, swarm=True)
    with pytest.raises(Invalid, match="without --ipam-driver"):
        await handlers.routes()["/IpamDriver.RequestPool"].handle(m.RequestPool(pool="10.65.0.0/24"))


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_node_makes_every_network_and_its_containers_hear_what_is_wrong(wrong: str) -> None:
    """The endpoint is made too: an older engine keeps the swarm's attachment of one that could not be."""
    options, more, said, kind = WRONG[wrong]
    driver = (await Rig.build(settings=Settings("swarm"))).driver
    routes = Handlers(driver, swarm=True).routes()
    wanted = m.CreateNetwork(network_id=N1, options={GENERIC: options}, ipv4_data=[IPV4], ipv6_data=more)
    await routes["/NetworkDriver.CreateNetwork"].handle(wanted)
    interface = m.Interface(address="10.65.0.9/24", address_ipv6="fd65::9/64" if more else "")
    await routes["/NetworkDriver.CreateEndpoint"].handle(
        m.CreateEndpoint(network_id=N1, endpoint_id=E1, interface=interface)
    )
    with pytest.raises(MacvlanGlobalError, match=said) as refused:
        await routes["/NetworkDriver.Join"].handle(m.Join(network_id=N1, endpoint_id=E1, sandbox_key="/x"))
    assert isinstance(refused.value, kind)
    (network,) = await driver.networks.all()
    # a parent may come yet
    assert (said in driver.networks.wrong_with(network)) is (wrong != "no parent")


async def test_a_container_gets_the_ipv6_address_that_follows_from_its_ipv4_address() -> None:
    """What the engine did not supply is added: to each request for the endpoint the same; Join has the gateway."""
    rig = await Rig.build(settings=Settings("swarm"))
    routes = Handlers(rig.driver, swarm=True).routes()
    await routes["/NetworkDriver.CreateNetwork"].handle(
        m.CreateNetwork(network_id=N1, options={GENERIC: DERIVED}, ipv4_data=[IPV4])
    )
    wanted = m.CreateEndpoint(
        network_id=N1, endpoint_id=E1, interface=m.Interface(address="10.65.0.9/24", mac_address="02:00:00:00:00:09")
    )
    for _ in range(2):
        answer = await routes["/NetworkDriver.CreateEndpoint"].handle(wanted)
        assert encode(answer) == b'{"Interface":{"AddressIPv6":"fd65::a41:9/64"}}'
    joined = await routes["/NetworkDriver.Join"].handle(m.Join(network_id=N1, endpoint_id=E1, sandbox_key="/x"))
    assert (joined.gateway, joined.gateway_ipv6) == ("10.65.0.1", "fd65::1")  # type: ignore[attr-defined]
    (network,) = await rig.driver.networks.all()
    assert [each.subnet for each in network.subnets] == ["10.65.0.0/24", "fd65::/64"]
    assert rig.driver.networks.wrong_with(network) == ""
    (endpoint,) = await rig.driver.endpoints.all()
    assert (endpoint.address, endpoint.address6) == ("10.65.0.9", "fd65::a41:9")


@pytest.mark.parametrize(("address", "address6"), [("", ""), ("10.65.0.9/24", "fd65::9/64")])
async def test_no_ipv6_address_is_derived_from_none_nor_beside_one(address: str, address6: str) -> None:
    """The reply adds a MAC, and no address."""
    rig = await Rig.build("eth0", settings=Settings("swarm"))
    routes = Handlers(rig.driver, swarm=True).routes()
    network = m.CreateNetwork(network_id=N1, options={GENERIC: DERIVED}, ipv4_data=[IPV4])
    await routes["/NetworkDriver.CreateNetwork"].handle(network)
    interface = m.Interface(address=address, address_ipv6=address6, mac_address="02:00:00:00:00:09")
    request = m.CreateEndpoint(network_id=N1, endpoint_id=E1, interface=interface)
    assert encode(await routes["/NetworkDriver.CreateEndpoint"].handle(request)) == b'{"Interface":null}'


async def test_a_state_that_was_lost_is_learnt_anew_with_the_ipv6_addresses() -> None:
    """The engine shows the options and both addresses of a container; repair takes no more than that."""
    rig = await Rig.build(settings=Settings("swarm"))
    endpoint = EngineEndpoint(E1, "c1", "02:00:00:00:00:09", "10.65.0.9", "fd65::a41:9")
    rig.engine.learn(
        EngineNetwork(
            N1,
            "lan",
            "default",
            options=DERIVED,
            subnets=(EngineSubnet("10.65.0.0/24", gateway="10.65.0.1"),),
            endpoints=(endpoint,),
            scope="swarm",
        )
    )
    done = await rig.mend()
    assert [type(each) for each in done] == [AdoptNetwork, AdoptEndpoint]
    (network,) = await rig.driver.networks.all()
    assert [(each.subnet, each.gateway) for each in network.subnets] == [
        ("10.65.0.0/24", "10.65.0.1"),
        ("fd65::/64", "fd65::1"),
    ]
    (found,) = await rig.driver.endpoints.all()
    assert found.address6 == "fd65::a41:9"
    assert await rig.mend() == []


async def test_outside_of_a_swarm_the_option_is_refused() -> None:
    """With the flags that do the same there, and nothing is left."""
    driver = (await Rig.build()).driver
    with pytest.raises(Invalid, match="use --ipv6 --subnet fd65::/64 --gateway fd65::1"):
        await (
            Handlers(driver)
            .routes()["/NetworkDriver.CreateNetwork"]
            .handle(m.CreateNetwork(network_id=N1, options={GENERIC: DERIVED}, ipv4_data=[IPV4]))
        )
    assert await driver.networks.all() == []
