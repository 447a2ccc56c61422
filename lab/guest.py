"""A user-mode kernel, for tests of what the running kernel lacks.

The guest is a Linux process: it needs no virtualisation, boots in about two
seconds, and has 802.1Q, dummy, bonding and ipvlan links. It sees the machine's
file tree, and all that it writes there stays in its memory, except below
`/mnt/out` (a folder of `build/lab/guest/`) and `/mnt/disk` (an image of a disk,
which outlives a boot).
"""

import contextlib
import io
import itertools
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab.errors import LabError
from lab.image import image_archive
from lab.packages import KERNEL_LOADER, ensure_engines, ensure_kernel, ensure_stores, ensure_system_packages
from lab.paths import GUESTS, PREFIX, ROOT
from lab.process import run
from lab.speed import SLOWNESS_VARIABLE, Allowance

_SETUP = Path(__file__).with_name("guest.sh")
_MARK = "MACVLAN_GLOBAL_GUEST"
_MODULES = ("8021q", "dummy", "macvlan", "bridge", "veth")
# Alone the guest is three times as slow as the machine below; beside other suites, on a processor that it shares, a
# driver there once took half a minute to start.
_SLOWNESS = "6"
# Guests of one process are on different processors, and so, mostly, are those of others.
_turns = itertools.count(os.getpid())
# Said by the kernel itself as it ends, whatever its log level.
_LAST_WORD = "reboot: Power down\n"


@dataclass(frozen=True)
class GuestResult:
    """Result of a command in the guest."""

    returncode: int
    output: str
    out: Path
    """The folder that was /mnt/out in the guest; `reap_leftovers` of a later run removes it."""
    seconds: float
    """From the start of the kernel to its end."""


@dataclass(frozen=True)
class Silence:
    """A limit for work of any length, as long as it goes on: seconds (of `lab.speed`) in which nothing is said."""

    seconds: float


def in_guest() -> bool:
    """Whether this process runs in the guest."""
    return _MARK in os.environ


def guest_run(
    command: Sequence[str],
    *,
    memory: str = "3G",
    timeout: "float | Silence" = 600,
    env: Mapping[str, str] | None = None,
    disk: Path | None = None,
    echo: bool = True,
) -> GuestResult:
    """Boot the guest, run one command in it as root, and power off.

    The command's working folder is the repository; its standard input is
    empty; its standard output and error come out of this process's standard
    output while it runs, and are in the result.

    Args:
        command: is looked up in the guest, which has the machine's programs.
        memory: of the guest; it holds all that the guest writes.
        timeout: in seconds (of `lab.speed`), for boot, command and power-off together; or how long nothing may be said.
        env: variables of the command. The caller's own do not come along.
        disk: an image made by `make_disk`, mounted at /mnt/disk.
        echo: print the output while the command runs.

    Raises:
        LabError: the guest did not boot, crashed, or was not done in time.
            A command that fails is no error: see `returncode`.
    """
    ensure_system_packages()
    # Made out here: what is made in the guest is gone with it.
    ensure_kernel()
    ensure_engines()
    ensure_stores()
    image_archive()
    GUESTS.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=GUESTS))
    _write_scripts(folder, command, env or {}, disk)
    begin = time.monotonic()
    output = _boot(folder, memory, disk, _Watch(timeout), echo=echo)
    seconds = time.monotonic() - begin
    if echo:
        print(f"lab: the guest was up for {seconds:.1f} s", flush=True)
    try:
        returncode = int((folder / "code").read_text())
    except (OSError, ValueError):
        raise LabError(f"the guest kernel did not run the command to its end\n{output}") from None
    return GuestResult(returncode, output, folder, seconds)


def _write_scripts(folder: Path, command: Sequence[str], env: Mapping[str, str], disk: Path | None) -> None:
    own = {_MARK: "1", "HOME": "/root", "LANG": "C.UTF-8", "TMPDIR": "/run/tmp", "TERM": "dumb", "COLUMNS": "120"}
    own[SLOWNESS_VARIABLE] = _SLOWNESS
    words = ["env", *(f"{name}={value}" for name, value in (own | dict(env)).items()), *command]
    (folder / "command").write_text(f"cd {shlex.quote(str(ROOT))} && exec {shlex.join(words)}\n")
    head = {
        "folder": str(folder),
        "modules": " ".join(_MODULES),
        "tree": str(ensure_kernel().modules),
        "disk": "1" if disk else "",
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in head.items()]
    init = folder / "init"
    init.write_text("\n".join(["#!/bin/sh", *lines, _SETUP.read_text()]))
    init.chmod(0o755)


