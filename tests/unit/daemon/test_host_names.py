"""The host's own name, for its containers."""

from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.dns.resolver.feed import Feed
from macvlan_global.global_scope import OwnName
from macvlan_global.host_access.desired import HostReach
from macvlan_global.ipam.owners import Identity
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Batch
from macvlan_global.store.records import NetworkRecord
from macvlan_global.store.table import Tables
from tests.unit.dns.names import ask, texts

LAN = NetworkRecord(id="n1", name="lan", given={}, at=0)
APART = NetworkRecord(id="n2", name="apart", given={}, at=0)


def _cache() -> ResponseCache:
    cache = ResponseCache(5)
    cache.set_awaited(frozenset())
    cache.set_networks_here(frozenset({"n1", "n2"}))
    return cache


def test_the_hosts_name_is_the_address_at_which_containers_reach_it() -> None:
    """With the network's name and without; where networks have different ones, with it only; until it is no more."""
    cache = _cache()
    names = OwnName(cache, Identity("id-of-a", "run", "boot", "alpha"))
    names.set([HostReach(LAN, "10.8.0.2"), HostReach(APART)])
    assert texts(ask(cache, "alpha")) == texts(ask(cache, "alpha.lan")) == ["NOERROR", "10.8.0.2"]
    names.set([HostReach(LAN, "10.8.0.2"), HostReach(APART, "10.65.0.2")])
    assert texts(ask(cache, "alpha"))[0] == "REFUSED"
    assert texts(ask(cache, "alpha.apart")) == ["NOERROR", "10.65.0.2"]
    names.set([])
    assert texts(ask(cache, "alpha.lan"))[0] == "REFUSED"


async def test_the_hosts_name_outlasts_a_store_that_is_read_anew() -> None:
    """It is not in the store."""
    cache, store = _cache(), MemoryStore()
    OwnName(cache, Identity("id-of-a", "run", "boot", "alpha")).set([HostReach(LAN, "10.8.0.2")])
    feed = Feed(store, Tables(store, store).names, cache)
    await feed._take("n1", Batch(whole=True))
    await feed._forget("n1")
    assert texts(ask(cache, "alpha")) == ["NOERROR", "10.8.0.2"]
