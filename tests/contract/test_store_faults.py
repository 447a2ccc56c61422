"""Cluster stores when members die, stand still, lose answers, forget and are restored: on real clusters of three."""

import asyncio
import base64
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import aiohttp
import pytest

from lab import ConsulCluster, EtcdCluster, TcpProxy
from lab.cluster import Cluster
from lab.speed import Allowance, patience, within
from macvlan_global.errors import Unavailable
from macvlan_global.store.follow import PrefixFollower
from macvlan_global.store.open import NO_ACCESS, StoreAccess, open_cluster_store
from macvlan_global.store.ports import Batch, ClusterStore
from macvlan_global.store.remote.members import DEADLINE, LOST, REFUSAL
from testkit.cluster_contract import LEASE, Mirror

GROUP = "names/n/"
KINDS = {"etcd": EtcdCluster, "consul": ConsulCluster}
SLACK = 1.0
"""Seconds by which a machine may be late that has little else to do."""


@pytest.fixture(scope="module", params=list(KINDS))
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three members; each test leaves them all running."""
    with KINDS[request.param](3) as made:
        yield made


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[TcpProxy]:
    """A way to the first member that can be broken."""
    with TcpProxy(cluster.endpoints[0]) as made:
        yield made


@pytest.fixture
def restart() -> Iterator[contextlib.ExitStack]:
    """What is to be started again when the test is over, however it ends."""
    with contextlib.ExitStack() as stack:
        yield stack


@contextlib.asynccontextmanager
async def opened(
    cluster: Cluster, ways: Sequence[str], access: StoreAccess = NO_ACCESS, prefix: str | None = None
) -> AsyncIterator[ClusterStore]:
    """A store by these ways, below a prefix where nothing is unless one is named."""
    store = open_cluster_store(cluster.url_through(ways, prefix or f"test/{uuid.uuid4().hex}"), access)
    try:
        yield store
    finally:
        await store.close()


async def _fails(store: ClusterStore, key: str = "x") -> float:
    """Seconds until the store gave up."""
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"does not answer|did not answer"):
        await store.get(key)
    return time.monotonic() - begun


async def _works(store: ClusterStore, seconds: float) -> float:
    """Seconds until a write succeeded."""
    begun, limit = time.monotonic(), Allowance(seconds)
    while True:
        with contextlib.suppress(Unavailable):
            assert await store.create(f"works/{uuid.uuid4().hex}", b"x")
            return time.monotonic() - begun
        assert not limit.over
        await asyncio.sleep(0.05)


async def test_a_killed_leader_costs_seconds_and_no_key(cluster: Cluster, restart: contextlib.ExitStack) -> None:
    """Writers go on by the other members; what was answered stays; a watch at the leader loses nothing."""
    leader = cluster.leader()
    ways = [cluster.endpoints[leader], *(way for way in cluster.endpoints if way != cluster.endpoints[leader])]
    answered: set[str] = set()
    stop = asyncio.Event()

    async def write(store: ClusterStore, writer: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"k/{writer}/{number}"
            try:
                # only we make this key: None would be our own key, taken for somebody else's
                assert await store.create(key, uuid.uuid4().bytes), key
            except Unavailable:
                await asyncio.sleep(0.02)
            else:
                answered.add(key)

    async with opened(cluster, ways) as store, Mirror(store, "k/", persistent=True) as mirror:
        lease = await store.lease(LEASE)
        assert await store.create_with(lease, "alive", b"x")
        writers = [asyncio.ensure_future(write(store, writer)) for writer in range(4)]
        await mirror.until(lambda: len(mirror.known) > 20)
        restart.callback(cluster.start, leader)
        await asyncio.to_thread(cluster.kill, leader)
        took = await _works(store, 15)
        before = len(answered)
        await mirror.until(lambda: len(answered) > before + 20)
        stop.set()
        await asyncio.gather(*writers)
        there = {entry.key: entry.value for entry in await store.scan("k/")}
        assert answered <= set(there)
        await mirror.until(lambda: mirror.known == there)
        assert await lease.renew()
        assert await store.get("alive")
    print(f"{cluster.scheme}: {took:.1f} s without a leader, {len(answered)} keys")


async def test_a_member_that_says_nothing_is_left(cluster: Cluster, proxy: TcpProxy) -> None:
    """An operation goes to the next member within its time, later ones at once; a watch goes over, too."""
    async with opened(cluster, [proxy.endpoint, cluster.endpoints[1]]) as store, Mirror(store, "k/") as mirror:
        entry = await store.create("k/1", b"1")
        assert entry
        proxy.hold()
        begun = time.monotonic()
        changed = await store.replace(entry, b"2")
        first = time.monotonic() - begun
        assert changed
        assert await store.delete(changed)
        assert await store.create("k/2", b"3")
        assert first < DEADLINE
        assert time.monotonic() - begun - first < patience(SLACK)
        await mirror.until(lambda: mirror.known == {"k/2": b"3"})
        assert [batch.whole for batch in mirror.batches[1:]] == [False] * (len(mirror.batches) - 1)


async def test_a_store_that_is_away_is_given_up_in_time(cluster: Cluster) -> None:
    """Refused or without a word; then others fail at once, and soon after it is back it is asked again."""

    async def away(hinder: Callable[[TcpProxy], None]) -> None:
        with TcpProxy(cluster.endpoints[0]) as proxy:
            async with opened(cluster, [proxy.endpoint]) as store:
                await _works(store, DEADLINE)
                hinder(proxy)
                assert DEADLINE - 0.5 < await _fails(store) < DEADLINE + patience(SLACK)
                assert await _fails(store) < patience(0.1)
                proxy.mend()
                assert await _works(store, REFUSAL + DEADLINE) < REFUSAL + patience(SLACK)

    await asyncio.gather(away(TcpProxy.cut), away(TcpProxy.hold), _breaks_a_watch(cluster))


async def _breaks_a_watch(cluster: Cluster) -> None:
    with TcpProxy(cluster.endpoints[0]) as proxy:
        async with opened(cluster, [proxy.endpoint]) as store:
            watch = store.watch("")
            assert (await anext(watch)).whole
            proxy.cut()
            with pytest.raises(Unavailable, match="does not answer"):
                async with within(LOST + 2 * SLACK):
                    await anext(watch)


@pytest.mark.parametrize("action", ["create", "create_with", "create over", "replace", "delete"])
async def test_each_write_whose_answer_was_lost(cluster: Cluster, proxy: TcpProxy, action: str) -> None:
    """It was done once. Of a delete nobody can tell afterwards whose it was, so that is an error."""
    async with opened(cluster, [proxy.endpoint, cluster.endpoints[1]]) as store:
        entry, lease = await store.create("there", b"1"), await store.lease(LEASE)
        assert entry
        proxy.lose_answers()
        if action == "delete":
            with pytest.raises(Unavailable, match="not known"):
                await store.delete(entry)
            assert await store.get("there") is None
            return
        if action == "replace":
            done = await store.replace(entry, b"2")
        else:
            over = entry if action == "create over" else None
            key = "there" if over else "new"
            done = await (store.create(key, b"2") if action == "create" else store.create_with(lease, key, b"2", over))
        assert done
        assert await store.get(done.key) == done
        if done.leased:
            await lease.end()
            assert await store.get(done.key) is None


async def test_writes_that_shared_a_lost_answer(cluster: Cluster, proxy: TcpProxy) -> None:
    """Each finds out for itself: ours were done once, and what somebody else has stays."""
    async with opened(cluster, [proxy.endpoint, cluster.endpoints[1]]) as store:
        theirs = await store.create("k/theirs", b"1")
        assert theirs
        proxy.lose_answers()
        *made, late = await asyncio.gather(
            *(store.create(f"k/{number}", b"%d" % number) for number in range(20)), store.create("k/theirs", b"2")
        )
        assert late is None
        assert await store.scan("k/") == sorted([theirs, *filter(None, made)], key=lambda entry: entry.key)
        assert [entry and entry.value for entry in made] == [b"%d" % number for number in range(20)]


async def test_a_slow_member_is_waited_for(cluster: Cluster, proxy: TcpProxy) -> None:
    """Slow is not dead: it answers within the time that an operation has."""
    async with opened(cluster, [proxy.endpoint]) as store:
        proxy.delay(0.3)
        begun = time.monotonic()
        assert await store.create("a", b"x")
        assert 0.3 < time.monotonic() - begun < DEADLINE


async def test_a_restored_store_is_read_anew(cluster: Cluster, tmp_path: Path) -> None:
    """A watch gives all that is there now as one whole batch: without what was written since the snapshot."""
    async with opened(cluster, cluster.endpoints) as store:
        for prefix in ("k/", GROUP):
            await store.create(f"{prefix}old", b"1")
        await asyncio.to_thread(cluster.save, tmp_path / "snapshot")
        for prefix in ("k/", GROUP):
            await store.create(f"{prefix}new", b"2")
        async with Mirror(store, "k/") as plain, Mirror(store, GROUP) as group:
            both = {"k/": plain, GROUP: group}
            assert all(set(mirror.known) == {f"{prefix}old", f"{prefix}new"} for prefix, mirror in both.items())
            await asyncio.to_thread(cluster.restore, tmp_path / "snapshot")
            for prefix, mirror in both.items():
                await mirror.until(lambda mirror=mirror, old=f"{prefix}old": set(mirror.known) == {old})  # type: ignore[misc]
                assert mirror.batches[-1].whole
            await _works(store, 5)
            for prefix, mirror in both.items():
                await store.create(f"{prefix}later", b"3")
                await mirror.until(lambda mirror=mirror, later=f"{prefix}later": later in mirror.known)  # type: ignore[misc]
                assert set(mirror.known) == {f"{prefix}old", f"{prefix}later"}


async def test_a_write_whose_answer_was_lost_is_told(cluster: Cluster, proxy: TcpProxy) -> None:
    """To those who follow its group: what was done was told, whoever heard of it."""
    async with (
        opened(cluster, [proxy.endpoint, cluster.endpoints[1]], prefix="lost") as store,
        opened(cluster, cluster.endpoints[1:], prefix="lost") as other,
        Mirror(other, GROUP) as mirror,
    ):
        entry = await store.create(f"{GROUP}h/e", b"1")
        assert entry
        proxy.lose_answers()
        assert await store.replace(entry, b"2")
        await mirror.until(lambda: mirror.known == {f"{GROUP}h/e": b"2"})
        proxy.mend()


class _Follower:
    """The consumer of a follower, and what it knows."""

    def __init__(self, store: ClusterStore) -> None:
        self.known: dict[str, bytes] = {}
        self.wholes = 0
        self._changed = asyncio.Event()
        self._lost = asyncio.Event()
        self._follower = PrefixFollower(store, GROUP, self._take, on_lost=self._lost.set)

    async def _take(self, batch: Batch) -> None:
        self.wholes += batch.whole
        if batch.whole:
            self.known.clear()
        self.known |= {entry.key: entry.value for entry in batch.entries}
        for key in batch.gone:
            self.known.pop(key, None)
        self._changed.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["_Follower"]:
        task = asyncio.ensure_future(self._follower.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def lost(self) -> None:
        """Return when its watch has ended."""
        self._lost.clear()
        async with within(LOST + 5):
            await self._lost.wait()

    async def until(self, keys: set[str]) -> None:
        """Return when it knows these keys, without their prefix."""
        async with within(20):
            while {key.removeprefix(GROUP) for key in self.known} != keys:
                self._changed.clear()
                await self._changed.wait()


async def test_after_an_outage_a_follower_goes_on_where_it_was(cluster: Cluster, tmp_path: Path) -> None:
    """It hears what happened meanwhile, and reads everything only if the store was restored from an older copy."""
    with TcpProxy(cluster.endpoints[0]) as proxy:
        async with (
            opened(cluster, [proxy.endpoint], prefix="outage") as ours,
            opened(cluster, cluster.endpoints[1:], prefix="outage") as other,
            _Follower(ours).running() as follower,
        ):
            doomed = await other.create(f"{GROUP}h/doomed", b"1")
            assert doomed
            assert await other.create(f"{GROUP}h/kept", b"1")
            await follower.until({"h/doomed", "h/kept"})
            proxy.cut()
            await follower.lost()
            assert await other.delete(doomed)
            assert await other.create(f"{GROUP}h/new", b"1")
            proxy.mend()
            await follower.until({"h/kept", "h/new"})
            assert follower.wholes == 1
            await asyncio.to_thread(cluster.save, tmp_path / "snapshot")
            assert await other.create(f"{GROUP}h/later", b"1")
            await follower.until({"h/kept", "h/new", "h/later"})
            proxy.cut()
            await follower.lost()
            await asyncio.to_thread(cluster.restore, tmp_path / "snapshot")
            await _works(other, 15)
            for number in range(3):  # as much as was lost, so that counting does not tell it
                assert await other.create(f"{GROUP}h/other{number}", b"1")
            proxy.mend()
            await follower.until({"h/kept", "h/new", "h/other0", "h/other1", "h/other2"})
            assert follower.wholes == 2


async def test_a_watch_that_missed_compacted_history_is_read_anew() -> None:
    """What was deleted meanwhile is known to be gone."""
    with EtcdCluster() as cluster, TcpProxy(cluster.endpoints[0]) as proxy:
        async with opened(cluster, [proxy.endpoint]) as store:
            entry = await store.create("k/1", b"1")
            assert entry
            async with Mirror(store, "k/") as mirror:
                proxy.cut()
                await asyncio.to_thread(cluster.etcdctl, "del", "--prefix", "test/")
                await asyncio.to_thread(cluster.compact)
                proxy.mend()
                await mirror.until(lambda: not mirror.known)
                assert [batch.whole for batch in mirror.batches] == [True, True]


async def test_a_watch_of_what_rarely_changes_survives_the_end_of_old_history() -> None:
    """Others write elsewhere, and etcd forgets all of that; it told the quiet watch before how far it is."""
    with EtcdCluster(progress="200ms") as cluster, TcpProxy(cluster.endpoints[0]) as proxy:
        async with opened(cluster, [proxy.endpoint], prefix="test") as store:
            await store.create("k/1", b"1")
            async with Mirror(store, "k/") as mirror:
                await asyncio.to_thread(cluster.etcdctl, "put", "elsewhere", "1")
                await _hear_of_progress(cluster.endpoints[0], times=3)  # the other watch has been told meanwhile
                proxy.cut()
                await asyncio.to_thread(cluster.compact)
                proxy.mend()
                await _works(store, 10)
                await store.create("k/2", b"2")
                await mirror.until(lambda: "k/2" in mirror.known)
                assert [batch.whole for batch in mirror.batches if batch.whole] == [True]


async def _hear_of_progress(endpoint: str, times: int) -> None:
    """Return once etcd has told another quiet watch so often how far it is."""
    wanted = {"key": base64.b64encode(b"nobody").decode(), "progress_notify": True}
    async with (
        asyncio.timeout(patience(20)),
        aiohttp.ClientSession() as session,
        session.post(f"http://{endpoint}/v3/watch", json={"create_request": wanted}) as answer,
    ):
        while times:
            line = json.loads(await answer.content.readline())
            times -= not line["result"].get("created", False)


def _access(cluster: Cluster, **secrets: str) -> StoreAccess:
    made = cluster.certificates
    assert made
    return StoreAccess(ca=made.ca, certificate=made.certificate, key=made.key, **secrets)


async def test_etcd_with_certificates_users_and_roles() -> None:
    """A user of a role that may write below our prefix; its token is renewed after the member forgot it."""
    with EtcdCluster(tls=True) as cluster:
        for command in ETCD_ROLE:
            cluster.etcdctl(*command.split())
        cluster.enable_auth()
        ours = _access(cluster, user="mg", password=PASSWORD)
        async with opened(cluster, cluster.endpoints, ours, OUR_PREFIX) as store, Mirror(store, "a/") as mirror:
            lease = await store.lease(LEASE)
            assert await store.create_with(lease, "a/1", b"x")
            await mirror.until(lambda: "a/1" in mirror.known)
            await asyncio.to_thread(cluster.kill, 0)
            await asyncio.to_thread(cluster.start, 0)
            await _works(store, 10)
            await lease.end()
            await mirror.until(lambda: not mirror.known)
        said = await asyncio.gather(
            _refusal(cluster, _access(cluster, user="mg", password=PASSWORD[::-1]), "does not accept user 'mg'"),
            _refusal(cluster, _access(cluster), "etcd refuses"),
            _refusal(cluster, StoreAccess(user="mg", password=PASSWORD), "certificate"),
        )
        assert not any(PASSWORD in text or PASSWORD[::-1] in text for text in said)
        async with opened(cluster, cluster.endpoints, ours, "other") as elsewhere:
            with pytest.raises(Unavailable, match="permission denied"):
                await elsewhere.create("a", b"x")
            with pytest.raises(Unavailable, match="permission denied"):
                await anext(elsewhere.watch(""))


async def _refusal(cluster: Cluster, access: StoreAccess, words: str) -> str:
    """What the store says to such a client; one that had no time to say it is asked again."""
    limit = Allowance(20)
    async with opened(cluster, cluster.endpoints, access, OUR_PREFIX) as store:
        while True:
            with pytest.raises(Unavailable) as error:
                await store.create("a", b"x")
            said = str(error.value)
            if "no answer in time" not in said or limit.over:
                assert words in said
                return said


OUR_PREFIX, PASSWORD = "macvlan-global", "secret"
ETCD_ROLE = (
    "role add macvlan-global",
    "role grant-permission macvlan-global --prefix=true readwrite macvlan-global/",
    "user add mg:secret",
    "user grant-role mg macvlan-global",
)

CONSUL_POLICY = 'key_prefix "macvlan-global/" { policy = "write" } session_prefix "" { policy = "write" }'


async def test_consul_with_certificates_and_a_token() -> None:
    """A token of a policy that may write below our prefix and keep sessions, and nothing else."""
    with ConsulCluster(tls=True, acl=True) as cluster:
        token = cluster.new_token(CONSUL_POLICY)
        ours = _access(cluster, token=token)
        async with opened(cluster, cluster.endpoints, ours, OUR_PREFIX) as store, Mirror(store, "a/") as mirror:
            lease = await store.lease(LEASE)
            assert await lease.renew()
            assert await store.create_with(lease, "a/1", b"x")
            assert await store.create("a/1", b"y") is None
            await mirror.until(lambda: "a/1" in mirror.known)
            await lease.end()
            await mirror.until(lambda: not mirror.known)
        said = await asyncio.gather(
            _refusal(cluster, _access(cluster, token=str(uuid.uuid4())), "Consul refuses"),
            _refusal(cluster, _access(cluster), "Consul refuses"),
            _refusal(cluster, StoreAccess(token=token), "certificate"),
        )
        assert not any(token in text for text in said)
        async with opened(cluster, cluster.endpoints, ours, "other") as elsewhere:
            with pytest.raises(Unavailable, match="Consul refuses"):
                await elsewhere.create("a", b"x")
        reader = _access(cluster, token=cluster.new_token('key_prefix "macvlan-global/" { policy = "read" }'))
        async with opened(cluster, cluster.endpoints, reader, OUR_PREFIX) as store:
            with pytest.raises(Unavailable, match=r"Consul refuses.*[Pp]ermission denied"):
                await anext(store.watch(GROUP))
