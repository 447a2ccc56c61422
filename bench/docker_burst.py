"""50 containers that start at once, plain and direct, beside the built-in macvlan, and beside what the engine itself
costs: no network; newest engine.

They are there already, and the engine's API is asked to start all of them: until the last answer.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from bench.inside import call
from bench.rounds import Figures, Row, Samples, take_turns
from bench.site import BUILT_IN, DIRECT, ENGINE_ALONE, NONE, OURS, YARDSTICK, site
from lab.unixhttp import ask

CONTAINERS = 50
_MODES = {OURS: f"{CONTAINERS} containers at once", DIRECT: f"{CONTAINERS} containers at once, direct"}
_GOALS = {OURS: 1.0, DIRECT: 0.92}
TITLES = (*_MODES.values(), *(f"{mode}, beside {ENGINE_ALONE[NONE]}" for mode in _MODES.values()))
SOCKET = Path("/run/docker.sock")


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    with site("burst") as host:
        samples: Samples = call(host, turns, rounds=1 if quick else 8, containers=5 if quick else CONTAINERS)
    starts = {name: each["start"] for name, each in samples.items()}
    return [
        *(Row(title, "s", starts[mode], starts[BUILT_IN], YARDSTICK, _GOALS[mode]) for mode, title in _MODES.items()),
        *(
            Row(f"{title}, beside {ENGINE_ALONE[NONE]}", "s", starts[mode], starts[NONE], ENGINE_ALONE[NONE])
            for mode, title in _MODES.items()
        ),
    ]


def turns(rounds: int, containers: int) -> Samples:
    """On the host."""
    sides = {name: partial(_turn, name, containers) for name in (OURS, DIRECT, BUILT_IN, NONE)}
    return take_turns(sides, rounds, warm_up=0 if rounds == 1 else 1)


def _turn(network: str, containers: int) -> Figures:
    wanted = {"Image": "alpine", "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": network, "Init": True}}
    body = json.dumps(wanted).encode()
    made = [_api("POST", "/containers/create", body)["Id"] for _ in range(containers)]
    with ThreadPoolExecutor(containers) as threads:
        begun = time.perf_counter()
        list(threads.map(lambda each: _api("POST", f"/containers/{each}/start"), made))
        taken = time.perf_counter() - begun
        list(threads.map(lambda each: _api("DELETE", f"/containers/{each}?force=1"), made))
    return {"start": taken}


def _api(method: str, path: str, body: bytes = b"") -> Any:
    status, reply = ask(SOCKET, method, path, body, "application/json")
    if status >= 300:
        raise RuntimeError(f"{method} {path}: {reply}")
    return reply
