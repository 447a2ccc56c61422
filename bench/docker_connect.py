"""`docker network connect` and `disconnect` of a running container, plain and direct, beside the built-in macvlan;
newest engine.

Asked of the engine's API, since the command's own start would hide the difference.
"""

import http.client
import json
import time
from functools import partial
from pathlib import Path

from bench.inside import call
from bench.rounds import Figures, Row, Samples, take_turns
from bench.site import BUILT_IN, DIRECT, HOME, OURS, YARDSTICK, site
from lab.unixhttp import UnixConnection

TITLES = ("network connect", "network disconnect", "network connect, direct", "network disconnect, direct")
CONTAINER = "guest"


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    with site("connect") as host:
        host.docker("run", "-d", "--init", f"--network={HOME}", f"--name={CONTAINER}", "alpine", "sleep", "3600")
        # one pair after the other: what a direct link leaves to do in the background would be in a plain one's way
        pairs: list[Samples] = [
            call(host, turns, names=[side, BUILT_IN], rounds=2 if quick else 60) for side in (OURS, DIRECT)
        ]
    figures = [
        (samples[side][action], samples[BUILT_IN][action])
        for side, samples in zip((OURS, DIRECT), pairs, strict=True)
        for action in ("connect", "disconnect")
    ]
    return [Row(title, "ms", *both, YARDSTICK) for title, both in zip(TITLES, figures, strict=True)]


def turns(names: list[str], rounds: int) -> Samples:
    """On the host."""
    return take_turns({name: partial(_turn, name) for name in names}, rounds, warm_up=2)


def _turn(network: str) -> Figures:
    return {action: _timed(network, action) for action in ("connect", "disconnect")}


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
