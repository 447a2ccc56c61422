"""Eight hosts with real drivers on a real store of three members, users without rest, and faults of every kind.

The engines are played at the plugin sockets, and show their drivers truthfully who runs. Everything that was asked and
answered is one history. When all is mended, repaired and still, nobody may ever have had an address that somebody else
had, and the store must say exactly what is so.
"""

import asyncio
import contextlib
import os
import random
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lab.cluster_site import ClusterSite, StoreKind
from lab.proxy import TcpProxy
from lab.site import links
from lab.speed import within
from testkit.fake_engine import Subnet
from testkit.history import Event, Violation, compare_end, judge
from testkit.plugin_socket import Refused
from tests.faults.played_host import PlayedHost
from tests.faults.trouble import Trouble, until

HOSTS = 8
OPERATIONS = int(os.environ.get("MACVLAN_GLOBAL_TESTS_OPERATIONS") or 26_000)
"""On each store; requests that the driver answered, and not those to which it said that the store is away. After a
change to addresses, 100,000 are run by hand."""
LOAD_SECONDS = OPERATIONS / 125
"""For a machine that has much else to do."""
REPAIR_GRACE = 20.0
"""For --repair-grace, in seconds: longer than an engine repeats a call whose connection broke."""
HOST_GRACE = 10.0
FLAGS = ("--log-level=info", f"--repair-grace={REPAIR_GRACE:g}", f"--host-grace={HOST_GRACE:g}")
SEED = int(os.environ.get("MACVLAN_GLOBAL_TESTS_SEED") or secrets.randbelow(1_000_000))
ROUNDS = 8
SETTLE_SECONDS = 60.0
WIDE = Subnet("10.80.0.0/24", gateway="10.80.0.254", aux={"router": "10.80.0.253"})
BESIDE = Subnet("10.80.0.0/24", range="10.80.0.128/25", gateway="10.80.0.254", aux={"router": "10.80.0.253"})
"""On the same wire as WIDE: they overlap, and have one router."""
TIGHT = Subnet("10.81.0.0/27", gateway="10.81.0.1")
NETWORKS = {"wide": WIDE, "beside": BESIDE, "tight": TIGHT}
OWN = ("10.80.0.3", "10.80.0.17")
"""Addresses that the first hosts have themselves; users wish for them too."""
_REPAIRED = re.compile(r"^(\S+ \S+),(\d+) INFO .*repair: (GiveBackAddress|DeleteEndpoint) (.*?): (.*)$", re.MULTILINE)
_BEGUN = re.compile(r" from ([\d.]+) to ")


@pytest.mark.slow
@pytest.mark.parametrize("store", ["consul", "etcd"])
async def test_no_address_has_two_holders(store: StoreKind, tmp_path: Path, tell: Callable[[str], None]) -> None:
    """Over tens of thousands of requests with faults: each address has one holder, and none is lost."""
    history: list[Event] = []
    began = time.monotonic()
    async with _cluster(store, history) as (site, hosts, proxies):
        lot = _lot("faults")
        trouble = Trouble(site, hosts, proxies, history, lot, folder=tmp_path, flags=FLAGS)
        await until(lambda: trouble.addresses_of_hosts() >= set(OWN), SETTLE_SECONDS)
        await _make_networks(hosts)
        loaded = time.monotonic()
        for host in hosts:
            host.begin()
        async with within(LOAD_SECONDS):
            await trouble.run(lambda: _operations(hosts) >= OPERATIONS)
        await asyncio.gather(*(host.rest() for host in hosts))
        seconds = time.monotonic() - loaded
        told = await _settle(hosts)
        await trouble.confirm()
        found = await _examine(hosts, trouble)
        found += list(_given_of_hosts(history))
        before = [*history, *(each for host in hosts for each in _taken_back(host))]
        summary = list(_summary(store, hosts, trouble))
        injected = await _inject(hosts, trouble)
    verdict = judge(before)
    violations = [*verdict.violations, *found]
    for line in summary:
        tell(line)
    tell(
        f"  {len(violations)} violations; {len(verdict.excused)} pairs that a restored snapshot explains, the last "
        f"{_latest(verdict.excused, before):.1f} s after it"
    )
    tell(
        f"  at the end repair told of {told} containers without address; load {seconds:.0f} s, "
        f"all {time.monotonic() - began:.0f} s"
    )
    assert not violations, _story(violations, before)
    # and it would have been seen
    assert [each.address for each in judge(history).violations if each.kind == "two holders"] == [injected]


