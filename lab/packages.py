"""Takes what the lab needs from Debian: commands, Docker Engines of two ages, and cluster stores.

Commands are installed. Engines and stores are only unpacked, under `build/lab/engines/`:
an installed one would start a daemon, and would collide with the one that the
machine may have. containerd and runc are unpacked beside them for that reason.
"""

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.paths import BUILD, locked, scratch_folder
from lab.process import run

# A package and a file that only it brings: looking for a file costs nothing,
# and also finds commands that came from elsewhere.
_COMMANDS = {
    "iproute2": "/usr/sbin/ip",
    "iptables": "/usr/sbin/iptables",
    "iputils-ping": "/usr/bin/ping",
    "iputils-arping": "/usr/bin/arping",
    "procps": "/usr/sbin/sysctl",
    "util-linux": "/usr/bin/nsenter",
    "kmod": "/usr/sbin/modprobe",
    "e2fsprogs": "/usr/sbin/mkfs.ext4",
    "busybox-static": "/usr/bin/busybox",
    "systemd": "/usr/bin/systemd-analyze",
    "tcpdump": "/usr/bin/tcpdump",
    "user-mode-linux": "/usr/bin/linux.uml",
    "openssl": "/usr/bin/openssl",
}
# What the unpacked binaries are linked with.
_LIBRARIES = ("libdevmapper1.02.1", "libseccomp2", "libsystemd0")
_MIRROR_VARIABLE = "MACVLAN_GLOBAL_DEBIAN_MIRROR"
_ENGINES = BUILD / "engines"
_STORES = BUILD / "stores"
# Consul is not in bookworm; all of them are linked with nothing but the C library.
_STORE_SOURCES = {"bookworm": ("etcd-server", "etcd-client"), "bullseye": ("consul",)}

ENGINES = ("oldest", "newest")
"""Labels of the engines; a table of test cases can use them before any is unpacked."""

# 28.x of sid needs no newer C library than bookworm's, and runs with bookworm's
# containerd and runc.
_SOURCES: dict[str, dict[str, tuple[str, ...]]] = {
    "oldest": {"bookworm": ("docker.io", "containerd", "runc", "tini")},
    "newest": {"bookworm": ("containerd", "runc", "tini"), "sid": ("docker.io", "docker-cli")},
}


