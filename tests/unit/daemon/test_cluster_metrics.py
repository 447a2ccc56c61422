"""Metrics of a driver in a cluster: hosts, stores, watches, and pools that other hosts use."""

import asyncio
import re
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from lab.speed import within
from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.global_scope import ContainersOfNetworks
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.table import Tables
from tests.unit.dns.names import key, record
from tests.unit.running import LAN, Running, free_address, running, with_networks


def _window(subnet: str) -> tuple[int, int]:
    network = ip_network(subnet)
    return int(network[0]), int(network[-1]) + 1


def test_containers_are_counted_by_network_and_subnet() -> None:
    """As names come, change and go; two families, and what is no address counts for none."""
    containers, (first, stop) = ContainersOfNetworks(), _window("10.65.0.0/24")
    web, db, other = record(1, "web", ipv6=True), record(2, "db"), record(3, "x", network="dmz")
    far, junk = record(300, "far"), msgspec.structs.replace(record(4, "junk"), address="here")
    cache = ResponseCache(5)
    cache.tell_addresses(containers.change)
    cache.update(put=[(key(each), each) for each in (web, db, other, far, junk)])
    assert containers.held_in("lan" * 8, 4, first, stop) == 2
    assert containers.held_in("lan" * 8, 6, *_window("fd65::/64")) == 1
    assert containers.held_in("dmz" * 8, 4, first, stop) == 1
    moved = msgspec.structs.replace(web, address="10.65.0.9", address6="")
    cache.update(put=[(key(web), moved)], deleted=[key(db), f"names/{db.network}/h1/never-there"])
    assert containers.held_in("lan" * 8, 4, first, stop) == 1
    assert containers.held_in("lan" * 8, 6, *_window("fd65::/64")) == 0
    assert containers.held_in("none", 4, first, stop) == 0


def _value(text: str, sample: str) -> float | None:
    found = re.search(rf"^macvlan_global_{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


async def _until(daemon: Running, sample: str, value: float) -> str:
    async with within(60):
        while _value(text := await daemon.metrics(), sample) != value:  # noqa: ASYNC110 - each look is a scrape
            await asyncio.sleep(0.01)
    return text


async def test_a_host_of_a_cluster_tells_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The hosts, the store and its watches; the containers of other hosts are seen in the pool by their names."""
    store = MemoryStore()
    async with running(tmp_path, capsys, name="anna", shared=store.client(), metrics=free_address()) as anna:
        await with_networks(anna)
        async with running(tmp_path, capsys, name="bert", shared=store.client()):
            await _until(anna, 'hosts{state="up"}', 2)
        text = await _until(anna, 'hosts{state="up"}', 1)
        assert _value(text, 'hosts{state="down"}') == 1
        for watch in ("alive", "avoided", "definitions", "names", "removed"):
            text = await _until(anna, f'store_watch_up{{watch="{watch}"}}', 1)
        assert _value(text, 'store_up{store="cluster"}') == _value(text, 'store_up{store="host"}') == 1
        assert _value(text, "store_pending_writes") == 0
        assert (_value(text, 'store_operations_total{operation="lease",outcome="done",store="cluster"}') or 0) > 0
        tables = Tables(store.client(), MemoryStore())
        (network,) = {each.network for each in [row.record for row in await tables.addresses.scan()] if each.endpoint}
        assert network == LAN
        for number in range(20, 30):
            told = msgspec.structs.replace(record(number, "web"), network=network)
            await tables.names.put(told, told.network, told.host, told.endpoint)
        held = 'pool_held_addresses{network="lan",subnet="10.65.0.0/24"}'
        text = await _until(anna, held, 10)
        assert _value(text, held.replace("held", "free")) == 244
