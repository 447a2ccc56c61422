"""Watches of groups on Consul, on a double: what they read, and what happens to bells."""

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from macvlan_global.errors import Unavailable
from macvlan_global.store.access import StoreAccess
from macvlan_global.store.open import open_cluster_store
from macvlan_global.store.ports import ClusterStore
from macvlan_global.store.remote.bell import BELLS, RING, new_bell, read_bell
from macvlan_global.store.remote.consul_ringing import SWEEP
from macvlan_global.store.remote.consul_watch import CHECK, READ_AGAIN
from macvlan_global.tasks import Crowd
from testkit.cluster_contract import Mirror
from testkit.fake_consul import FakeConsul
from testkit.fake_http import HttpCall, HttpReply, HttpServer

pytestmark = pytest.mark.virtual_time

GROUP = "names/n/"


@dataclass
class _Lab:
    """A Consul, what it was asked, and two clients of it."""

    consul: FakeConsul = field(default_factory=FakeConsul)
    asked: list[HttpCall] = field(default_factory=list)
    sent: int = 0
    stores: list[ClusterStore] = field(default_factory=list)

    async def answer(self, call: HttpCall) -> HttpReply:
        self.asked.append(call)
        reply = await self.consul.answer(call)
        self.sent += len(reply.body)
        return reply

    async def foreign(self, verb: str, key: str, value: bytes = b"") -> None:
        """Somebody writes or deletes a key, and knows nothing of bells."""
        operation: dict[str, str | int] = {
            "Verb": verb,
            "Key": f"test/{key}",
            "Value": base64.b64encode(value).decode(),
        }
        operation["Index"] = self.consul.index_of(f"test/{key}")
        body = json.dumps([{"KV": operation}]).encode()
        assert (await self.consul.answer(HttpCall("PUT", "/v1/txn", {}, {}, body))).status == 200

    def bells(self) -> list[str]:
        """Keys of the bells that there are."""
        return [key.removeprefix("test/") for key in self.consul.names() if key.startswith("test/bell/")]

    def whole_reads(self) -> int:
        """How often the names of all keys of the group were asked for."""
        return sum(call.path == f"/v1/kv/test/{GROUP}" and "keys" in call.query for call in self.asked)


@pytest.fixture
async def lab() -> AsyncIterator[_Lab]:
    """An empty store."""
    made = _Lab()
    async with HttpServer(made.answer) as server:
        made.stores = [open_cluster_store(f"consul://{server.address}/test", StoreAccess()) for _ in range(2)]
        yield made
        for store in made.stores:
            await store.close()


async def test_a_change_is_read_and_nothing_else(lab: _Lab) -> None:
    """However much there is in the group."""
    one, two = lab.stores
    for number in range(300):
        await one.create(f"{GROUP}h{number % 10}/{number}", b"v" * 500)
    async with Mirror(two, GROUP) as mirror:
        assert len(mirror.known) == 300
        before = lab.sent
        await one.create(f"{GROUP}h/new", b"v" * 500)
        await mirror.until(lambda: f"{GROUP}h/new" in mirror.known)
        assert lab.sent - before < 10_000
        assert lab.whole_reads() == 1


async def test_who_fell_behind_reads_all_and_is_told_the_difference(lab: _Lab) -> None:
    """More was rung than a ring holds, while nobody looked: it is no other history."""
    one, two = lab.stores
    await one.create(f"{GROUP}h/first", b"x")
    async with Mirror(two, GROUP) as mirror:
        position = mirror.batches[0].position
    for number in range(BELLS * RING + 1):
        await one.create(f"{GROUP}h/{number}", b"x")
    batch = await anext(two.watch(GROUP, position))
    assert not batch.whole
    assert len(batch.entries) == BELLS * RING + 1
    assert lab.whole_reads() == 2


@pytest.mark.parametrize("verb", ["cas", "delete-cas"])
async def test_what_a_foreign_writer_did_is_seen_later(lab: _Lab, verb: str) -> None:
    """Who rings no bell is found out within minutes, without reading more than an index each time."""
    one, two = lab.stores
    await one.create(f"{GROUP}h/a", b"1")
    await one.create(f"{GROUP}h/b", b"1")
    async with Mirror(two, GROUP) as mirror:
        await asyncio.sleep(CHECK * 5)
        assert lab.whole_reads() == 1, "nothing was written"
        await lab.foreign(verb, f"{GROUP}h/a", b"2")
        await mirror.until(lambda: mirror.known.get(f"{GROUP}h/a") != b"1", CHECK * 3)
        assert mirror.known == ({f"{GROUP}h/b": b"1"} | ({f"{GROUP}h/a": b"2"} if verb == "cas" else {}))
        assert not mirror.batches[-1].whole
        await asyncio.sleep(CHECK * 5)
        assert lab.whole_reads() == 2, "it is accounted for"


async def test_a_forgotten_tombstone_of_a_bell_is_no_restored_store(lab: _Lab) -> None:
    """Somebody deleted a bell before the watch began, and Consul forgets that: the index of the bells falls. What is
    read again later, as somebody wrote without ringing, is told as a difference."""
    one, two = lab.stores
    for number in range(50):
        await one.create(f"{GROUP}h/{number}", b"x")
    await lab.foreign("delete-cas", lab.bells()[0])
    async with Mirror(two, GROUP) as mirror:
        lab.consul.reap_tombstones()
        await lab.foreign("cas", f"{GROUP}h/new", b"x")
        await mirror.until(lambda: f"{GROUP}h/new" in mirror.known, CHECK * 5)
        assert [batch.whole for batch in mirror.batches] == [True, False]


