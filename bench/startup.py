"""From the start of `macvlan-global serve` to its first answer, and the memory that it takes."""

import compileall
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.inside import call
from bench.plugin import SOCKET, Plugin
from bench.rounds import Figures, Row, take_turns
from lab import Host, Wire
from lab.paths import ROOT
from lab.process import wait_until

TITLES = (
    "start of serve to its first answer",
    "start of serve until its socket listens",
    "memory at rest (RSS)",
    "memory at rest (PSS)",
    "memory with 1000 endpoints (RSS)",
    "start with 1000 endpoints",
)
ENDPOINTS = 1000
_SERVE = [str(Path(sys.executable).parent / "macvlan-global"), "serve", "--state-dir=/var/lib/bench"]
_LOG = Path("/run/serve.log")
_ANSWER_SECONDS = 20.0
_STILL_SECONDS = 1.0


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    # as an installation has it; a checkout may have no bytecode (PYTHONDONTWRITEBYTECODE), or that of yesterday
    compileall.compile_dir(ROOT / "src", quiet=1)
    with Wire() as wire, Host("startup") as host:
        wire.plug(host)
        figures = call(host, start_and_fill, rounds=2 if quick else 15, endpoints=10 if quick else ENDPOINTS)
    python = "python -c 'import asyncio'"
    return [
        Row(TITLES[0], "s", figures["start"], goal=0.3),
        Row(TITLES[1], "s", figures["listens"]),
        Row(TITLES[2], "MB", figures["rest_rss"], goal=60e6),
        Row(TITLES[3], "MB", figures["rest_pss"]),
        Row(TITLES[4], "MB", figures["full_rss"], goal=60e6),
        Row(TITLES[5], "s", figures["full_start"], figures["python"], python),
    ]


def start_and_fill(rounds: int, endpoints: int) -> dict[str, list[float]]:
    """On the host: start and end the driver by turns with a bare Python; then once more, and fill it."""
    empty = take_turns({"serve": _start_and_stop, "python": _bare_python}, rounds)
    process, *_ = _start()
    rest = _memory(process.pid)
    network = Plugin().create_network("10.65.0.0/16", "eth1")
    for _ in range(endpoints):
        network.attach("/run/netns/none")
    full = _memory(process.pid)
    _stop(process)
    filled = take_turns({"serve": _start_and_stop, "python": _bare_python}, rounds)
    return {
        "start": empty["serve"]["start"],
        "listens": empty["serve"]["listens"],
        "full_start": filled["serve"]["start"],
        "python": filled["python"]["start"],
        "rest_rss": [rest["Rss"]],
        "rest_pss": [rest["Pss"]],
        "full_rss": [full["Rss"]],
    }


def _start_and_stop() -> Figures:
    process, listens, answers = _start()
    _stop(process)
    return {"listens": listens, "start": answers}


def _start() -> tuple["subprocess.Popen[bytes]", float, float]:
    """A driver, the seconds until somebody could connect to it, and those until it answered."""
    with _LOG.open("ab") as log:
        begun = time.perf_counter()
        process = subprocess.Popen(_SERVE, stdout=log, stderr=log)
    wait_until(_listens, "socket", seconds=_ANSWER_SECONDS, every=0.001, explain=_LOG.read_text)
    there = time.perf_counter()
    assert "NetworkDriver" in Plugin().ask("Plugin.Activate")["Implements"]
    return process, there - begun, time.perf_counter() - begun


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def _listens() -> bool:
    if not SOCKET.exists():
        return False
    try:
        Plugin()
    except OSError:
        return False
    return True


def _memory(pid: int) -> dict[str, float]:
    """Bytes by name, once they stand still: the driver does the last of its start after it answers."""
    seen, since, begun = _rollup(pid), time.monotonic(), time.monotonic()
    # RSS decides: PSS moves with every other process that shares a library
    while time.monotonic() - since < _STILL_SECONDS and time.monotonic() - begun < _ANSWER_SECONDS:
        time.sleep(0.1)
        now = _rollup(pid)
        if now["Rss"] != seen["Rss"]:
            since = time.monotonic()
        seen = now
    return seen


def _rollup(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: text.split()[0] for name, _, text in (line.partition(":") for line in lines)}
    return {name: float(kilobytes[name]) * 1024 for name in ("Rss", "Pss")}


def _bare_python() -> Figures:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import asyncio"], check=True)
    return {"start": time.perf_counter() - begun}
