"""`docker run --rm alpine true` on our network, its link made plain or direct, beside the built-in macvlan, and beside
what the engine itself costs: no network at all, the host's network, a bridge; newest engine."""

import subprocess
import time
from functools import partial

from bench.inside import call
from bench.rounds import Figures, Row, Samples, take_turns
from bench.site import BUILT_IN, DIRECT, ENGINE_ALONE, NONE, OURS, YARDSTICK, site
from lab.cluster_site import StoreKind

STORES: tuple[StoreKind, ...] = ("consul", "etcd")
_LESS = ", less one without network"
MODES = {OURS: "docker run", DIRECT: "docker run, direct"}
TITLES = (
    *(*MODES.values(), *(f"{mode}{_LESS}" for mode in MODES.values())),
    *(f"{mode}, beside {words}" for mode in MODES.values() for words in ENGINE_ALONE.values()),
    *(f"docker run, addresses in {store}" for store in STORES),
)


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    with site("run") as host:
        samples: Samples = call(host, turns, names=[*MODES, BUILT_IN, *ENGINE_ALONE], rounds=2 if quick else 50)
    whole = {name: samples[name]["run"] for name in samples}
    none = whole[NONE]
    added = {name: [run - empty for run, empty in zip(each, none, strict=True)] for name, each in whole.items()}
    return [
        Row(TITLES[0], "ms", whole[OURS], whole[BUILT_IN], YARDSTICK, goal=0.9),
        Row(TITLES[1], "ms", whole[DIRECT], whole[BUILT_IN], YARDSTICK, goal=0.75),
        Row(TITLES[2], "ms", added[OURS], added[BUILT_IN], YARDSTICK),
        Row(TITLES[3], "ms", added[DIRECT], added[BUILT_IN], YARDSTICK),
        *(
            Row(f"{title}, beside {words}", "ms", whole[mode], whole[alone], words)
            for mode, title in MODES.items()
            for alone, words in ENGINE_ALONE.items()
        ),
        *(_in_a_cluster(store, rounds=2 if quick else 40) for store in STORES),
    ]


def _in_a_cluster(store: StoreKind, rounds: int) -> Row:
    with site("run", store) as host:
        samples: Samples = call(host, turns, names=[OURS, BUILT_IN], rounds=rounds)
    ours, built_in = (samples[name]["run"] for name in (OURS, BUILT_IN))
    return Row(f"docker run, addresses in {store}", "ms", ours, built_in, YARDSTICK, goal=0.95)


def turns(names: list[str], rounds: int) -> Samples:
    """On the host."""
    return take_turns({name: partial(_run, name) for name in names}, rounds, warm_up=2)


def _run(network: str) -> Figures:
    begun = time.perf_counter()
    command = ["docker", "run", "--rm", f"--network={network}", "alpine", "true"]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
    return {"run": time.perf_counter() - begun}
