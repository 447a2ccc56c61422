"""The plugin's root file system: a Python of Debian's, the pinned libraries that `serve` loads, and the driver.

Two builds from the same packages give the same bytes: nothing in it depends on when or where it is built.
"""

import os
import platform
import shutil
import stat
import sys
from pathlib import Path

from lab.apt import download
from lab.errors import LabError
from lab.paths import scratch_folder
from lab.process import Completed, run
from plugin.description import INTERPRETER, PACKAGES, STATE

ROOT = Path(__file__).parents[1]
SUITE = "bookworm"
PYTHON = "3.11"
MOMENT = 1_700_000_000
"""Every file's time, in seconds since 1970. Any would do, if it is always the same."""

_DEBIAN = (
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libc6",
    "gcc-12-base",  # the copyright file of libgcc-s1
    "libgcc-s1",
    "libssl3",
    "libsqlite3-0",
    "libffi8",
    "zlib1g",
    "libbz2-1.0",
    "liblzma5",
    "libexpat1",
    "libuuid1",
)
# The text of every licence that the packages' own copyright files refer to.
_LICENCES = "base-files"
# What rich could use, and our commands do not: it reads no Markdown here, and colours no source.
_NEVER_LOADED = ("markdown_it", "mdurl", "pygments")
_NOT_NEEDED = (
    "usr/share/[!d]*",
    "usr/share/doc/*/[!c]*",
    "usr/share/doc/*/changelog*",
    "usr/lib/valgrind",
    "usr/lib/*/gconv",
    "usr/lib/python3.11/ensurepip",
    "usr/lib/python3.11/idlelib",
    "usr/lib/python3.11/lib2to3",
    "usr/lib/python3.11/pydoc_data",
    "usr/lib/python3.11/test",
    "usr/lib/python3.11/tkinter",
    "usr/lib/python3.11/turtledemo",
    "usr/lib/python3.11/unittest",
    "usr/lib/python3.11/sitecustomize.py",  # a link into /etc, which is the node's own here
    "etc",
    "usr/sbin",
    "sbin",
    "usr/bin/[!p]*",
    "usr/bin/pldd",
)
_NOT_NEEDED_OF_LIBRARIES = ("*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "*.hash", "py.typed", "bin")
_PLATFORMS = ("manylinux_2_17", "manylinux2014", "manylinux_2_28")
# Where the engine and config.json mount things, and where the kernel's file systems go.
_FOLDERS = ("etc", "proc", "sys", "dev", "tmp", "run/docker/plugins", "var", "sysctl/net", STATE[1:])


def build(folder: Path, packages: Path) -> None:
    """Make the root file system in `folder`, which must not be there. Debian's packages are kept in `packages`.

    Raises:
        LabError: a package cannot be fetched, or what was built does not start.
    """
    folder.mkdir(parents=True)
    archives = _debian(packages)
    for archive in archives:
        if not archive.name.startswith(f"{_LICENCES}_"):
            run(["dpkg", "-x", str(archive), str(folder)])
    _remove(folder, _NOT_NEEDED)
    _licences(folder, next(each for each in archives if each.name.startswith(f"{_LICENCES}_")))
    site = folder / PACKAGES[1:]
    _libraries(site)
    shutil.copytree(ROOT / "src/macvlan_global", site / "macvlan_global")
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "var/run").symlink_to("../run")
    shutil.copy(ROOT / "plugin/macvlan-global", folder / "usr/bin")
    for cache in [*folder.rglob("__pycache__")]:
        shutil.rmtree(cache)
    _try(folder)
    _settle(folder)


def _debian(packages: Path) -> list[Path]:
    """The archives, fetched once: which versions are in the plugin changes when the folder is removed."""
    packages.mkdir(parents=True, exist_ok=True)
    if missing := [name for name in (*_DEBIAN, _LICENCES) if not any(packages.glob(f"{name}_*.deb"))]:
        with scratch_folder(packages.parent) as scratch:
            print(f"plugin: fetching {', '.join(missing)} of {SUITE}", flush=True)
            for archive in download(SUITE, missing, scratch / SUITE):
                archive.rename(packages / archive.name)
    return sorted(packages.glob("*.deb"))


def _licences(folder: Path, archive: Path) -> None:
    """Put the licences' texts where the copyright files of the packages say, and our own beside the driver's."""
    with scratch_folder(folder.parent) as scratch:
        run(["dpkg", "-x", str(archive), str(scratch)])
        shutil.copytree(scratch / "usr/share/common-licenses", folder / "usr/share/common-licenses", symlinks=True)
    ours = folder / "usr/share/doc/macvlan-global/copyright"
    ours.parent.mkdir(parents=True)
    shutil.copy(ROOT / "LICENSE", ours)


def _libraries(site: Path) -> None:
    """Unpack the wheels that requirements.txt pins, for the interpreter of the plugin and not the one that runs."""
    platforms = [f"--platform={each}_{platform.machine()}" for each in _PLATFORMS]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
    ]
    wanted = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--implementation=cp", *platforms]
    target = [f"--python-version={PYTHON}", "--no-compile", f"--target={site}", f"-r{ROOT / 'requirements.txt'}"]
    run([*pip, *wanted, *target], timeout=300)
    for name in _NEVER_LOADED:
        _remove(site, [name, f"{name}-*.dist-info", f"{name}_py-*.dist-info"])
    # pip writes into these where and how it installed
    _remove(site, ["*.dist-info/RECORD", "*.dist-info/direct_url.json", "*.dist-info/REQUESTED"])
    for pattern in _NOT_NEEDED_OF_LIBRARIES:
        _remove(site, [f"**/{pattern}"])


def _remove(folder: Path, patterns: tuple[str, ...] | list[str]) -> None:
    for pattern in patterns:
        for found in [*folder.glob(pattern)]:
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink(missing_ok=True)


# Loads everything that the driver may load, and compiles that: it takes three quarters of a start, and an engine waits
# ten seconds for a plugin. What is compiled is not compared with its source again, so times do not matter to it.
_LOAD = """
import macvlan_global.__main__, macvlan_global.daemon, macvlan_global.global_scope, macvlan_global.store.remote.etcd
import ctypes, py_compile, sqlite3, ssl, sys
for path in sorted({str(getattr(module, "__file__", None)) for module in [*sys.modules.values()]}):
    if path.endswith(".py"):
        py_compile.compile(path, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


def _try(folder: Path) -> None:
    """Load everything that the driver may load, and leave it compiled; and ask for its status, in there.

    Raises:
        LabError: something is missing.
    """
    loads = _python(folder, "-c", _LOAD)
    asks = _python(folder, "-m", "macvlan_global", "status", "--json")
    for done, said in ((loads, ""), (asks, "macvlan-global: the driver is not running here")):
        if not done.stderr.startswith(said) or "Traceback" in done.stderr:
            raise LabError(f"what was built does not start: {done.stderr}")


def _python(folder: Path, *arguments: str) -> Completed:
    environment = {"PYTHONPATH": PACKAGES, "PATH": os.environ["PATH"]}
    return run(["chroot", str(folder), INTERPRETER, "-B", *arguments], check=False, env=environment)


def _settle(folder: Path) -> None:
    """Give every file the same time and owner, and rights that do not depend on who builds."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 0, 0, follow_symlinks=False)
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)
        os.utime(path, (MOMENT, MOMENT), follow_symlinks=False)
