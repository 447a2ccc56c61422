"""Allocations by several hosts at once, beside the store itself making as many keys, each if it is absent.

On both sides a process on each host asks over 16 connections: the driver at its plugin socket, or the store with the
leanest requests that make a key if it is absent. The store has one member, with its data in memory, so what is
compared is work and not a disk.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.cluster_asker import CALLERS
from bench.plugin import SOCKET, Plugin
from bench.rounds import Figures, Row, take_turns
from lab import Host
from lab.cluster_site import ClusterSite, StoreKind, at_once
from lab.paths import ROOT

HOSTS = 3
STORES: tuple[StoreKind, ...] = ("consul", "etcd")
TITLES = tuple(f"allocations from {HOSTS} hosts at once, {store}" for store in STORES)
SUBNET = "10.0.0.0/8"


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement.

    Raises:
        RuntimeError: an address was given twice.
    """
    each, rounds = (32, 1) if quick else (640, 15)
    return [_row(title, store, each, rounds) for title, store in zip(TITLES, STORES, strict=True)]


def _row(title: str, store: StoreKind, each: int, rounds: int) -> Row:
    with ClusterSite(store=store) as site:
        hosts = [site.machine() for _ in range(HOSTS)]
        drivers = [site.driver(host, "--log-level=info") for host in hosts]
        at_once(driver.start for driver in drivers)
        plugin = Plugin(hosts[0].run_folder / SOCKET.relative_to("/run"))
        space = plugin.ask("IpamDriver.GetDefaultAddressSpaces")["LocalDefaultAddressSpace"]
        pool = plugin.ask("IpamDriver.RequestPool", AddressSpace=space, Pool=SUBNET)["PoolID"]
        with _askers(hosts, site.store.url, pool) as askers:
            samples = take_turns(
                {"ours": lambda: askers.turn("ours", each), "raw": lambda: askers.turn("raw", each)}, rounds
            )
    if len(askers.given) != len(set(askers.given)):
        raise RuntimeError("an address was given to two who asked")
    raw = f"{store}: create if absent, {HOSTS} x {CALLERS} callers"
    return Row(title, "/s", samples["ours"]["rate"], samples["raw"]["rate"], raw, goal=0.8, sense="at least")


class _Askers:
    def __init__(self, processes: "list[subprocess.Popen[str]]") -> None:
        self._processes = processes
        self.given: list[str] = []

    def turn(self, side: str, each: int) -> Figures:
        """Every host asks `each` times, all at the same moment."""
        for process in self._processes:
            assert process.stdin
            process.stdin.write(f"{side} {each}\n")
            process.stdin.flush()
        done = [_answer(process) for process in self._processes]
        self.given += [address for one in done for address in one["addresses"]]
        seconds = max(one["ended"] for one in done) - min(one["begun"] for one in done)
        return {"rate": each * len(done) / seconds}


@contextmanager
def _askers(hosts: list[Host], store: str, pool: str) -> Iterator[_Askers]:
    processes = [_start(host, store, pool) for host in hosts]
    try:
        for process in processes:
            _answer(process)
        yield _Askers(processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _start(host: Host, store: str, pool: str) -> "subprocess.Popen[str]":
    command = [*host.enter, sys.executable, "-m", "bench.cluster_asker", host.name, store, pool]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, stdin=pipe, stdout=pipe, text=True)


def _answer(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"an asker ended with {process.wait()}")
    said: dict[str, Any] = json.loads(line)
    return said