# ------------------------------------------------------------------ the stage


@contextlib.asynccontextmanager
async def _cluster(
    store: StoreKind, history: list[Event]
) -> AsyncIterator[tuple[ClusterSite, list[PlayedHost], list[TcpProxy]]]:
    """Hosts with drivers and played engines; the last but one reaches the store by proxies."""
    with ClusterSite(store=store, members=3) as site, contextlib.ExitStack() as stack:
        machines = [site.machine() for _ in range(HOSTS)]
        for machine, address in zip(machines, OWN, strict=False):
            machine.run(["ip", "address", "add", f"{address}/24", "dev", "eth1"])
        proxies = [stack.enter_context(TcpProxy(each, on=machines[-2])) for each in site.store.endpoints]
        behind = f"--store={site.store.url_through(each.endpoint for each in proxies)}"
        hosts = [
            PlayedHost(
                machine,
                site.driver(machine, *FLAGS, *([behind] if machine is machines[-2] else [])),
                history,
                _lot(machine.name),
            )
            for machine in machines
        ]
        try:
            await asyncio.gather(*(host.start() for host in hosts))
            yield site, hosts, proxies
        finally:
            await asyncio.gather(*(host.stop() for host in hosts))


async def _make_networks(hosts: Sequence[PlayedHost]) -> None:
    """One host makes each network, and the others have it by replication."""
    for name, subnet in NETWORKS.items():
        await hosts[0].engine.create_network(name, subnet, options={"parent": "eth1"})
    await until(lambda: all(len(host.engine.names()) == len(NETWORKS) for host in hosts), 30)


# ---------------------------------------------------------------- the end


async def _settle(hosts: Sequence[PlayedHost]) -> int:
    """Nothing goes wrong any more: all repair until there is nothing to repair. An operator stops the container whose
    address, as its host says, is somebody else's since the store lost what it knew; how many these were."""
    await asyncio.gather(*(host.join_all() for host in hosts))
    await until(lambda: all(_is_in_order(host) for host in hosts), SETTLE_SECONDS)
    told = 0
    for _ in range(ROUNDS):
        repairs = [await asyncio.to_thread(host.driver.admin.repair, dry_run=False, grace=0) for host in hosts]
        for host, repair in zip(hosts, repairs, strict=True):
            lost = {each.subject.removeprefix("address ") for each in repair.failed}
            for container in [each for each in host.living() if lost & set(each.addresses)]:
                await host.end(container.name)
                told += 1
        if not any(repair.corrections or repair.failed for repair in repairs):
            return told
    raise AssertionError(f"repair never comes to an end: {repairs}")


def _is_in_order(host: PlayedHost) -> bool:
    status = host.driver.admin.status()
    return not (status.store_problem or status.waiting) and status.engine_followed and len(status.hosts) == HOSTS


async def _examine(hosts: Sequence[PlayedHost], trouble: Trouble) -> list[Violation]:
    """The store against what runs, each driver against its host, and the last address of a small pool."""
    records = await trouble.records()
    ids = {host.name: (await asyncio.to_thread(host.driver.admin.status)).host_id for host in hosts}
    living = {each.endpoint: (ids[host.name], each.addresses) for host in hosts for each in host.living()}
    fixed = {hosts[0].engine.id_of(name): [subnet.gateway, *subnet.aux.values()] for name, subnet in NETWORKS.items()}
    found = compare_end(records, living, fixed)
    for host in hosts:
        found += [each async for each in _not_intact(host)]
    free = {f"10.81.0.{number}" for number in range(1, 31)} - {record.address for record in records}
    got = [each for few in await asyncio.gather(*(_fill(host, "tight") for host in hosts)) for each in few]
    if sorted(got) != sorted(free):
        text = f"free were {sorted(free)}, and given were {sorted(got)}"
        found.append(Violation("pool not handed out to its last address", TIGHT.subnet, text))
    return found


def _given_of_hosts(history: Sequence[Event]) -> Iterator[Violation]:
    """Addresses of hosts that somebody was given."""
    for each in history:
        if each.what == "request" and each.outcome == "ok" and each.address in OWN:
            yield Violation("address of a host given", each.address, f"by {each.host} to {each.endpoint[:16]}")


