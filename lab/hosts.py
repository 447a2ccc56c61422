"""A simulated machine: its own network, file systems, name, and Docker Engine.

What a host shares with the machine below it is the kernel, process ids and
read-only files. Its own are: all interfaces, /sys/class/net, the host name,
/run (so plugin sockets and Docker's socket are at their usual paths), and what
is written below /etc and /var/lib.
"""

import contextlib
import ctypes
import io
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from lab import leftovers
from lab.engines import Daemon, settings
from lab.errors import DockerError, LabError
from lab.image import import_image
from lab.packages import ENGINES, engine, ensure_system_packages
from lab.paths import PREFIX, RUN
from lab.process import Completed, run, tail

_CLONE_NEWNET = 0x40000000
# Inside its namespaces, the holder makes the file systems of the host, says so,
# and then lives for as long as its maker does, whose end of the pipe it reads.
_HOLDER = """
set -e
folder=$1 state=$2 name=$3
hostname "$name"
if [ -z "$state" ]; then
    state=$folder/state
    mkdir "$state"
    mount -t tmpfs -o mode=755 lab "$state"
fi
for part in etc var/lib; do
    mkdir -p "$state/$part" "$state/scratch/$part"
    mount -t overlay -o "lowerdir=/$part,upperdir=$state/$part,workdir=$state/scratch/$part" lab "/$part"
done
mkdir -p "$state/docker" /var/lib/docker
mount --bind "$state/docker" /var/lib/docker
rm -f /etc/resolv.conf
echo "$name" > /etc/hostname
echo "127.0.0.1 localhost $name" > /etc/hosts
: > /etc/resolv.conf
# The sysfs of this network namespace shows this host's interfaces; cgroups are
# the machine's, and move over.
mkdir -p "$folder/cgroup"
mount --rbind /sys/fs/cgroup "$folder/cgroup"
mount -t sysfs sysfs /sys
mount --move "$folder/cgroup" /sys/fs/cgroup
echo 1 > /proc/sys/net/ipv4/ip_forward
ip link set lo up
mount --bind "$folder/run" /run
echo ready
exec cat > /dev/null
"""


