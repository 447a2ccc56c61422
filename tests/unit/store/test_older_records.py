"""Records as an older release wrote them: a driver that is upgraded under running containers reads every one."""

from ipaddress import ip_address, ip_network
from typing import Final

import msgspec
import pytest

from macvlan_global.errors import Internal
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import EndpointRecord, NetworkRecord
from macvlan_global.store.table import Tables

NETWORK_ID: Final = "094a367b026246fb64649c4f868a45d8187821d16a973141436fd9cd2acfdb4a"
ENDPOINT_ID: Final = "a502c2974d5f7e5d0d9e752092549f05f6b4e9a3126579d21012b4a8fb1b128d"

NETWORK: Final = (
    b'{"v":1,"id":"094a367b026246fb64649c4f868a45d8187821d16a973141436fd9cd2acfdb4a","name":"lan","cluster":"",'
    b'"published":false,"options":{"parent":"eth0.20","attach":"direct","mtu":"1400",'
    b'"com.docker.network.advertise_addr_nmsgs":"2"},"internal":false,"subnets":[{"space":"macvlan-global",'
    b'"subnet":"10.8.0.0/24","range":"10.8.0.128/25","gateway":"10.8.0.1","aux":{"router":"10.8.0.7"}},'
    b'{"space":"macvlan-global","subnet":"fd00:8::/64","range":"","gateway":"","aux":{}}],"parent":"eth0.20",'
    b'"at":1000000.0}'
)
ENDPOINT: Final = (
    b'{"v":1,"network":"094a367b026246fb64649c4f868a45d8187821d16a973141436fd9cd2acfdb4a",'
    b'"id":"a502c2974d5f7e5d0d9e752092549f05f6b4e9a3126579d21012b4a8fb1b128d","address":"10.8.0.128",'
    b'"address6":"fd00:8::1","mac":"6a:eb:f7:06:f0:cb","mac_asked":false,"link":"mg-a502c2974d5f","parent":"eth0.20",'
    b'"sandbox":"/run/docker/netns/4b5e57f6eb2f","boot":"boot1","at":1000000.0,"container":"web","ifname_asked":"",'
    b'"sysctls":"","attach":"direct","why_plain":""}'
)
LEAVING: Final = ENDPOINT.replace(b'"attach":"direct"', b'"attach":"leaving"')


async def _endpoint(value: bytes) -> EndpointRecord:
    store = MemoryStore()
    await store.create(f"endpoints/{NETWORK_ID}/{ENDPOINT_ID}", value)
    row = await Tables(store, store).endpoints.get(NETWORK_ID, ENDPOINT_ID)
    assert row is not None
    return row.record


async def test_a_network_is_written_as_it_was() -> None:
    """The bytes of a network that is read and written again are the same, but for what is known of it since."""
    store = MemoryStore()
    await store.create(f"networks/{NETWORK_ID}", NETWORK)
    row = await Tables(store, store).networks.get(NETWORK_ID)
    assert row is not None
    assert isinstance(row.record, NetworkRecord)
    assert row.record.options.mtu == 1400
    published, rest = NETWORK.split(b'"options"')
    assert msgspec.json.encode(row.record) == published + b'"removed":false,"options"' + rest


def test_a_network_has_typed_values() -> None:
    """Options, subnets and gateways are parsed from its texts."""
    record = msgspec.json.decode(NETWORK, type=NetworkRecord)
    assert (record.options.parent, record.options.attach, record.options_error) == ("eth0.20", "direct", "")
    assert [each.prefix for each in record.subnets] == [ip_network("10.8.0.0/24"), ip_network("fd00:8::/64")]
    assert record.gateway_of(ip_address("10.8.0.128")) == ip_address("10.8.0.1")
    assert record.gateway_of(ip_address("fd00:8::1")) is None
    assert record.subnet_of(ip_address("10.9.0.1")) is None


def test_a_malformed_option_is_no_obstacle_to_reading_a_network() -> None:
    """Others need the record all the same; only containers are refused, with the reason."""
    record = msgspec.json.decode(NETWORK.replace(b'"1400"', b'"big"'), type=NetworkRecord)
    assert record.options.mtu == 0
    assert "-o mtu=big" in record.options_error


async def test_an_endpoint_without_a_state_is_live() -> None:
    """Each field of an endpoint is read as it was written, and the engine still has it."""
    record = await _endpoint(ENDPOINT)
    assert record.is_live
    assert record.is_inside
    assert record.addresses == (ip_address("10.8.0.128"), ip_address("fd00:8::1"))
    assert msgspec.json.encode(record) == ENDPOINT[:-1] + b',"state":"live","name":""}'


async def test_an_endpoint_that_was_leaving_is_leaving() -> None:
    """Its attach mode was overwritten by the state, and only direct links had that state."""
    record = await _endpoint(LEAVING)
    assert not record.is_live
    assert record.attach == "direct"
    assert msgspec.structs.replace(record, state="live") == await _endpoint(ENDPOINT)


@pytest.mark.parametrize("attach", [b'"elsewhere"', b"7"])
async def test_an_attach_mode_that_nobody_wrote_is_refused(attach: bytes) -> None:
    """Only what an older release wrote is read besides what this one writes."""
    with pytest.raises(Internal, match="cannot be read"):
        await _endpoint(ENDPOINT.replace(b'"direct"', attach))
