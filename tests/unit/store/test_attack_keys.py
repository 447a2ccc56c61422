"""Keys and records that somebody wrote by hand below our prefix: they are left alone, and nothing else suffers."""

import base64
import json
from typing import cast

import aiohttp
import pytest

from macvlan_global.store.access import NO_ACCESS, parse_store_url
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.remote.consul import ConsulStore
from macvlan_global.store.remote.etcd import EtcdStore
from macvlan_global.store.table import Tables
from macvlan_global.store.validate import escape_name, unescape_name
from testkit.fake_http import HttpCall, HttpReply, HttpServer
from testkit.foreign_errors import BrokenHttp

pytestmark = pytest.mark.virtual_time

ALIVE = {"v": 1, "id": "a", "name": "anna", "boot": "b", "incarnation": "r", "at": 0}
STRANGE = ["%ff", "%", "%zz", "%41", "a//b", "a/./b", "..", "%2F", "%e2%82", "\ufffd", "\u00e9%25"]


async def test_any_name_in_consul_is_a_key() -> None:
    """Names that we would not give are keys of their own: no two are one, none looks like ours, and ours is read."""
    names = ["a", *STRANGE]
    value = base64.b64encode(json.dumps(ALIVE).encode()).decode()
    rest = {"Value": value, "ModifyIndex": 7, "Session": "s"}
    pairs = [{"Key": f"macvlan-global/alive/{name}", **rest} for name in names]

    async def answer(call: HttpCall) -> HttpReply:
        found = (
            [each["Key"] for each in pairs] if "keys" in call.query else {"Results": [{"KV": each} for each in pairs]}
        )
        return HttpReply(200, json.dumps(found).encode(), {"X-Consul-Index": "7"})

    async with HttpServer(answer) as server:
        store = ConsulStore(parse_store_url(f"consul://{server.address}"), NO_ACCESS)
        assert len({entry.key for entry in await store.scan("alive/")}) == len(names)
        alive = Tables(store, MemoryStore()).alive
        assert [row.record.name for row in await alive.scan()] == ["anna"]
        assert len(await alive.unreadable()) == len(STRANGE)
        await store.close()


@pytest.mark.parametrize("key", ["a", "a b", "100%", "a//b", "a/./b", "a/../b", "%41", "\u00e9%", "/", "..", "%2F"])
def test_a_key_of_ours_comes_back_from_its_name_in_consul(key: str) -> None:
    """Whatever is escaped in it."""
    store = ConsulStore(parse_store_url("consul://store"), NO_ACCESS)
    assert store._keys.key(store._keys.name(f"k/{key}")) == f"k/{key}"


async def test_a_name_in_etcd_that_is_no_text_is_a_key() -> None:
    """It is left alone, like all that cannot be read."""
    names = [b"macvlan-global/alive/a", b"macvlan-global/alive/\xff"]
    value = base64.b64encode(json.dumps(ALIVE).encode()).decode()
    rest = {"value": value, "mod_revision": "7", "lease": "5"}
    pairs = [{"key": base64.b64encode(name).decode(), **rest} for name in names]
    http = BrokenHttp(body=json.dumps({"header": {"revision": "9"}, "kvs": pairs}).encode())
    store = EtcdStore(
        parse_store_url("etcd://store"), NO_ACCESS, open_session=lambda _: cast("aiohttp.ClientSession", http)
    )
    alive = Tables(store, MemoryStore()).alive
    assert [row.record.name for row in await alive.scan()] == ["anna"]
    assert await alive.unreadable() == ["alive/\\xff"]


@pytest.mark.parametrize(
    ("table", "key", "record"),
    [
        ("addresses", "s/fe80::1%eth0", {"subnet": "fe80::/64", "address": "fe80::1%eth0"}),
        ("addresses", "s/fe80::1", {"subnet": "fe80::%eth0/64", "address": "fe80::1"}),
        ("addresses", "s/10.0.0.1_24", {"subnet": "10.0.0.0/24", "address": "10.0.0.1/24"}),
        ("addresses", "s/1", {"subnet": "10.0.0.0/24", "address": "1"}),
        ("pools", "s/fe80::%eth0_64", {"subnet": "fe80::%eth0/64"}),
        ("pools", "s/10.0.0.1_24", {"subnet": "10.0.0.1/24"}),
        ("pools", "s/10.0.0.0_24~10.0.1.0_25", {"subnet": "10.0.0.0/24", "range": "10.0.1.0/25"}),
        ("pools", "s/10.0.0.0_24~10.0.0.0%1_25", {"subnet": "10.0.0.0/24", "range": "10.0.0.0%1/25"}),
    ],
)
async def test_a_record_that_its_users_could_not_work_with_is_left_alone(
    table: str, key: str, record: dict[str, str]
) -> None:
    """A record that passes here is parsed again by the address book, which must not stumble."""
    store = MemoryStore()
    rest = {"space": "s", "kind": "reserved", "host": "h", "incarnation": "i", "at": 0}
    await store.create(f"{table}/{key}", json.dumps({**rest, **record}).encode())
    tables = Tables(store, store)
    assert await tables.unreadable() == [f"{table}/{key}"]


@pytest.mark.parametrize("name", ["a/b", "a_b", "a%2Fb", "a%252Fb", "a%b", "%", "/", "%25", "//", "a b", "é/"])
def test_a_name_comes_back_from_its_key(name: str) -> None:
    """No two names have one key, and no key has a slash that was the name's."""
    assert unescape_name(escape_name(name)) == name
    assert "/" not in escape_name(name)