class Host:
    """A simulated machine. Use as a context manager, or call `close`.

    Everything on it ends with it: processes, containers, mounts, interfaces.
    """

    def __init__(self, name: str = "host", *, state: Path | None = None, group: str = "") -> None:
        """Make the machine; its loopback interface is up, and nothing else is there.

        Args:
            name: its host name, unique among the living hosts of this process and group.
            state: an empty or earlier host's folder, on a file system that can
                carry an overlay, for what a disk keeps: /etc, /var/lib, Docker's
                data. A host made again on it is that host after a reboot. By
                default the host keeps these in memory.
            group: what tells it from hosts of that name elsewhere in this process.

        Raises:
            LabError: a host of that name lives, or the kernel refused.
        """
        ensure_system_packages()
        self.name = name
        self.namespace = "-".join(filter(None, (f"{PREFIX}{os.getpid()}", group, name)))
        self.folder = RUN / self.namespace
        self._daemon: Daemon | None = None
        self._engine_env: Mapping[str, str] | None = None
        self._config: dict[str, Any] = {}
        self._path = ""
        self._started: list[subprocess.Popen[bytes]] = []
        try:
            self.folder.mkdir(parents=True)
        except FileExistsError:
            raise LabError(f"there is a host {name!r} already") from None
        try:
            self._holder = self._hold(state)
        except BaseException:
            leftovers.remove(self.namespace)
            raise

    def _hold(self, state: Path | None) -> "subprocess.Popen[bytes]":
        # Temporary files of programs on the host go there if TMPDIR says so, as it does in the guest.
        (self.folder / "run/tmp").mkdir(parents=True)
        run(["ip", "netns", "add", self.namespace])
        own = ["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "--mount", "--uts"]
        script = ["sh", "-c", _HOLDER, "holder", str(self.folder), str(state or ""), self.name]
        with (self.folder / "holder.log").open("wb") as log:
            holder = subprocess.Popen(
                [*own, *script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        with holder.stdout or io.BytesIO() as said:
            if said.readline() != b"ready\n":
                holder.communicate()
                raise LabError(f"host {self.name} could not be made: {tail(self.folder / 'holder.log')}")
        return holder

    # --- commands

    @property
    def enter(self) -> list[str]:
        """The words to put before a command to run it on this host, also in a shell."""
        # Not `ip netns exec`: it remounts /sys, and an engine then finds no cgroups.
        return ["nsenter", f"--target={self._holder.pid}", "--net", "--mount", "--uts", "--"]

    @property
    def run_folder(self) -> Path:
        """The host's /run, for those outside: sockets in it can be connected to from anywhere."""
        return self.folder / "run"

    def run(
        self,
        command: Sequence[str],
        *,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float | None = 120,
    ) -> Completed:
        """Run a command on the host to its end. The working folder is /.

        Args:
            env: variables beside those of the caller.

        Raises:
            CommandError: it failed, and `check` is true; holds all that it said.
        """
        full = [*self.enter, *command]
        return run(full, check=check, env=self._environment(env), stdin=stdin, timeout=timeout)

    def popen(
        self, command: Sequence[str], *, log: Path | None = None, env: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a daemon on the host; its output is added to `log`.

        The process that is returned is the command itself, so signals reach it.
        It is killed with the host at the latest.
        """
        with (log or Path(os.devnull)).open("ab") as output:
            process = subprocess.Popen(
                [*self.enter, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(env),
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def _environment(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        # A caller's own Docker settings would lead `docker` to another engine.
        env = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        env["DOCKER_CONFIG"] = "/run/docker-client"
        if self._path:
            env["PATH"] = self._path
        return env | dict(extra or {})

    @contextlib.contextmanager
    def in_network(self) -> Iterator[None]:
        """Within the block, sockets that the calling thread opens are the host's.

        Only that thread changes. Sockets stay the host's after the block.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
        try:
            _set_network(libc, there)
            yield
        finally:
            _set_network(libc, here)
            os.close(there)
            os.close(here)

    # --- Docker

    def docker(self, *arguments: str, stdin: str | None = None, timeout: float | None = 120) -> str:
        """Call `docker` on the host; what it printed.

        Raises:
            DockerError: it failed; `stderr` has the engine's words.
        """
        command = ["docker", *arguments]
        done = self.run(command, check=False, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            raise DockerError(command, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def start_engine(
        self,
        version: str = ENGINES[-1],
        *,
        live_restore: bool = False,
        daemon_json: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        image: bool = True,
    ) -> Daemon:
        """Start an engine and return when it serves.

        Args:
            version: a label of `ENGINES`, or a version that is unpacked.
            live_restore: containers outlive the engine.
            daemon_json: settings beside ours or instead of them; None removes one of ours.
            env: variables of the engine's environment, also when it is restarted.
            image: import the lab's image too, if the engine has it not.

        Raises:
            LabError: it did not come up; with the end of its log.
        """
        chosen = engine(version)
        self._engine_env = env
        if self._daemon is None or self._daemon.engine != chosen:
            self.stop_engine()
            log = self.folder / "dockerd.log"
            self._daemon = Daemon(
                chosen, self.run_folder, log, lambda command, file: self.popen(command, log=file, env=self._engine_env)
            )
        self._path = chosen.search_path
        self._config = settings(self.namespace, live_restore=live_restore, extra=daemon_json)
        self._daemon.start(self._config)
        if image:
            import_image(self.docker)
        return self._daemon

    @property
    def engine(self) -> Daemon:
        """The engine that was started last.

        Raises:
            LabError: none was.
        """
        if self._daemon is None:
            raise LabError(f"host {self.name} has no engine")
        return self._daemon

    def stop_engine(self) -> None:
        """Stop the engine as a service manager does; nothing if none runs."""
        if self._daemon is not None:
            self._daemon.stop()

    def kill_engine(self) -> None:
        """Crash the engine; its containers go on."""
        self.engine.kill()

    def restart_engine(self) -> None:
        """Stop the engine if it runs, and start it with the settings that it had."""
        self.engine.stop()
        self.engine.start(self._config)

    # --- the end

    def close(self) -> None:
        """End the host and all that is on it. Repeatable."""
        leftovers.remove(self.namespace)
        if self._holder.stdin is not None:
            self._holder.stdin.close()
        for process in (self._holder, *self._started):
            process.wait()

    def __enter__(self) -> Self:
        """Nothing to do: the host is there since it was made."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _set_network(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
