"""Bytes to messages and back."""

import json

import pytest

from macvlan_global.errors import Invalid
from macvlan_global.libnetwork import messages as m
from macvlan_global.libnetwork.codec import decode, encode, encode_error


def test_go_writes_null_for_what_is_absent() -> None:
    """Lists, maps and structures."""
    body = b'{"NetworkID":"n","Options":null,"IPv4Data":null,"IPv6Data":null}'
    assert decode(body, m.CreateNetwork) == m.CreateNetwork(network_id="n")
    assert decode(b'{"NetworkID":"n","EndpointID":"e","Interface":null}', m.CreateEndpoint).interface is None


def test_unknown_keys_are_ignored() -> None:
    """A newer engine may say more."""
    assert decode(b'{"PoolID":"p","New":{"a":[1]}}', m.PoolOnly) == m.PoolOnly(pool_id="p")


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"not JSON"])
def test_a_request_with_nothing_in_it_may_have_any_body(body: bytes) -> None:
    """Engines send none, or null."""
    assert decode(body, m.Empty) == m.Empty()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"{}",
        b'{"NetworkID":null}',
        b'{"NetworkID":7}',
        b'{"NetworkID":["n"]}',
        b'{"NetworkID":"n","IPv4Data":{}}',
        b'{"NetworkID":"n","IPv4Data":[null]}',
        b'{"NetworkID":"n","IPv4Data":[{"AuxAddresses":[]}]}',
        b'{"NetworkID":"n","Options":[]}',
        b'{"NetworkID":"\xff"}',
        b'{"NetworkID":"n"} trailing',
        b'{"NetworkID":"n","Options":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    ],
)
def test_what_is_not_the_message_is_invalid(body: bytes) -> None:
    """With a text that says so."""
    with pytest.raises(Invalid, match="the request"):
        decode(body, m.CreateNetwork)


def test_replies_are_spelt_as_go_reads_them() -> None:
    """Abbreviations in capitals, in every message that has one."""
    joined = m.JoinReply(interface_name=m.InterfaceName(src_name="mg-0", dst_prefix="eth"), gateway="10.0.0.1")
    assert json.loads(encode(joined)) == {
        "InterfaceName": {"SrcName": "mg-0", "DstPrefix": "eth"},
        "Gateway": "10.0.0.1",
        "GatewayIPv6": "",
        "DisableGatewayService": True,
    }
    assert json.loads(encode(m.Pool(pool_id="p", pool="10.0.0.0/24"))) == {
        "PoolID": "p",
        "Pool": "10.0.0.0/24",
        "Data": {},
    }
    assert json.loads(encode(m.IpamCapabilities())) == {"RequiresMACAddress": False, "RequiresRequestReplay": False}
    assert json.loads(encode(m.GwAllocAnswer(skip_ipv4=True, skip_ipv6=False))) == {
        "SkipIPv4": True,
        "SkipIPv6": False,
    }
    assert json.loads(encode(m.Empty())) == {}


def test_errors_stand_where_each_kind_of_driver_is_looked_at() -> None:
    """`Err` of a network driver, `Error` of an IPAM driver."""
    assert json.loads(encode_error('a "b"', ipam=False)) == {"Err": 'a "b"'}
    assert json.loads(encode_error("x", ipam=True)) == {"Error": "x"}
