"""The Docker Engine that the demo uses: the one that runs, or one that is installed and started for it.

One that runs is taken as it is. Without systemd, one is started with data, sockets of containerd and cgroups of its
own, and with neither default bridge nor packet filter nor forwarding: a macvlan needs none of them, so nothing of the
machine's network changes, and it does not matter whether iptables here is of the legacy or of the nft kind.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from demo.background import Background, accepts, kill_container_processes
from demo.errors import DemoError
from demo.places import KEPT, RUN
from demo.screen import Screen, attempt, run
from lab.engines import answers

SOCKET = Path("/run/docker.sock")
PACKAGE = "docker.io"
CLIENT_PACKAGE = "docker-cli"
# With the number of our network namespace: hosts of the lab share the cgroups of the machine that they are on.
_CGROUP = f"macvlan-global-demo-{Path('/proc/self/ns/net').stat().st_ino}"
_EXEC = RUN / "docker"
_DATA = KEPT / "docker"
_UNIT = KEPT / "engine-unit-started"
# An engine and its containerd make these, wherever their data is; those that were not there before go again, as far
# as nobody else put something into them.
_SIDE_EFFECTS = tuple(map(Path, ("/etc/docker/key.json", "/etc/docker", "/opt/containerd", "/run/containerd")))
_MADE = KEPT / "side-effects"
_POLICY = Path("/usr/sbin/policy-rc.d")
_SYSTEMD = Path("/run/systemd/system")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")

_dockerd = Background("dockerd")


def docker_environment() -> dict[str, str]:
    """The caller's environment without what would lead `docker` to another engine than this machine's."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    return env | {"DOCKER_HOST": f"unix://{SOCKET}"}


def serves() -> bool:
    """Whether an engine answers on this machine."""
    return SOCKET.exists() and answers(SOCKET)


def is_ours() -> bool:
    """Whether the engine that runs was started by the demo, outside systemd."""
    return _dockerd.pid is not None


def ensure(screen: Screen) -> None:
    """Have an engine that serves.

    Raises:
        DemoError: there is none, and none could be installed or started.
    """
    if not serves():
        if shutil.which("dockerd") is None:
            screen.say(f"no engine here: the distribution's is installed ({PACKAGE}; `make stop` leaves it there)")
            _install(screen)
        _start(screen)
    if shutil.which("docker") is None:
        screen.say(f"an engine without its command: that is installed ({CLIENT_PACKAGE}; `make stop` leaves it there)")
        _install(screen)
    version = run("docker", "version", "--format", "{{.Server.Version}}", env=docker_environment())
    how = f"started for the demo, log {_dockerd.log}" if is_ours() else "this machine's"
    screen.say(f"Docker Engine {version} serves ({how})")
    if is_ours() and _FORWARDING.read_text().strip() == "0":
        screen.say("its warning about IPv4 forwarding means nothing here: a macvlan forwards nothing")


def stop(screen: Screen) -> None:
    """Stop the engine if the demo started it, and clear what it left. Repeatable."""
    if _UNIT.exists() and _SYSTEMD.exists():
        screen.run("systemctl", "stop", *_UNIT.read_text().split())
    if pid := _dockerd.pid:
        screen.command(f"kill {pid}  # dockerd")
    _dockerd.stop()
    if _EXEC.exists() or _DATA.exists():
        kill_container_processes(_CGROUP, _EXEC)  # those whose engine was killed
        _unmount_below(RUN, KEPT)
        if not serves():
            SOCKET.unlink(missing_ok=True)
    if _MADE.exists():
        _clear_side_effects([Path(line) for line in _MADE.read_text().splitlines()])
    for root in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*")):
        _remove_empty_folders(root / _CGROUP)


def _install(screen: Screen) -> None:
    """Install what is missing of engine and command.

    Raises:
        DemoError: it cannot be had here.
    """
    if shutil.which("apt-get") is None:
        raise DemoError("no Docker Engine here, and no apt-get; install an engine (20.10 or newer), then `make run`")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with _services_not_started():
        command = _installation()
        screen.command(command)
        if attempt(*command, env=env).returncode or _missing():  # no package lists yet, or old ones
            screen.run("apt-get", "update", "-qq", env=env)
            screen.run(*_installation(), env=env)
    if missing := _missing():
        raise DemoError(f"packages were installed, and there is no {missing[0]}; install an engine, then `make run`")


def _missing() -> list[str]:
    return [program for program in ("dockerd", "docker") if shutil.which(program) is None]


def _installation() -> list[str]:
    """The command line that installs what is missing; newer releases have the command in a package of its own."""
    wanted = [PACKAGE] if "dockerd" in _missing() else []
    if "docker" in _missing() and attempt("apt-cache", "show", CLIENT_PACKAGE).stdout:
        wanted.append(CLIENT_PACKAGE)
    wait = "-oDPkg::Lock::Timeout=600"  # a fresh machine may be installing updates by itself
    return ["apt-get", "install", "-y", "-qq", wait, "--no-install-recommends", *wanted]


@contextlib.contextmanager
def _services_not_started() -> Iterator[None]:
    """Keep package scripts from starting services: without an init they fail, and the package stays half installed."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def _start(screen: Screen) -> None:
    KEPT.mkdir(parents=True, exist_ok=True, mode=0o700)
    if _SYSTEMD.exists():
        units = [each for each in ("docker.socket", "docker.service") if attempt("systemctl", "cat", each).stdout]
        idle = [each for each in units if attempt("systemctl", "is-active", "-q", each).returncode]
        _UNIT.write_text(" ".join(idle))
        screen.run("systemctl", "start", "docker")
        if not serves():
            raise DemoError("docker.service runs, and no engine answers; see `journalctl -u docker`")
        return
    if not _MADE.exists():
        _MADE.write_text("\n".join(str(path) for path in _SIDE_EFFECTS if not path.exists()))
    RUN.mkdir(parents=True, exist_ok=True, mode=0o755)
    config = RUN / "daemon.json"
    config.write_text(json.dumps(_settings(), indent=1))
    # an own file, so that neither /etc/docker/daemon.json nor the data of an engine that was stopped play in
    command = ["dockerd", f"--config-file={config}"]
    screen.command(f"dockerd --config-file={config} >{_dockerd.log} 2>&1 &")
    _dockerd.start(command, serves)


def _settings() -> dict[str, object]:
    return {
        "hosts": [f"unix://{SOCKET}"],
        "data-root": str(_DATA),
        "exec-root": str(_EXEC),
        "pidfile": str(RUN / "docker.pid"),
        "cgroup-parent": f"/{_CGROUP}",
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "ip-forward": False,
        "userland-proxy": False,
    }


def _unmount_below(*folders: Path) -> None:
    """Take down mounts that a killed engine left, the last one first."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed(mounts):
        if any(mount.startswith(f"{folder}/") for folder in folders):
            attempt("umount", "--lazy", "--no-mtab", mount)


def _clear_side_effects(paths: list[Path]) -> None:
    for path in paths:
        if path.is_file():
            path.unlink()
        for each in path.rglob("*"):
            if each.is_socket() and not accepts(each):
                each.unlink(missing_ok=True)
        _remove_empty_folders(path)


def _remove_empty_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
