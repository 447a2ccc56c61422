"""`docker network connect` and `disconnect` of a running container, plain and direct, beside the built-in macvlan, and
beside what the engine itself costs: a bridge; newest engine.

Asked of the engine's API, since the command's own start would hide the difference.
"""

import http.client
import json
import time
from functools import partial
from pathlib import Path

from bench.inside import call
from bench.rounds import Figures, Row, Samples, take_turns
from bench.site import BRIDGE, BUILT_IN, DIRECT, ENGINE_ALONE, HOME, OURS, YARDSTICK, site
from lab.unixhttp import UnixConnection

_MODES = {OURS: "", DIRECT: ", direct"}
_ACTIONS = ("connect", "disconnect")
TITLES = (
    *(f"network {action}{mode}" for mode in _MODES.values() for action in _ACTIONS),
    *(f"network {action}{mode}, beside {ENGINE_ALONE[BRIDGE]}" for mode in _MODES.values() for action in _ACTIONS),
)
CONTAINER = "guest"
SETTLED_SECONDS = 0.05
"""Time for the kernel to free a link whose deletion was answered: the next link that is moved would wait for that."""


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    with site("connect") as host:
        host.docker("run", "-d", "--init", f"--network={HOME}", f"--name={CONTAINER}", "alpine", "sleep", "3600")
        # one group after the other: what a direct link leaves to do in the background would be in a plain one's way
        groups: dict[str, Samples] = {
            side: call(host, turns, names=[side, BUILT_IN, BRIDGE], rounds=2 if quick else 60) for side in _MODES
        }
    return [
        Row(
            f"network {action}{mode}" + ("" if beside == BUILT_IN else f", beside {words}"),
            "ms",
            groups[side][side][action],
            groups[side][beside][action],
            words,
            goal=1.05 if (side, beside, action) == (OURS, BUILT_IN, "connect") else None,
        )
        for beside, words in ((BUILT_IN, YARDSTICK), (BRIDGE, ENGINE_ALONE[BRIDGE]))
        for side, mode in _MODES.items()
        for action in _ACTIONS
    ]


def turns(names: list[str], rounds: int) -> Samples:
    """On the host."""
    return take_turns({name: partial(_turn, name) for name in names}, rounds, warm_up=2, pause=SETTLED_SECONDS)


def _turn(network: str) -> Figures:
    return {action: _timed(network, action) for action in _ACTIONS}


def _timed(network: str, action: str) -> float:
    connection = UnixConnection(Path("/run/docker.sock"), timeout=60)
    body = json.dumps({"Container": CONTAINER})
    begun = time.perf_counter()
    connection.request("POST", f"/v1.41/networks/{network}/{action}", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    said = response.read()
    taken = time.perf_counter() - begun
    connection.close()
    if response.status != http.client.OK:
        raise RuntimeError(f"{action} {network}: {said.decode()}")
    return taken
