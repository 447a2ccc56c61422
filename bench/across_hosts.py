"""Delay until another host has what one host made: a network, and a container's name. Beside a swarm of both engines.

Both are managers of the swarm, so both show its networks; its network is a built-in macvlan, with parents of each host
(`--config-only`, `--config-from`). Counted from the answer of the engine that made it. A name is asked for in a
container of the other host, of Docker's own resolver.
"""

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from bench.name_asker import NameAsker
from bench.rounds import Figures, Row, take_turns
from lab.cluster_site import ClusterSite, StoreKind
from lab.site import Site
from lab.unixhttp import ask

STORES: tuple[StoreKind, ...] = ("consul", "etcd")
_WHAT = {
    "network": "network seen on the other host",
    "name": "name known there",
    "end": "name of one that ended gone",
}
_WORST = ", worst of all"
TITLES = tuple(f"{what}, {store}{worst}" for store in STORES for what in _WHAT.values() for worst in ("", _WORST))
SWARM = "a swarm"
_Prepare = Callable[[Site, Site], tuple[dict[str, Any], str]]
"""Makes a side's network on both hosts: the description of others like it, and its name."""
_PATIENCE = 20.0


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    rounds = 1 if quick else 40
    return [row for store in STORES for row in _rows(store, rounds)]


def _rows(store: StoreKind, rounds: int) -> Iterator[Row]:
    with ClusterSite("newest", "newest", store=store) as cluster:
        one, two = cluster.sites
        for site in cluster.sites:
            cluster.wire.plug(site.host, "eth2")
            site.driver.cli("dns", "install")
        _make_swarm(one, two)
        with contextlib.ExitStack() as stack:
            sides = {
                "ours": stack.enter_context(_side(one, two, "ours", _ours)),
                "swarm": stack.enter_context(_side(one, two, "swarm", _swarm)),
            }
            samples = take_turns({name: side.turn for name, side in sides.items()}, rounds)
        for figure, what in _WHAT.items():
            ours, swarm = (samples[side][figure] for side in ("ours", "swarm"))
            yield Row(f"{what}, {store}", "ms", ours, swarm, SWARM)
            yield Row(f"{what}, {store}{_WORST}", "ms", [max(ours)], [max(swarm)], SWARM)


def _make_swarm(one: Site, two: Site) -> None:
    one.docker("swarm", "init", "--advertise-addr=10.99.0.1")
    token = one.docker("swarm", "join-token", "--quiet", "manager").strip()
    two.docker("swarm", "join", "--advertise-addr=10.99.0.2", f"--token={token}", "10.99.0.1:2377")


def _ours(one: Site, _two: Site) -> tuple[dict[str, Any], str]:
    one.create("lan-ours", "--subnet=10.101.0.0/24", "--gateway=10.101.0.1", "-oparent=eth1")
    ipam = {"Driver": "macvlan-global", "Config": [{"Subnet": "10.102.0.0/24"}]}
    return {"Driver": "macvlan-global", "IPAM": ipam, "Options": {"parent": "eth1"}}, "lan-ours"


def _swarm(one: Site, two: Site) -> tuple[dict[str, Any], str]:
    for number, site in enumerate((one, two)):
        pool = ("--subnet=10.103.0.0/24", f"--ip-range=10.103.0.{64 + 64 * number}/26", "--gateway=10.103.0.1")
        site.docker("network", "create", "--config-only", *pool, "-oparent=eth2", "settings")
    scope = ("-d", "macvlan", "--scope=swarm", "--attachable", "--config-from=settings")
    one.docker("network", "create", *scope, "lan-swarm")
    # a second network of the same settings is never used, only seen
    return {
        "Driver": "macvlan",
        "Scope": "swarm",
        "Attachable": True,
        "ConfigFrom": {"Network": "settings"},
    }, "lan-swarm"


class _Side:
    """Needs of one of the two ways: a network for names, and the description of one that comes and goes."""

    def __init__(self, one: Site, two: Site, name: str, wanted: dict[str, Any], asker: NameAsker) -> None:
        self._one = one.host.run_folder / "docker.sock"
        self._two = two.host.run_folder / "docker.sock"
        self._name = f"web-{name}"
        self._wanted = wanted
        self._networks = (f"{name}-{number}" for number in itertools.count())
        self._asker = asker

    def turn(self) -> Figures:
        """A network, then a container's name, then that it ended."""
        return {"network": self._network(), "name": self._change("there", "start"), "end": self._change("gone", "kill")}

    def _network(self) -> float:
        name = next(self._networks)
        _api(self._one, "/networks/create", {"Name": name, **self._wanted})
        made = time.monotonic()
        while ask(self._two, "GET", f"/networks/{name}")[0] != 200:
            if time.monotonic() > made + _PATIENCE:
                raise TimeoutError(f"the other host has no network {name}")
        seen = time.monotonic()
        _gone(self._one, name)
        while ask(self._two, "GET", f"/networks/{name}")[0] == 200:
            if time.monotonic() > seen + _PATIENCE:
                raise TimeoutError(f"the other host still has network {name}")
        return seen - made

    def _change(self, awaited: Literal["there", "gone"], action: str) -> float:
        self._asker.ask(awaited, self._name)
        _api(self._one, f"/containers/{self._name}/{action}")
        done = time.monotonic()
        return max(0.0, float(self._asker.answer()) - done)


@contextlib.contextmanager
def _side(one: Site, two: Site, name: str, prepare: _Prepare) -> Iterator[_Side]:
    wanted, network = prepare(one, two)
    while network not in two.docker("network", "ls", "--format={{.Name}}").split():
        pass
    one.docker("create", "--init", f"--network={network}", f"--name=web-{name}", "alpine", "sleep", "3600")
    client = f"client-{name}"
    two.docker("run", "-d", "--init", f"--network={network}", f"--name={client}", "alpine", "sleep", "3600")
    sandbox = two.docker("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", client)
    with NameAsker([*two.host.enter, "nsenter", f"--net={sandbox}"], "127.0.0.11") as asker:
        yield _Side(one, two, name, wanted, asker)


def _api(engine: Path, path: str, body: dict[str, Any] | None = None) -> None:
    status, reply = ask(engine, "POST", path, json.dumps(body).encode() if body else b"", "application/json")
    if status >= 300:
        raise RuntimeError(f"{path}: {reply}")


def _gone(engine: Path, network: str) -> None:
    status, reply = ask(engine, "DELETE", f"/networks/{network}")
    if status >= 300:
        raise RuntimeError(f"{network}: {reply}")
