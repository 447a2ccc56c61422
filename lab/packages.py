"""Takes what the lab needs from Debian: commands, Docker Engines of two ages, cluster stores, and a kernel.

Commands are installed. All else is only unpacked, under `build/lab/`:
an installed engine would start a daemon, and would collide with the one that the
machine may have. containerd and runc are unpacked beside them for that reason.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.apt import download, install
from lab.errors import CommandError, LabError
from lab.paths import BUILD, locked, scratch_folder
from lab.process import run

# A package and a file that only it brings: looking for a file costs nothing,
# and also finds commands that came from elsewhere.
_COMMANDS = {
    "iproute2": "/usr/sbin/ip",
    "iptables": "/usr/sbin/iptables",
    "nftables": "/usr/sbin/nft",
    "iputils-ping": "/usr/bin/ping",
    "iputils-arping": "/usr/bin/arping",
    "procps": "/usr/sbin/sysctl",
    "util-linux": "/usr/bin/nsenter",
    "kmod": "/usr/sbin/modprobe",
    "e2fsprogs": "/usr/sbin/mkfs.ext4",
    "busybox-static": "/usr/bin/busybox",
    "systemd": "/usr/bin/systemd-analyze",
    "tcpdump": "/usr/bin/tcpdump",
    "openssl": "/usr/bin/openssl",
}
# What the unpacked binaries are linked with, by a file that each package brings.
_LIBRARIES = {
    "libdevmapper1.02.1": "usr/lib/*/libdevmapper.so.1.02.1",
    "libseccomp2": "usr/lib/*/libseccomp.so.2",
    "libsystemd0": "usr/lib/*/libsystemd.so.0",
}
_BUSYBOX = Path(_COMMANDS["busybox-static"])
_CHROMIUM_PACKAGE = "chromium-headless-shell"
_CHROMIUM = Path("/usr/bin", _CHROMIUM_PACKAGE)
CHROMIUM_VARIABLE = "MACVLAN_GLOBAL_TESTS_CHROMIUM"
"""Path of a Chromium to look at the page with, in the environment."""
_ENGINES = BUILD / "engines"
_STORES = BUILD / "stores"
_KERNEL = BUILD / "user-mode-kernel"
_PROMETHEUS = BUILD / "prometheus"
# Consul is not in bookworm; all of them are linked with nothing but the C library.
_STORE_SOURCES = {"bookworm": ("etcd-server", "etcd-client"), "bullseye": ("consul",)}
_PROMETHEUS_SOURCES = {"bookworm": ("prometheus",)}
# Ubuntu has none, and another release of Debian another one: the guest is the same wherever the lab is. Since 6.16
# seccomp stops its processes and no longer ptrace, which takes half the time. It wants a newer C library.
_KERNEL_SOURCES = {"sid": ("user-mode-linux", "libc6")}
_LOADER = "/lib64/ld-linux-x86-64.so.2"
_PROGRAM = "usr/bin/linux.uml"
KERNEL_LOADER = "./ld.so"
"""The loader of the user-mode kernel's C library, as the program names it: below the working folder."""

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
        if missing := _missing(only):
            install(missing)


def _missing(only: Sequence[str] = ()) -> list[str]:
    gone = [package for package, file in _COMMANDS.items() if not is_there(file)]
    gone += [package for package, file in _LIBRARIES.items() if not any(Path("/").glob(file))]
    return [package for package in gone if not only or package in only]


def is_there(file: str, root: Path = Path("/")) -> bool:
    """Whether a command is there: in the folder that is said, or in the other one that packages moved between."""
    folders = (file.lstrip("/").rpartition("/")[0], "usr/bin", "usr/sbin")
    return any((root / folder / Path(file).name).exists() for folder in folders)


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
    if not _STORES.exists():
        ensure_system_packages()
    return _ensure_tree(_STORES, _STORE_SOURCES) / "usr/bin"


def ensure_prometheus() -> Path:
    """Unpack Prometheus unless it is; the folder of its programs (prometheus, promtool). Its package would start it."""
    return _ensure_tree(_PROMETHEUS, _PROMETHEUS_SOURCES) / "usr/bin"