async def test_a_restored_store_is_told_whole(lab: _Lab) -> None:
    """The bells that were seen are newer than those that are there."""
    one, two = lab.stores
    await one.create(f"{GROUP}h/old", b"x")
    copy = lab.consul.save()
    await one.create(f"{GROUP}h/new", b"x")
    async with Mirror(two, GROUP) as mirror:
        await asyncio.sleep(
            1
        )  # it waits for a bell: a restore ends that, while who comes later waits for the old index
        lab.consul.restore(copy)
        await mirror.until(lambda: set(mirror.known) == {f"{GROUP}h/old"}, READ_AGAIN * 2)
        assert [batch.whole for batch in mirror.batches] == [True, True]


@pytest.mark.parametrize("value", [None, b"", b"garbage", b'{"v":2}'])
async def test_a_bell_that_is_gone_or_overwritten_is_made_anew(lab: _Lab, value: bytes | None) -> None:
    """By the next who looks at it, and nothing is lost."""
    one, two = lab.stores
    await one.create(f"{GROUP}h/a", b"1")
    async with Mirror(two, GROUP) as mirror:
        for bell in lab.bells():
            await lab.foreign("delete-cas" if value is None else "cas", bell, value or b"")
        await lab.foreign("cas", f"{GROUP}h/b", b"1")
        await mirror.until(lambda: f"{GROUP}h/b" in mirror.known, READ_AGAIN)
        await one.create(f"{GROUP}h/c", b"1")
        await mirror.until(lambda: f"{GROUP}h/c" in mirror.known)
    assert [entry.key for entry in await one.scan("")] == [f"{GROUP}h/{each}" for each in "abc"]


async def test_a_writer_makes_a_bell_anew_too(lab: _Lab) -> None:
    """And writes with it, whatever was there."""
    one, _ = lab.stores
    for value in (b"garbage", b""):
        for number in range(BELLS):
            await lab.foreign("cas", f"bell/{GROUP}{number}", value)
        assert await one.create(f"{GROUP}h/{len(value)}", b"1")
        found = [read_bell(lab.consul.value_of(f"test/{each}")) for each in lab.bells()]
        assert [bell.count for bell in found if bell] == [1]


async def test_the_bell_of_a_network_that_is_gone_is_deleted(lab: _Lab) -> None:
    """A while after its last key, by those who followed it; a table's bell stays."""
    one, two = lab.stores
    for group in (GROUP, "definitions/"):
        entry = await one.create(f"{group}h/a", b"1")
        assert entry
        async with Mirror(two, group) as mirror:
            assert await one.delete(entry)
            await mirror.until(lambda mirror=mirror: not mirror.known)  # type: ignore[misc]
    kept = await one.create("names/kept/h/a", b"1")
    assert kept
    async with Mirror(two, "names/kept/"):
        pass
    await asyncio.sleep(SWEEP * 3)
    assert {key.rstrip("01234567") for key in lab.consul.names()} == {
        "test/bell/definitions/",
        "test/bell/names/kept/",
        "test/names/kept/h/a",
    }


async def test_the_bell_of_a_network_that_nobody_follows_is_deleted_too(lab: _Lab) -> None:
    """By who deleted its last key."""
    one, _ = lab.stores
    entry = await one.create(f"{GROUP}h/a", b"1")
    assert entry
    assert await one.delete(entry)
    await asyncio.sleep(SWEEP * 3)
    assert lab.consul.names() == []


async def test_a_writer_whom_others_always_outrun_gives_up_in_time(lab: _Lab) -> None:
    """With the reason, and nothing was written."""
    one, _ = lab.stores

    async def outrun() -> None:
        for number in range(BELLS):
            await lab.foreign("cas", f"bell/{GROUP}{number}", json.dumps({"e": new_bell().epoch}).encode())

    await outrun()
    lab.consul.before_transaction = outrun
    with pytest.raises(Unavailable, match="too many hosts write below names/n/ at the same time"):
        await one.create(f"{GROUP}h/a", b"1")
    lab.consul.before_transaction = None
    assert await one.create(f"{GROUP}h/a", b"2")


async def test_many_hosts_do_not_read_again_together() -> None:
    """What each waits for grows with their number."""
    consul = _Lab()
    async with HttpServer(consul.answer) as server:
        random.seed(1)  # our own code draws its pauses from here
        crowd = Crowd()
        crowd.hosts = 1000
        store = open_cluster_store(f"consul://{server.address}/test", StoreAccess(), crowd)
        async with Mirror(store, GROUP) as mirror:
            begun = asyncio.get_running_loop().time()
            for bell in consul.bells():
                await consul.foreign("delete-cas", bell)
            while consul.whole_reads() == 1:  # noqa: ASYNC110 # nothing of ours tells when
                await asyncio.sleep(0.1)
            assert asyncio.get_running_loop().time() - begun > 0.2
            assert len(mirror.batches) == 1
        await store.close()
