"""Profile of an attach and a detach through the plugin socket: `python -m bench attach --profile`.

Plain and direct, in memory and on a disk. Counts are exact, and the same on any machine; times are medians, and those
of parts that contain each other do not add up: `handlers` contains `store` and `kernel`, `store` contains `statement`
and `commit`, `kernel` contains `netlink` and `namespace visits`. What a port takes more than its parts is the way to
the other thread and back; what the engine waits for beside the handlers is HTTP, JSON and the way between processes.
"JSON" is measured apart. "hops" are the times that a thread woke the event loop, "turns" those of the loop itself.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

from pyroute2 import netns
from rich.console import Console
from rich.table import Table

from bench.inside import call
from bench.plugin import Attached, Plugin, PluginNetwork
from bench.profiled_driver import COUNTS, READY
from lab import Host, Wire
from lab.paths import BUILD, ROOT, scratch_folder
from lab.process import tail, wait_until
from macvlan_global.libnetwork import messages as m
from macvlan_global.libnetwork.codec import decode, encode

Figures = dict[str, tuple[float, float]]
"""By part: how often, and for how many seconds."""

CLIENT = "the engine's wait"
WARM_UP = 10
SETTLED_SECONDS = 0.15
"""Time in which deletions that nobody waits for are done."""


def show(*, quick: bool) -> None:
    """Measure, and print a table for each of the four."""
    rounds = 5 if quick else 200
    with scratch_folder(BUILD) as disk:
        for store in ("memory", "disk"):
            folder = str(disk) if store == "disk" else ""
            found: dict[str, dict[str, Figures]] = _on_a_host(folder, rounds)
            for mode, steps in found.items():
                _print(f"{mode}, state {'in memory' if store == 'memory' else 'on the disk'}", steps)


def _on_a_host(folder: str, rounds: int) -> dict[str, dict[str, Figures]]:
    with Wire() as wire, Host("profile") as host:
        for parent in ("eth1", "eth2"):
            wire.plug(host, parent)
        log = host.folder / "driver.log"
        driver = host.popen(
            [sys.executable, "-m", "bench.profiled_driver", folder], log=log, env={"PYTHONPATH": str(ROOT)}
        )
        ready = host.run_folder / READY.name
        wait_until(lambda: ready.exists() or driver.poll() is not None, "driver", explain=lambda: tail(log))
        measured: dict[str, dict[str, Figures]] = call(host, profile, rounds=rounds)
        driver.terminate()
        driver.wait()
    return measured


def profile(rounds: int) -> dict[str, dict[str, Figures]]:
    """On the host, with the driver serving."""
    netns.create("profile")
    plugin = Plugin()
    networks = {
        "plain": plugin.create_network("10.65.0.0/16", "eth1"),
        "direct": plugin.create_network("10.66.0.0/16", "eth2", attach="direct"),
    }
    return {mode: _measure(plugin, network, rounds) for mode, network in networks.items()}


def _measure(plugin: Plugin, network: PluginNetwork, rounds: int) -> dict[str, Figures]:
    steps: dict[str, list[Figures]] = {"attach": [], "detach": []}
    attached: list[Attached] = []

    def one(name: str, step: Callable[[], object], *, kept: bool) -> None:
        before = _counts(plugin)
        begun = time.perf_counter()
        step()
        taken = time.perf_counter() - begun
        after = _counts(plugin)
        if kept:
            parts = {
                part: (count - before.get(part, (0, 0))[0], seconds - before.get(part, (0, 0))[1])
                for part, (count, seconds) in after.items()
            }
            steps[name].append({CLIENT: (1, taken), **parts})

    for number in range(rounds + WARM_UP):
        one("attach", lambda: attached.append(network.attach("/run/netns/profile")), kept=number >= WARM_UP)
        one("detach", lambda: network.detach(attached.pop()), kept=number >= WARM_UP)
        time.sleep(SETTLED_SECONDS)
    figures = {name: _medians(each) for name, each in steps.items()}
    figures["attach"]["JSON, by itself"] = _json()
    return figures


def _json() -> tuple[float, float]:
    """Decoding the three requests of an attach and encoding their answers, over and over: so it is warm."""
    again, ids = 1000, {"NetworkID": "a" * 64, "EndpointID": "b" * 64}
    interface = {"Address": "10.65.0.9/16", "AddressIPv6": "", "MacAddress": ""}
    name = m.InterfaceName(src_name="mg-bbbbbbbbbbbb", dst_prefix="eth")
    messages: tuple[tuple[type[m.Message], object, m.Message], ...] = (
        (m.RequestAddress, {"PoolID": "macvlan-global/10.65.0.0/16"}, m.AddressReply(address="10.65.0.9/16")),
        (m.CreateEndpoint, {**ids, "Interface": interface, "Options": {}}, m.CreatedEndpoint(interface=m.Added())),
        (m.Join, {**ids, "SandboxKey": "/run/netns/profile", "Options": {}}, m.JoinReply(interface_name=name)),
    )
    raw = [(kind, json.dumps(body).encode(), answer) for kind, body, answer in messages]
    begun = time.perf_counter()
    for _ in range(again):
        for kind, body, answer in raw:
            decode(body, kind)
            encode(answer)
    return 2.0 * len(raw), (time.perf_counter() - begun) / again


def _counts(plugin: Plugin) -> Figures:
    return {name: (count, seconds) for name, (count, seconds) in plugin.ask(COUNTS)["Counts"].items()}


def _medians(samples: list[Figures]) -> Figures:
    parts = {part for each in samples for part in each}
    return {
        part: (
            statistics.median(each.get(part, (0, 0.0))[0] for each in samples),
            statistics.median(each.get(part, (0, 0.0))[1] for each in samples),
        )
        for part in parts
    }


def _print(title: str, steps: dict[str, Figures]) -> None:
    table = Table(title=title)
    for heading in ("", *(f"{step}: {what}" for step in steps for what in ("times", "us"))):
        table.add_column(heading, justify="right" if heading else "left")
    parts = {part: max(figures.get(part, (0, 0.0))[1] for figures in steps.values()) for part in steps["attach"]}
    for part in sorted(parts, key=lambda each: (each != CLIENT, -parts[each])):
        cells = [steps[step].get(part, (0, 0.0)) for step in steps]
        if any(count or seconds for count, seconds in cells):
            shown = [text for count, seconds in cells for text in (f"{count:g}", f"{seconds * 1e6:.0f}")]
            table.add_row(part, *shown)
    Console(width=110).print(table)