@dataclass(frozen=True)
class Engine:
    """An unpacked Docker Engine."""

    version: str
    folder: Path

    @property
    def search_path(self) -> str:
        """A PATH on which this engine's programs come before the machine's."""
        own = [str(self.folder / part) for part in ("usr/sbin", "usr/bin", "usr/libexec/docker/cli-plugins")]
        return ":".join([*own, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers, to compare."""
        return tuple(int(part) for part in self.version.split("."))


def ensure_system_packages(*only: str) -> None:
    """Install the commands and libraries that the lab calls, or `only` these packages of it, if any is missing.

    Raises:
        LabError: one is missing and this is not a Debian, or not root.
    """
    if not _missing(only):
        return
    with locked("packages"):
        missing = _missing(only)
        if not missing:
            return
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            raise LabError(f"install these first (no apt-get here, or not root): {', '.join(missing)}")
        print(f"lab: installing {', '.join(missing)}", flush=True)
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "-qq", "update"], env=env, timeout=300)
        install = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *missing]
        run(install, env=env, timeout=900)


def _missing(only: Sequence[str] = ()) -> list[str]:
    gone = [package for package, file in _COMMANDS.items() if not Path(file).exists()]
    status = Path("/var/lib/dpkg/info")
    if status.is_dir():
        gone += [library for library in _LIBRARIES if not any(status.glob(f"{library}*.list"))]
    return [package for package in gone if not only or package in only]


def engine(label: str) -> Engine:
    """The engine with this label ("oldest", "newest") or version, unpacked if need be.

    Raises:
        LabError: no such engine.
    """
    ensure_engines()
    folder = _ENGINES / label
    if not (folder / "usr/sbin/dockerd").exists():
        known = ", ".join([*ENGINES, *(found.version for found in ensure_engines())])
        raise LabError(f"no engine {label!r}; there are {known}")
    folder = folder.resolve()
    return Engine(version=folder.name, folder=folder)


def ensure_engines() -> tuple[Engine, ...]:
    """Unpack the engines that are not there yet; all of them, in the order of `ENGINES`.

    Safe to call at any time from several processes: a folder appears whole or
    not at all, and is never changed afterwards.
    """
    if not _all_unpacked():
        ensure_system_packages()
        with locked("engines"):
            for label in ENGINES:
                if not (_ENGINES / label).exists():
                    _unpack(label)
    folders = [(_ENGINES / label).resolve() for label in ENGINES]
    return tuple(Engine(folder.name, folder) for folder in folders)


def _all_unpacked() -> bool:
    return all((_ENGINES / label).exists() for label in ENGINES)


def _unpack(label: str) -> None:
    with scratch_folder(_ENGINES) as scratch:
        tree = scratch / "tree"
        version = ""
        for suite, packages in _SOURCES[label].items():
            print(f"lab: fetching the {label} engine: {', '.join(packages)} of {suite}", flush=True)
            for archive in download(suite, packages, scratch / suite):
                run(["dpkg", "-x", str(archive), str(tree)])
                if archive.name.startswith("docker.io_"):
                    version = _version(archive)
        if not (_ENGINES / version).exists():
            tree.chmod(0o755)
            tree.rename(_ENGINES / version)
        # A link made elsewhere and renamed: never seen half made.
        (scratch / "label").symlink_to(version)
        (scratch / "label").rename(_ENGINES / label)
    print(f"lab: engine {version} is unpacked", flush=True)


def ensure_stores() -> Path:
    """Unpack etcd and Consul unless they are; the folder of their programs (etcd, etcdctl, consul).

    Not installed: their packages would start services.
    """
    programs = _STORES / "usr/bin"
    if not programs.exists():
        ensure_system_packages()
        with locked("stores"):
            if not programs.exists():
                _unpack_stores()
    return programs


def _unpack_stores() -> None:
    with scratch_folder(BUILD) as scratch:
        for suite, packages in _STORE_SOURCES.items():
            print(f"lab: fetching {', '.join(packages)} of {suite}", flush=True)
            for archive in download(suite, packages, scratch / suite):
                run(["dpkg", "-x", str(archive), str(scratch / "tree")])
        (scratch / "tree").rename(_STORES)


def _version(archive: Path) -> str:
    full = run(["dpkg-deb", "-f", str(archive), "Version"]).stdout.strip()
    found = re.match(r"(?:\d+:)?(\d+\.\d+\.\d+)", full)
    if found is None:
        raise LabError(f"{archive.name} has a version that cannot be read: {full}")
    return found[1]


def download(suite: str, packages: Iterable[str], folder: Path) -> list[Path]:
    """Fetch packages of a Debian suite, this machine's own or not, into `folder`.

    The machine's own package lists are left alone. Signatures are checked.
    """
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    source = folder / "sources.list"
    source.write_text(f"deb [signed-by={keys}] {_mirror(named=os.environ.get(_MIRROR_VARIABLE))} {suite} main\n")
    options = {
        "Dir::Etc::sourcelist": source,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": lists,
        # Kept out of the machine's cache, which describes the machine's lists.
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Acquire::Languages": "none",
        # The unprivileged downloader may not enter the repository's folders.
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    run([*apt, "update"], timeout=300)
    run([*apt, "download", *packages], cwd=folder, timeout=600)
    return sorted(folder.glob("*.deb"))


def _mirror(folder: Path = Path("/etc/apt"), named: str | None = None) -> str:
    """The Debian mirror of this machine's own package sources, or the one that the caller names."""
    if named:
        return named
    files = [
        *folder.glob("sources.list.d/*.sources"),
        *folder.glob("sources.list.d/*.list"),
        folder / "sources.list",
    ]
    for file in files:
        if not file.exists():
            continue
        found = re.search(r"^(?:URIs:|deb\s(?:\[.*?\]\s+)?)\s*(\S+/debian)/?\s", file.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return _mirror_of_debootstrap()


def _mirror_of_debootstrap(root: Path = Path("/usr")) -> str:
    """The mirror that debootstrap would take: how a machine that is not a Debian (Ubuntu, say) learns of one."""
    files = [root / "sbin/debootstrap", root / "share/debootstrap/scripts/sid"]
    if not any(file.exists() for file in files):
        print("lab: installing debootstrap and debian-archive-keyring, which know where Debian is", flush=True)
        packages = ["debootstrap", "debian-archive-keyring"]
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "-qq", "-y", "--no-install-recommends", "install", *packages], env=env, timeout=300)
    for file in files:
        found = re.search(r"https?://[^\s\"']+/debian\b", file.read_text() if file.exists() else "")
        if found:
            return found[0]
    raise LabError(f"no Debian mirror in this machine's package sources; name one in {_MIRROR_VARIABLE}")
