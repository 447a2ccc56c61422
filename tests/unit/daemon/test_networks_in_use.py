"""Networks that this host's containers are on, for the resolver's names without a network."""

import asyncio
from collections.abc import Callable, Collection, Iterable

from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.global_scope import FollowedNetworks, NetworksInUse
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import EndpointRecord, NetworkRecord
from macvlan_global.store.table import Tables
from tests.unit.dns.names import ask, key, record, texts


def _endpoint(number: int, network: str) -> EndpointRecord:
    return EndpointRecord(network=network, id=f"e{number}", mac="", link="", boot="", at=0)


async def test_the_resolver_knows_which_networks_are_used_here() -> None:
    """From the records of an earlier run, by the ids in the cluster; then with each endpoint that comes and goes."""
    tables = Tables(MemoryStore(), MemoryStore())
    cache = ResponseCache(5)
    for each in (record(1, "db", network="shop"), record(2, "mail", network="blog")):
        cache.update(put=[(key(each), each)])
    cache.set_awaited(frozenset())
    await tables.networks.put(NetworkRecord(id="here", cluster="shop" * 8, given={}, at=0), "here")
    await tables.endpoints.put(_endpoint(1, "here"), "here", "e1")
    deleted: list[EndpointRecord] = []
    in_use = NetworksInUse(tables, cache, deleted.append)
    in_use.add(_endpoint(2, "other"), "blog" * 8)
    await in_use.load()
    assert [texts(ask(cache, name)) for name in ("db", "mail")] == [["NOERROR", "10.65.0.1"], ["NOERROR", "10.65.0.2"]]
    in_use.drop(_endpoint(1, "here"))
    assert [texts(ask(cache, name))[0] for name in ("db", "db.shop", "mail")] == ["REFUSED", "NOERROR", "NOERROR"]
    assert [each.id for each in deleted] == ["e1"]


async def test_who_follows_networks_is_told_when_they_change() -> None:
    """Not of each container: of the first one on a network, and of the last. Nothing before earlier runs are known."""
    tables = Tables(MemoryStore(), MemoryStore())
    told: list[set[str]] = []
    in_use = NetworksInUse(tables, ResponseCache(5))
    in_use.tell(lambda networks: told.append(set(networks)))
    in_use.add(_endpoint(1, "lan"), "lan")
    assert told == []
    await in_use.load()
    for number, network in ((2, "lan"), (3, "wan"), (4, "wan")):
        in_use.add(_endpoint(number, network), network)
    for number, network in ((3, "wan"), (1, "lan"), (2, "lan"), (4, "wan"), (4, "wan")):
        in_use.drop(_endpoint(number, network))
    assert told == [{"lan"}, {"lan", "wan"}, {"wan"}, set()]


class _Networks:
    """The networks of a cluster, as replication knows them: lan and wan, and one that lan was before."""

    def __init__(self) -> None:
        self.on_networks: Callable[[], None] = lambda: None
        self.all = {"lan", "wan"}

    def defined(self) -> set[str]:
        return self.all

    def namesakes(self, networks: Collection[str]) -> set[str]:
        return {"old-lan"} if "lan" in networks else set()


class _Wanted:
    """A feed that notes what is wanted of it."""

    def __init__(self) -> None:
        self.wanted: list[set[str]] = []

    def want(self, networks: Iterable[str]) -> None:
        self.wanted.append(set(networks))


async def test_the_networks_that_are_used_are_followed_with_their_namesakes() -> None:
    """Changes of networks of the cluster are looked at together, and not while nothing is used here."""
    networks, feed = _Networks(), _Wanted()
    followed = FollowedNetworks(feed, networks)
    networks.on_networks()
    followed.use(frozenset())
    networks.on_networks()
    followed.use(frozenset({"lan"}))
    for _ in range(3):
        networks.on_networks()
    await asyncio.sleep(0)
    assert feed.wanted == [set(), {"lan", "old-lan"}, {"lan", "old-lan"}]


async def test_a_host_that_serves_the_lan_follows_all_networks() -> None:
    """As they come and go, and those of its own that are defined no more; not before it knows which it uses."""
    networks, feed = _Networks(), _Wanted()
    followed = FollowedNetworks(feed, networks, follow_all=True)
    networks.on_networks()
    await asyncio.sleep(0)
    assert feed.wanted == []
    followed.use(frozenset({"removed"}))
    networks.all = {"lan"}
    networks.on_networks()
    await asyncio.sleep(0)
    assert feed.wanted == [{"lan", "wan", "removed"}, {"lan", "removed"}]
