"""Whatever comes in by the socket: a well-formed reply, and the driver goes on."""

import asyncio
import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from macvlan_global.libnetwork import messages as m
from macvlan_global.libnetwork.codec import decode, encode
from macvlan_global.libnetwork.handlers import GENERIC, INTERNAL, Handlers
from macvlan_global.libnetwork.server import PluginServer
from macvlan_global.metrics.counts import Metrics
from testkit.fake_engine import Subnet, engine_id
from testkit.rig import Rig
from tests.property.examples import examples

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
IDS = st.sampled_from([engine_id("n1"), engine_id("n2"), engine_id("e1"), "a", ""])
ADDRESSES = st.sampled_from(
    ["", "192.168.1.9/24", "192.168.1.9", "192.168.1.1", "fd00::9/64", "10.0.0.1/8", "x", "::%a"]
)
POOLS = st.sampled_from(["macvlan-global/192.168.1.0/24", "macvlan-global/fd00::/64", "x", "a/b/c/d/e", "/", ""])
SUBNETS = st.sampled_from(["192.168.1.0/24", "fd00::/64", "10.9.0.0/30", "10.9.0.0/31", "10.9.0.1/24", "", "x"])
DATA = st.lists(
    st.none()
    | JSON
    | st.fixed_dictionaries(
        {},
        optional={
            "AddressSpace": st.sampled_from(["macvlan-global", "LocalDefault", ""]),
            "Pool": SUBNETS,
            "Gateway": ADDRESSES,
            "AuxAddresses": st.none() | st.dictionaries(st.text(max_size=3), ADDRESSES, max_size=2),
        },
    ),
    max_size=2,
)
GENERIC_OPTIONS = JSON | st.dictionaries(
    st.sampled_from(["parent", "", "mode", "mtu", "x"]),
    st.sampled_from(["eth0", "eth0.5", "passthru", "9"]),
    max_size=2,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "NetworkID": IDS,
    "EndpointID": IDS,
    "PoolID": POOLS,
    "Pool": SUBNETS,
    "SubPool": SUBNETS,
    "Address": ADDRESSES,
    "V6": st.booleans(),
    "SandboxKey": st.text(max_size=10),
    "IPv4Data": DATA,
    "IPv6Data": DATA,
    "Interface": st.none()
    | JSON
    | st.fixed_dictionaries(
        {}, optional={"Address": ADDRESSES, "AddressIPv6": ADDRESSES, "MacAddress": st.text(max_size=17)}
    ),
    "Options": st.none()
    | JSON
    | st.fixed_dictionaries({}, optional={GENERIC: GENERIC_OPTIONS, INTERNAL: JSON, "space": st.just("blue")}),
}
"""What an engine might send, nearly right, so that requests get past the codec and deep into the driver."""
NEARLY_RIGHT = st.fixed_dictionaries({}, optional={name: JSON | field for name, field in FIELDS.items()}) | (
    st.fixed_dictionaries(FIELDS)
)
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    NEARLY_RIGHT.map(lambda value: json.dumps(value).encode()),
)


async def _rig() -> tuple[Rig, PluginServer, dict[str, Any]]:
    rig = await Rig.build("eth0")
    subnets = (Subnet("192.168.1.0/24", gateway="192.168.1.1"), Subnet("fd00::/64"))
    await rig.engine.create_network("n1", *subnets, options={"parent": "eth0"})
    routes = Handlers(rig.driver).routes()
    return rig, PluginServer(routes, Metrics()), routes


async def _answers(requests: list[tuple[str, bytes]]) -> list[tuple[str, int, bytes]]:
    _, server, _ = await _rig()
    return [(path, *await _answer(server, path, body)) for path, body in requests]


async def _answer(server: PluginServer, path: str, body: bytes) -> tuple[int, bytes]:
    answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
    server.serve(path, body, lambda status, reply: answered.set_result((status, reply)))
    return await answered


PATHS = asyncio.run(_rig())[2]


@settings(max_examples=examples(400))
@given(st.lists(st.tuples(st.sampled_from(sorted(PATHS)), BODIES), min_size=1, max_size=8))
def test_any_body_to_any_path_gets_a_well_formed_reply(requests: list[tuple[str, bytes]]) -> None:
    """200 with a reply or an error where it belongs, or 400 with the error; never a bug."""
    for path, status, reply in asyncio.run(_answers(requests)):
        body = json.loads(reply)
        assert status in {200, 400}
        assert isinstance(body, dict)
        wrong, right = ("Err", "Error") if path.startswith("/Ipam") else ("Error", "Err")
        assert wrong not in body
        assert status == 200 or list(body) == [right]
        if right in body:
            assert body[right], "an error without words"
            assert "internal error" not in body[right]


@given(st.lists(st.tuples(st.sampled_from(sorted(PATHS)), BODIES), min_size=1, max_size=8))
def test_what_is_refused_holds_no_address_twice_and_repair_settles_the_rest(requests: list[tuple[str, bytes]]) -> None:
    """After any requests at once, state and kernel can be brought to what the engine has, in one repair."""

    async def run() -> None:
        rig, server, _ = await _rig()
        await asyncio.gather(*(_answer(server, path, body) for path, body in requests))
        await rig.mend()
        assert await rig.mend() == []
        held = [(each.space, each.address) for each in await rig.driver.addresses.all()]
        assert len(held) == len(set(held))

    asyncio.run(run())


REPLIES = (
    m.Activation,
    m.NetworkCapabilities,
    m.GwAllocAnswer,
    m.AllocatedNetwork,
    m.CreatedEndpoint,
    m.OperInfo,
    m.JoinReply,
    m.IpamCapabilities,
    m.AddressSpaces,
    m.Pool,
    m.AddressReply,
)


def _of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that messages use."""
    fields = msgspec.structs.fields(kind)
    return st.builds(kind, **{field.name: _value(field.type) for field in fields})


def _value(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, type) and issubclass(kind, m.Message):
        return _of(kind)
    for message in (m.Added, m.InterfaceName):
        if kind == message | None:
            return st.none() | _of(message)
    return st.from_type(kind)


@given(st.one_of([_of(kind) for kind in REPLIES]))
def test_a_reply_is_read_as_it_was_written(reply: Any) -> None:
    """Every field of every reply survives the wire."""
    assert decode(encode(reply), type(reply)) == reply
