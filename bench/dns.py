"""Queries per second: our resolver, dnsmasq and Docker's, each with the same 200 names, asked by dnsperf in turn.

dnsmasq and ours listen on loopback addresses of one host. Docker's listens in a container's namespace only, so it is
asked from there, for the aliases of that container. What a request to the driver would pay for a busy resolver is seen
on a socket that the same event loop serves.
"""

import re
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.dns_server import NAMES, NETWORK, address, name
from bench.rounds import Figures, Row, take_turns
from lab import Host
from lab.apt import unpack
from lab.paths import BUILD, ROOT
from lab.process import tail, wait_until

TITLES = ("resolver, beside dnsmasq", "resolver, beside Docker's", "event loop's answer, resolver busy")
OURS, DNSMASQ, DOCKER = "127.0.0.153", "127.0.0.99", "127.0.0.11"
_TREE = BUILD / "dns"
_PACKAGES = (
    *("dnsperf", "dnsmasq-base", "libldns3", "libnghttp2-14", "libdbus-1-3", "libgmp10", "libhogweed6", "libidn2-0"),
    *("libnetfilter-conntrack3", "libnettle8", "libnftables1", "libnftnl11", "libmnl0", "libjansson4", "libedit2"),
    *("libnfnetlink0", "libunistring2", "libbsd0", "libmd0", "libtinfo6"),
)
_LIBRARIES = {"LD_LIBRARY_PATH": ":".join(str(_TREE / part / "x86_64-linux-gnu") for part in ("usr/lib", "lib"))}


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    unpack("bookworm", _PACKAGES, _TREE)
    seconds, rounds, warm_up = (1, 1, 0) if quick else (2, 7, 1)
    with Host("dns") as host:
        site = _Site(host, seconds)
        sides = {"ours": site.ours, "dnsmasq": site.dnsmasq, "docker": site.docker}
        samples = take_turns(sides, rounds, warm_up=warm_up)
        busy = take_turns({"busy": site.busy, "idle": site.idle}, rounds, warm_up=warm_up)
    rate = samples["ours"]["rate"]
    return [
        Row(TITLES[0], "/s", rate, samples["dnsmasq"]["rate"], "dnsmasq", goal=1.0, sense="at least"),
        Row(TITLES[1], "/s", rate, samples["docker"]["rate"], "Docker's resolver", goal=2.5, sense="at least"),
        Row(TITLES[2], "ms", busy["busy"]["round"], busy["idle"]["round"], "resolver idle"),
    ]


class _Site:
    """A host with the three of them."""

    def __init__(self, host: Host, seconds: int) -> None:
        self._host = host
        self._seconds = seconds
        self._echo = host.run_folder / "echo.sock"
        self._names = host.run_folder / "queries"
        self._names.write_text("".join(f"{name(number)} A\n" for number in range(NAMES)))
        self._start_ours()
        self._start_dnsmasq()
        self._sandbox = self._start_docker()

    def ours(self) -> Figures:
        return {"rate": self._rate(OURS)}

    def dnsmasq(self) -> Figures:
        return {"rate": self._rate(DNSMASQ)}

    def docker(self) -> Figures:
        return {"rate": self._rate(DOCKER, "nsenter", f"--net={self._sandbox}")}

    def idle(self) -> Figures:
        return {"round": self._round()}

    def busy(self) -> Figures:
        with self._asked():
            return {"round": self._round()}

    def _rate(self, server: str, *enter: str) -> float:
        done = self._host.run([*enter, *self._dnsperf(server)], env=_LIBRARIES)
        answered = re.search(r"Queries completed:\s+\d+ \((\d+)\.", done.stdout)
        right = re.search(r"Response codes:\s+NOERROR \d+ \(100", done.stdout)
        assert answered and int(answered[1]) >= 99 and right, done.stdout
        return float(done.stdout.rpartition("Queries per second:")[2].split()[0])

    def _dnsperf(self, server: str) -> list[str]:
        """Asks as many as it can, with four sockets, from one thread."""
        return [
            *(str(_TREE / "usr/bin/dnsperf"), "-s", server, "-d", "/run/queries"),
            *("-l", str(self._seconds), "-c", "4", "-T", "1"),
        ]

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Within the block our resolver has as much to do as dnsperf can ask."""
        process = self._host.popen(self._dnsperf(OURS), env=_LIBRARIES)
        yield
        process.wait()

    def _round(self) -> float:
        """The median time of a byte to the event loop and back, for most of a turn."""
        taken = []
        with socket.socket(socket.AF_UNIX) as asker:
            asker.connect(str(self._echo))
            until = time.perf_counter() + 0.7 * self._seconds
            while (begun := time.perf_counter()) < until:
                asker.send(b"x")
                asker.recv(1)
                taken.append(time.perf_counter() - begun)
                time.sleep(0.002)
        return statistics.median(taken)

    def _start_ours(self) -> None:
        log = self._host.folder / "ours.log"
        command = [sys.executable, "-m", "bench.dns_server", OURS, "/run/echo.sock"]
        self._host.popen(command, log=log, env={"PYTHONPATH": str(ROOT)})
        wait_until(self._echo.exists, "resolver", explain=lambda: tail(log))

    def _start_dnsmasq(self) -> None:
        hosts = "".join(f"{address(number)} {name(number)} {name(number)}.{NETWORK}\n" for number in range(NAMES))
        (self._host.run_folder / "hosts").write_text(hosts)
        command = [
            *(str(_TREE / "usr/sbin/dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--user=root"),
            *(f"--listen-address={DNSMASQ}", "--bind-interfaces", "--no-resolv", "--no-hosts", "--pid-file="),
            *("--addn-hosts=/run/hosts", "--local-ttl=5"),
        ]
        log = self._host.folder / "dnsmasq.log"
        self._host.popen(command, log=log, env=_LIBRARIES)
        wait_until(lambda: self._has(DNSMASQ), "dnsmasq", explain=lambda: tail(log))

    def _has(self, server: str) -> bool:
        return f"{server}:53" in self._host.run(["ss", "-Hlnu"]).stdout

    def _start_docker(self) -> Path:
        """An engine with one container that has all the names; the path of its network namespace."""
        self._host.start_engine("newest")
        self._host.docker("network", "create", "--subnet=10.66.0.0/16", NETWORK)
        aliases = [f"--network-alias={name(number)}" for number in range(NAMES)]
        run_it = ["run", "-d", "--init", f"--network={NETWORK}", *aliases, "--name=names", "alpine", "sleep", "3600"]
        self._host.docker(*run_it)
        return Path(self._host.docker("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "names").strip())