@dataclass(frozen=True)
class Kernel:
    """An unpacked user-mode kernel: its program, the C library and the loader for it, and a folder of modules' folders.

    The program takes its memory from behind itself, so it cannot be an argument of the loader: it asks for
    `KERNEL_LOADER` by itself.
    """

    program: Path
    loader: Path
    modules: Path


def ensure_kernel() -> Kernel:
    """Unpack the user-mode kernel unless it is.

    Raises:
        LabError: the packages do not come, or are not what they were.
    """
    tree = _ensure_tree(_KERNEL, _KERNEL_SOURCES, _name_own_loader)
    loader = tree / "usr/lib/x86_64-linux-gnu" / Path(_LOADER).name
    return Kernel(tree / _PROGRAM, loader, tree / "usr/lib/uml/modules")


def _name_own_loader(tree: Path) -> None:
    program = tree / _PROGRAM
    before, old = program.read_bytes(), _LOADER.encode() + b"\0"
    if before.count(old) != 1:
        raise LabError(f"{program.name} of sid does not name its loader {_LOADER} once")
    program.write_bytes(before.replace(old, KERNEL_LOADER.encode().ljust(len(old), b"\0")))


def ensure_busybox() -> Path:
    """A busybox that needs no libraries: the machine's own, or Debian's, unpacked, where that one needs some."""
    ensure_system_packages("busybox-static")
    if is_static(_BUSYBOX):
        return _BUSYBOX
    return next(_ensure_tree(BUILD / "busybox", {"bookworm": ("busybox-static",)}).glob("**/bin/busybox"))


def ensure_chromium(
    package: str = _CHROMIUM_PACKAGE, program: Path = _CHROMIUM, environment: Mapping[str, str] = os.environ
) -> Path:
    """A Chromium without a window: the one that the environment names, else Debian's, installed with letters to show if
    its `program` is not there.

    Raises:
        LabError: there is none, and the `package` cannot be installed (Ubuntu has no such package); in one line, with
            what to do.
    """
    if named := environment.get(CHROMIUM_VARIABLE):
        if os.access(named, os.X_OK) and Path(named).is_file():
            return Path(named)
        raise LabError(f"{CHROMIUM_VARIABLE} names {named}, which is no program; name a Chromium, or unset it")
    with locked("packages"):  # its file is there some seconds before it can run
        if not program.exists():
            try:
                install([package, "fonts-dejavu-core"], why="to look at the page")
            except CommandError as refused:
                said = (refused.stderr.strip().splitlines() or ["nothing"])[-1]
                raise LabError(
                    f"the page is looked at in Chromium, and {package} cannot be installed here (apt-get: {said}). "
                    f"Where the release has no such package, as Ubuntu: `.venv/bin/python -m playwright install "
                    f"--with-deps chromium-headless-shell`, then name that program in {CHROMIUM_VARIABLE}"
                ) from refused
    return program


def is_static(program: Path) -> bool:
    """Whether a program is there and names no loader of libraries, as it does near its beginning if it wants one."""
    if not program.exists():
        return False
    with program.open("rb") as file:
        return re.search(rb"/ld-[\w.-]+\.so", file.read(65536)) is None


def _ensure_tree(
    tree: Path, sources: Mapping[str, Iterable[str]], finish: Callable[[Path], None] = lambda _: None
) -> Path:
    """Unpack packages of other releases into one folder, unless it is there, and finish it: it appears whole or not."""
    if not tree.exists():
        with locked(tree.name), scratch_folder(BUILD) as scratch:
            if not tree.exists():
                for suite, packages in sources.items():
                    print(f"lab: fetching {', '.join(packages)} of {suite}", flush=True)
                    for archive in download(suite, packages, scratch / suite):
                        run(["dpkg", "-x", str(archive), str(scratch / "tree")])
                finish(scratch / "tree")
                (scratch / "tree").rename(tree)
    return tree.resolve()


def _version(archive: Path) -> str:
    full = run(["dpkg-deb", "-f", str(archive), "Version"]).stdout.strip()
    found = re.match(r"(?:\d+:)?(\d+\.\d+\.\d+)", full)
    if found is None:
        raise LabError(f"{archive.name} has a version that cannot be read: {full}")
    return found[1]
