"""A host of the lab that is booted by systemd: process 1, units, journal-less, as a real machine would be."""

import json
from collections.abc import Sequence
from typing import Self

from lab import Host, engine
from lab.engines import settings
from lab.process import Completed, first_process, run, tail, wait_until

# What would look for hardware, or is of the machine below, stays off.
MASKED = (
    *("systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket"),
    *("systemd-udev-trigger.service", "systemd-sysctl.service", "systemd-sysusers.service"),
    *("systemd-tmpfiles-setup.service", "systemd-tmpfiles-setup-dev.service", "systemd-remount-fs.service"),
    *("systemd-modules-load.service", "systemd-random-seed.service", "systemd-machine-id-commit.service"),
    *("systemd-firstboot.service", "systemd-update-utmp.service", "systemd-journal-flush.service"),
    *("systemd-networkd.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "tmp.mount"),
    *("dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("sys-kernel-config.mount", "sys-fs-fuse-connections.mount"),
)
_OUTER = """
set -e
mkdir /run/cgroup2
mount -t cgroup2 cgroup2 /run/cgroup2
mkdir -p "/run/cgroup2/$1"
echo $$ > "/run/cgroup2/$1/cgroup.procs"
exec unshare --cgroup --pid --fork --kill-child --ipc --mount sh -c "$2" inner
"""
_INNER = """
set -e
umount /run/cgroup2
# systemd makes all mounts shared when it boots a machine, but not in a container
mount --make-rprivate /
mount --make-rshared /
mount -t proc proc /proc
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=lab.target \\
    --log-target=console --show-status=no
"""


class Booted:
    """systemd runs on the host within the block. Ends with the host, too."""

    def __init__(self, host: Host) -> None:
        """Nothing is started yet."""
        self.host = host
        self.log = host.folder / "systemd.log"
        self._init = 0

    def __enter__(self) -> Self:
        """Boot, and return when systemd says that all is up."""
        self.unit("lab.target", "[Unit]\nDescription=What the lab boots\n")
        for name in MASKED:
            self.host.run(["ln", "-sf", "/dev/null", f"/etc/systemd/system/{name}"])
        outer = self.host.popen(["sh", "-c", _OUTER, "outer", self.host.namespace, _INNER], log=self.log)
        wait_until(lambda: first_process(outer.pid) != 0, "process 1", explain=lambda: tail(self.log))
        self._init = first_process(outer.pid)
        wait_until(self._is_up, "systemd that runs", seconds=30, explain=lambda: tail(self.log))
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing: processes end with the host."""

    def run(self, command: Sequence[str], *, check: bool = True) -> Completed:
        """Run a command beside systemd, in all its namespaces."""
        enter = ["nsenter", f"--target={self._init}", "--all", "--"]
        return run([*enter, *command], check=check)

    def unit(self, name: str, text: str) -> None:
        """Write a unit, before or after boot."""
        self.host.run(["sh", "-c", f"mkdir -p /etc/systemd/system; cat > /etc/systemd/system/{name}"], stdin=text)

    def main_pid(self, unit: str) -> int:
        """The process id of a service's main process, as systemd sees it; 0 if it has none."""
        return int(self.run(["systemctl", "show", "--property=MainPID", "--value", unit]).stdout)

    def add_engine(self, label: str, *, listens: bool = False) -> str:
        """Make an engine of the lab a docker.service, as its package does; the search path of its commands. With
        `listens` systemd listens for it, by a docker.socket."""
        chosen = engine(label)
        extra = {"hosts": ["fd://"]} if listens else None
        config = settings(self.host.namespace, live_restore=False, extra=extra)
        if listens:
            self.unit("docker.socket", "[Socket]\nListenStream=/run/docker.sock\nSocketMode=0660\n")
        (self.host.run_folder / "daemon.json").write_text(json.dumps(config))
        self.unit(
            "docker.service",
            "[Unit]\nAfter=network-online.target\n[Service]\nType=notify\nDelegate=yes\nKillMode=process\n"
            f"Environment=PATH={chosen.search_path}\n"
            f"ExecStart={chosen.folder}/usr/sbin/dockerd --config-file=/run/daemon.json\n"
            "[Install]\nWantedBy=multi-user.target\n",
        )
        # a machine that has the distribution's engine has a docker.service that systemd may have read already
        self.run(["systemctl", "daemon-reload"])
        return chosen.search_path

    def _is_up(self) -> bool:
        return self.run(["systemctl", "is-system-running"], check=False).stdout.strip() in {"running", "degraded"}
