"""A bare Debian that systemd has booted, with an engine of the lab as docker.service."""

import json
import shlex
from pathlib import Path

from lab import ENGINES, Engine, engine, image_archive
from lab.bare import System
from lab.engines import settings
from lab.process import Completed, wait_until
from tests.cli.booted import MASKED

LONG = 600
"""Seconds that packages may take which are fetched and installed: what they wait for is a network and a disk."""
PARENT = "eth1"
# They bring files up to date at the first boot of a machine, whatever is installed.
_UPDATES = ("ldconfig.service", "systemd-journal-catalog-update.service", "systemd-update-done.service")
_BOOT = """\
#!/bin/sh
set -e
mkdir /run/cgroup2
mount -t cgroup2 cgroup2 /run/cgroup2
mkdir -p /run/cgroup2/{name}
echo $$ > /run/cgroup2/{name}/cgroup.procs
exec unshare --cgroup sh /run/boot-inside
"""
_BOOT_INSIDE = """\
set -e
umount /run/cgroup2
rmdir /run/cgroup2
mount --make-rprivate /
mount --make-rshared /
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=lab.target \\
    --log-target=console --show-status=no
"""


def shown() -> tuple[Path, ...]:
    """Files of this machine that such a system needs to see."""
    return engine(ENGINES[-1]).folder, image_archive()


class BootedDebian:
    """A bare system with systemd as process 1. `install` and `docker` are what its users type."""

    def __init__(self, system: System) -> None:
        """Install systemd and Python as a machine has them, boot, and return when all is up."""
        self.system = system
        found = engine(ENGINES[-1])
        self._engine = Engine(found.version, system.outside(found.folder))
        self.run("apt-get", "-qq", "update", timeout=LONG)
        needed = ("systemd", "python3", "iproute2")
        self.run("apt-get", "-qq", "-y", "--no-install-recommends", "install", *needed, timeout=LONG)
        # all that a package of ours needs is there: apt is quicker without lists, and has nobody to ask
        self.run("sh", "-c", "rm -rf /var/lib/apt/lists/*")
        # as udev leaves them, which a machine has that is no container
        self.run("mkdir", "-p", "/etc/udev/rules.d")
        self.unit("lab.target", "[Unit]\nDescription=What the lab boots\n")
        for name in (*MASKED, *_UPDATES):
            self.run("ln", "-sf", "/dev/null", f"/etc/systemd/system/{name}")
        self.run("ip", "link", "add", PARENT, "type", "veth", "peer", "name", "peer1")
        for name in ("lo", PARENT, "peer1"):
            self.run("ip", "link", "set", name, "up")
        self.write("/run/boot-inside", _BOOT_INSIDE)
        self.write("/run/boot.new", _BOOT.format(name=system.host.namespace))
        self.run("chmod", "755", "/run/boot.new")
        self.run("mv", "/run/boot.new", "/run/boot")
        wait_until(self._is_up, "systemd that runs", seconds=60)

    def run(self, *command: str, check: bool = True, timeout: float = 120) -> Completed:
        """Run a command as root on a path that a login gives."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return self.system.run(*command, check=check, timeout=timeout, path=path)

    def write(self, path: str, text: str) -> None:
        """Write a file, as its operator does."""
        self.system.run("sh", "-c", f"mkdir -p {shlex.quote(str(Path(path).parent))}; cat > {path}", stdin=text)

    def unit(self, name: str, text: str) -> None:
        """Write a unit of the operator's."""
        self.write(f"/etc/systemd/system/{name}", text)

    def install(self, package: Path, *flags: str) -> str:
        """Install a package file; what apt said."""
        inside = f"/tmp/{package.name}"
        (self.system.root / inside[1:]).write_bytes(package.read_bytes())
        done = self.run("apt-get", "-q", "-y", "--no-install-recommends", *flags, "install", inside, timeout=LONG)
        self.run("rm", inside)
        return done.stdout + done.stderr

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", f"--property={name}", "--value", unit).stdout.strip()

    def is_active(self, unit: str) -> str:
        """What systemd says of a unit."""
        return self.run("systemctl", "is-active", unit, check=False).stdout.strip()

    def start_engine(self) -> None:
        """Start the engine as a service, with the lab's image."""
        # an engine's images lie on an overlay of its own, which must not be above the system's
        own = {"data-root": "/var/lib/macvlan-global-demo"}
        config = settings(self.system.host.namespace, live_restore=False, extra=own)
        self.write("/run/daemon.json", json.dumps(config))
        self.unit(
            "docker.service",
            "[Unit]\nAfter=network-online.target\n[Service]\nType=notify\nDelegate=yes\nKillMode=process\n"
            f"Environment=PATH={self._engine.search_path}\n"
            f"ExecStart={self._engine.folder}/usr/sbin/dockerd --config-file=/run/daemon.json\n",
        )
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "start", "docker.service")
        self.docker("import", "--change", 'CMD ["/bin/sh"]', str(self.system.outside(image_archive())), "alpine")

    def docker(self, *words: str) -> str:
        """Call `docker`; what it printed."""
        path = f"PATH={self._engine.search_path}"
        return self.run("env", path, "DOCKER_CONFIG=/run/client", "docker", *words).stdout.strip()

    def files(self) -> set[str]:
        """Every file, folder and link that packages and drivers could leave, with its size, mode and target."""
        looked = ("/etc", "/usr", "/var/lib", "/root", "/run/docker/plugins", "/run/macvlan-global")
        # the text of resolv.conf is compared where it is changed
        left_out = (
            "/etc/resolv.conf",
            "/var/lib/dpkg",
            "/var/lib/apt",
            "/var/lib/docker",
            "/var/lib/macvlan-global-demo",
            "/root/.cache",
        )
        pruned = [word for each in left_out for word in ("-path", each, "-prune", "-o")]
        # the time of a folder says nothing, and that of a file of ours that is gone is gone with it
        printed = ["-type", "d", "-printf", "%p/ %m\n", "-o", "-printf", "%p %s %m %T@ %l\n"]
        return set(
            self.run("find", *looked, "-mindepth", "1", "-xdev", *pruned, *printed, check=False).stdout.splitlines()
        )

    def _is_up(self) -> bool:
        said = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return said in {"running", "degraded"}
