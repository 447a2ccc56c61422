"""On a host of a cluster: takes addresses from the driver, or makes keys in the store itself, as often as it is told.

A line on standard input says which, and how often; the answer is a line with when that began and ended.
"""

import base64
import itertools
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.plugin import SOCKET
from bench.pump import Pumped, post, pump

CALLERS = 16
"""Connections of each host, each with one request under way."""
_VALUE = b"x" * 330
"""As long as the record of an address in a cluster."""


class Asker:
    """Both ways to ask, with connections that are kept."""

    def __init__(self, host: str, store: str, pool: str) -> None:
        """`store` is a store's URL: its first member is asked, as the driver does. `pool` is the driver's id of one."""
        kind, _, members = store.partition("://")
        where = members.partition(",")[0]
        self._host = host
        self._raw = [_to_store(where) for _ in range(CALLERS)]
        self._ours = [_to_driver(SOCKET) for _ in range(CALLERS)]
        self._ask = post("/IpamDriver.RequestAddress", json.dumps({"PoolID": pool, "Address": ""}).encode())
        self._create = {"consul": _consul, "etcd": _etcd}[kind]
        self._used = itertools.count()

    def turn(self, side: str, count: int) -> dict[str, Any]:
        """Ask one side `count` times: when it began and ended, and the addresses that were given."""
        done = self._raw_turn(count) if side == "raw" else pump(self._ours, lambda _: self._ask, count)
        addresses = [] if side == "raw" else [json.loads(body)["Address"] for body in done.bodies]
        return {"begun": done.begun, "ended": done.ended, "addresses": addresses}

    def _raw_turn(self, count: int) -> Pumped:
        # put together before the clock runs
        requests = [self._create(f"raw/{self._host}/{next(self._used):012}") for _ in range(count)]
        done = pump(self._raw, requests.__getitem__, count)
        for body in done.bodies:
            if body.strip() != b"true" and b'"succeeded":true' not in body:
                raise RuntimeError(f"the store did not make a key: {body!r}")
        return done


def _to_store(where: str) -> socket.socket:
    address, _, port = where.rpartition(":")
    connection = socket.create_connection((address, int(port)), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _to_driver(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(str(path))
    return connection


def _consul(key: str) -> bytes:
    return post(f"/v1/kv/{key}?cas=0", _VALUE, "PUT")


def _etcd(key: str) -> bytes:
    name, value = (base64.b64encode(each).decode() for each in (key.encode(), _VALUE))
    body = {
        "compare": [{"key": name, "target": "MOD", "result": "EQUAL", "mod_revision": 0}],
        "success": [{"request_put": {"key": name, "value": value}}],
    }
    return post("/v3/kv/txn", json.dumps(body).encode())


def _main(turn: Callable[[str, int], dict[str, Any]]) -> None:
    print("{}", flush=True)
    for line in sys.stdin:
        side, _, count = line.partition(" ")
        print(json.dumps(turn(side, int(count))), flush=True)


if __name__ == "__main__":
    _main(Asker(*sys.argv[1:]).turn)