def _boot(folder: Path, memory: str, disk: Path | None, watch: "_Watch", *, echo: bool) -> str:
    """Run the kernel to its end; what came out of its console."""
    # The kernel and its processes take turns, each waking the next: on one
    # processor that is three times as fast as across two.
    processors = sorted(os.sched_getaffinity(0))
    processor = processors[next(_turns) % len(processors)]
    found = ensure_kernel()
    (folder / KERNEL_LOADER).symlink_to(found.loader)
    line = [
        "taskset",
        "--cpu-list",
        str(processor),
        "env",
        f"LD_LIBRARY_PATH={found.loader.parent}",
        str(found.program),
        "seccomp=auto",
        f"mem={memory}",
        "root=/dev/root",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        f"init={folder / 'init'}",
        "con=null",
        "con0=null,fd:1",
        "quiet",
        "loglevel=1",
        f"uml_dir={folder}",
        *([f"ubd0={disk.resolve()}"] if disk else []),
    ]
    kernel = subprocess.Popen(
        line,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd=folder,
        env={"HOME": str(folder), "PATH": os.environ.get("PATH", os.defpath)},
    )
    watching = threading.Thread(target=watch.over, args=(kernel.pid,))
    watching.start()
    try:
        output = _collect(kernel, watch, echo=echo)
        kernel.wait()
    finally:
        watch.ended.set()
        watching.join()
        # The kernel's helpers are processes of the same group.
        _kill_group(kernel.pid)
        kernel.wait()
    if watch.late:
        raise LabError(f"{watch.late}\n{output}")
    return output


class _Watch:
    """Ends a guest that is not done in time, or says nothing for too long."""

    def __init__(self, timeout: "float | Silence") -> None:
        """The limit begins."""
        self._progress = isinstance(timeout, Silence)
        self._limit = Allowance(timeout.seconds if isinstance(timeout, Silence) else timeout)
        self.ended = threading.Event()
        self.late = ""

    def said(self) -> None:
        """Take note that the guest said something."""
        if self._progress:
            self._limit.begin_again()

    def over(self, group: int) -> None:
        """Watch until the guest has ended, or end it: all processes of this group."""
        while not self.late and not self.ended.wait(0.2):
            if self._limit.over:
                what = "said nothing for" if self._progress else "was not done within"
                self.late = f"the guest {what} {self._limit}"
        if self.late:
            _kill_group(group)


def _collect(kernel: "subprocess.Popen[bytes]", watch: _Watch, *, echo: bool) -> str:
    said: list[str] = []
    for raw in _lines(kernel, watch):
        line = raw.decode(errors="replace").replace("\r", "")
        if line == _LAST_WORD:
            continue
        said.append(line)
        if echo:
            sys.stdout.write(line)
            sys.stdout.flush()
    return "".join(said)


def _lines(kernel: "subprocess.Popen[bytes]", watch: _Watch) -> Iterator[bytes]:
    """Output of the kernel, line by line; each piece of a line counts as a sign that it goes on."""
    rest = b""
    with kernel.stdout or contextlib.nullcontext(io.BytesIO()) as stream:
        while piece := os.read(stream.fileno(), 65536):
            watch.said()
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line + b"\n" for line in lines)
    if rest:
        yield rest


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def make_disk(path: Path, *, size: str = "512M") -> Path:
    """Make the image of an empty ext4 disk, for `guest_run(disk=...)`; takes space as it fills.

    Raises:
        CommandError: there is no room, or `size` cannot be read.
    """
    ensure_system_packages()
    run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", str(path), size])
    return path


_PROBES = {
    "8021q": ("link add lo0 type veth peer name lo1", "link add link lo0 name probe type vlan id 7"),
    "macvlan": (
        "link add lo0 type veth peer name lo1",
        "link add link lo0 name probe type macvlan mode bridge",
    ),
    "ipvlan": ("link add lo0 type veth peer name lo1", "link add link lo0 name probe type ipvlan mode l2"),
}


@cache
def kernel_has(kind: str) -> bool:
    """Whether the running kernel makes links of this kind, tried in a namespace made for it.

    Args:
        kind: "8021q", or a link type that `ip link add ... type` knows.
    """
    ensure_system_packages()
    with _throwaway_namespace() as namespace:
        lines = _PROBES.get(kind, (f"link add probe type {kind}",))
        return run(["ip", "-n", namespace, "-batch", "-"], stdin="\n".join(lines), check=False).returncode == 0


@contextlib.contextmanager
def _throwaway_namespace() -> Iterator[str]:
    name = f"{PREFIX}{os.getpid()}-probe"
    run(["ip", "netns", "add", name])
    try:
        yield name
    finally:
        run(["ip", "netns", "delete", name], check=False)
