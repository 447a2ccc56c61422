"""Large prefixes of Consul are read by pages, and watches know what they have told."""

import json
import random

import pytest

from macvlan_global.errors import Unavailable
from macvlan_global.store.access import StoreAccess
from macvlan_global.store.open import open_cluster_store
from macvlan_global.store.ports import Entry
from macvlan_global.store.remote.consul_pages import PAGE, PIECE, STEPS, names_in, pages
from macvlan_global.store.remote.known import Known
from testkit.fake_consul import FakeConsul
from testkit.fake_http import HttpCall, HttpReply, HttpServer

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize("count", [0, 1, 3, 2_000])
def test_names_are_read_by_pieces(count: int) -> None:
    """Whatever is in them."""
    names = [f'r/{number:04}","\\"{"ü" * 50},' for number in range(count)]
    body = json.dumps(names, separators=(",", ":")).encode()
    pieces = list(names_in(body))
    assert [name for piece in pieces for name in piece] == names
    assert len(pieces) >= len(body) // (PIECE * 2)


def test_what_is_no_list_of_names_is_refused() -> None:
    """With the store's name."""
    with pytest.raises(Unavailable, match="Consul's answer cannot be parsed"):
        list(names_in(b"<html>"))


def _names(lot: random.Random, count: int) -> list[str]:
    alphabet = "ab/\U0010ffff"
    return sorted({"r/" + "".join(lot.choices(alphabet, k=lot.randint(1, 9))) for _ in range(count)})


@pytest.mark.parametrize("seed", range(20))
def test_pages_hold_each_name_once(seed: int) -> None:
    """In order, not too many together, and none without need for one alone."""
    lot = random.Random(seed)  # noqa: S311 - a test's lot
    names, most = _names(lot, 300), lot.choice([1, 3, 20, 1000])
    found = []
    for page in pages(names, most):
        below = [name for name in names if name == page.alone or name.startswith(page.trees or ("\0",))]
        assert 0 < len(below) <= most
        assert len(page.trees) <= STEPS
        found += below
    assert found == names


async def test_known_keys_tell_what_is_new() -> None:
    """Changed, new and gone below what was read, and nothing of the rest."""
    known = await Known.of([Entry("a/1", b"", 1), Entry("a/2", b"", 2), Entry("b/1", b"", 3)])
    found = [Entry("a/1", b"", 1), Entry("a/3", b"x", 9)]
    assert known.take(["a/"], found) == ((found[1],), ("a/2",))
    assert known.take(["a/"], found) == ((), ())
    assert known.take(["a/1", "a/"], []) == ((), ("a/1", "a/3"))
    assert known.below("") == ["b/1"]
    assert len(known) == 1
    assert await known.take_all(found) == (tuple(found), ("b/1",))
    assert await known.take_all(found) == ((), ())
    assert known.below("") == ["a/1", "a/3"]


async def test_a_page_that_fails_is_read_again_and_no_other() -> None:
    """A whole read goes on at the page that failed."""
    consul, asked = FakeConsul(), list[bytes]()

    async def answer(call: HttpCall) -> HttpReply:
        if call.path == "/v1/txn" and b"get-tree" in call.body:
            asked.append(call.body)
            if len(asked) in {2, 3}:
                return HttpReply(500, b"busy")
        return await consul.answer(call)

    async with HttpServer(answer) as server:
        store = open_cluster_store(f"consul://{server.address}/test", StoreAccess())
        for number in range(3 * PAGE):
            await store.create(f"k/{number:04}", b"x")
        assert [entry.key for entry in await store.scan("k/")] == [f"k/{number:04}" for number in range(3 * PAGE)]
        assert asked[1] == asked[2] == asked[3]
        assert len(set(asked)) == len(asked) - 2 >= 3
        await store.close()