async def _not_intact(host: PlayedHost) -> AsyncIterator[Violation]:
    there = set(await asyncio.to_thread(links, host.machine))
    for each in host.living():
        address = ", ".join(each.addresses)
        if f"mg-{each.endpoint[:12]}" not in there:
            yield Violation("running container touched", address, f"{each.name} lost its link", (each.endpoint,))
        try:
            ids = {"NetworkID": host.engine.id_of(each.network), "EndpointID": each.endpoint}
            await host.plugin.call("NetworkDriver.EndpointOperInfo", **ids)
        except Refused as error:
            yield Violation("endpoint forgotten", address, f"{each.name}: {error}", (each.endpoint,))


async def _fill(host: PlayedHost, network: str) -> list[str]:
    """Take what is left of a pool, as fast as others let it."""
    got: list[str] = []
    while True:
        try:
            answer = await host.plugin.call(
                "IpamDriver.RequestAddress", PoolID=host.engine.pool_of(network), Address=""
            )
        except Refused as error:
            assert "no free address is left" in str(error)
            return got
        got.append(answer["Address"].partition("/")[0])


async def _inject(hosts: Sequence[PlayedHost], trouble: Trouble) -> str:
    """Give the address of a container that runs to a second one, behind the drivers' backs; which it is."""
    address = next(each.addresses[0] for each in hosts[0].living() if each.network == "wide")
    for _ in range(ROUNDS):  # a repair may just look, and put it right
        await trouble.forget(address)
        with contextlib.suppress(Refused):
            await hosts[1].take("wide", address)
            return address
    raise AssertionError(f"{address} cannot be taken from its holder")


# ------------------------------------------------------------- what came of it


def _operations(hosts: Sequence[PlayedHost]) -> int:
    return sum(host.plugin.answered + host.plugin.refused for host in hosts)


def _taken_back(host: PlayedHost) -> Iterator[Event]:
    """What repair let go of by itself, from the driver's log: promises that nobody came for, and endpoints."""
    for when, fraction, action, subject, reason in _REPAIRED.findall(host.driver.log_text()):
        at = time.mktime(time.strptime(when, "%Y-%m-%d %H:%M:%S")) + int(fraction) / 1000
        if action == "GiveBackAddress" and "it is reserved" in reason:
            yield Event("take back", host.name, at, at, "ok", "", subject.removeprefix("address "))
        elif action == "DeleteEndpoint":
            _, name, address = subject.split()
            yield Event("take back", host.name, at, at, "ok", host.known[name], address.strip("()"))


def _summary(store: str, hosts: Sequence[PlayedHost], trouble: Trouble) -> Iterator[str]:
    answered, refused, away, repeated = (
        sum(getattr(host.plugin, name) for host in hosts) for name in ("answered", "refused", "away", "repeated")
    )
    yield (
        f"{store}, seed {SEED}: {answered + refused} operations from {len(hosts)} hosts ({refused} refused "
        f"for a reason; besides {away} told that the store is away, {repeated} repeated as no driver answered); "
        f"the slowest answer took {max(host.plugin.slowest for host in hosts):.1f} s"
    )
    yield "  faults: " + ", ".join(f"{number} x {kind}" for kind, number in sorted(trouble.done.items()))
    yield f"  {trouble.reclaimed()} addresses of the host that lost power were given back by others before it was back"


def _latest(excused: Sequence[Violation], history: Sequence[Event]) -> float:
    """How long after a restore, in seconds, the second one of such a pair was told that it has the address."""
    restored = [each for each in history if each.what == "restore"]

    def late(at: float) -> float:
        return min((max(at - each.ended, 0.0) for each in restored if each.begun <= at), default=0.0)

    return max((late(float(_BEGUN.findall(each.text)[1])) for each in excused), default=0.0)


def _story(violations: Sequence[Violation], history: Sequence[Event]) -> str:
    """The violations, and all that happened to the first few addresses that they are about."""
    lines = [f"seed {SEED}", *map(str, violations)]
    for address in list(dict.fromkeys(each.address for each in violations))[:3]:
        lines += [f"--- {address}"]
        events = (each for each in history if each.address == address or each.what == "restore")
        lines += [
            f"{each.begun:.3f} to {each.ended:.3f} {each.host} {each.what} {each.outcome} {each.endpoint[:12]}"
            for each in sorted(events, key=lambda each: each.begun)
        ]
    return "\n".join(lines)


def _lot(what: str) -> random.Random:
    return random.Random(f"{SEED} {what}")  # noqa: S311 - it guards nothing
