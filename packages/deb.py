"""The Debian package: its files, its control files, and the archive, which is the same for the same sources."""

import gzip
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from lab.errors import LabError
from lab.paths import ROOT, scratch_folder
from lab.process import run
from macvlan_global import __version__
from macvlan_global.cli.main import PROGRAM
from macvlan_global.cli.systemd import NETWORK, RULES, SERVICE, SOCKET, unit_texts
from macvlan_global.config import Config
from packages import completion, configuration, manpages, reference
from packages.libraries import PYTHONS, Library, unpack, wheels

LIBRARIES = f"usr/lib/{PROGRAM}"
"""Folder of the driver and its libraries, below /."""
COMMAND = f"usr/bin/{PROGRAM}"
CONFIGURATION = f"etc/{PROGRAM}/config.toml"
UNITS = {
    SOCKET: "usr/lib/systemd/system",
    SERVICE: "usr/lib/systemd/system",
    RULES: "usr/lib/udev/rules.d",
    NETWORK: "usr/lib/systemd/network",
}
"""Folders of the units and of the files for network managers, below /."""
MONITORING = f"usr/share/{PROGRAM}/monitoring"
"""Folder of the alert rules and the dashboard, below /: a Prometheus may be told to read them there."""
SCRIPTS = ("postinst", "prerm", "postrm")
OWN_FILES = ROOT / "packages" / "debian"
_MAINTAINER = "macvlan-global maintainers <maintainers@macvlan-global.invalid>"
_WRITTEN_HERE = f"# Part of the package {PROGRAM}."
_MOMENT = 1_700_000_000
"""The time of every file, in seconds since 1970, where neither the environment nor git tells one."""
# Isolated: neither the environment, nor what users installed, nor the distribution's versions of libraries are in the
# way. Nothing is written beside the files: the package compiles them when it is installed.
_LAUNCHER = f"""\
#!/usr/bin/python3 -BIS
import sys

sys.path.insert(0, "/{LIBRARIES}")
from macvlan_global.cli.main import main

main()
"""
_DESCRIPTION = """\
macvlan networks that exist on every Docker host, each with its own parent
 A Docker network driver and IPAM driver. A network is created once and exists
 on every host of a cluster, on that host's own parent interface or VLAN; every
 address is unique in the whole cluster, and containers find each other by name
 on whichever host they run. On a host alone it needs no other service; several
 hosts share a Consul or an etcd.
 .
 The Python libraries that it is tested with are part of the package, in a
 folder of their own.
"""
# xz takes half the size and twenty times as long; zstd is unknown to the lintian of Debian 12
_PACKING = ("-Zgzip", "--root-owner-group")
_CHANGED = "  * Release {version}; see changelog.gz beside this file."


@dataclass(frozen=True)
class Made:
    """A build: the version of the package, and the time of its files in seconds since 1970."""

    version: str
    epoch: int


def version() -> str:
    """The version of the package."""
    return f"{__version__}-1"


def source_date() -> int:
    """The time of every file: SOURCE_DATE_EPOCH, else the last commit's, else always the same."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    done = run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip() else _MOMENT


def build(folder: Path, made: Made | None = None, source: Path = ROOT / "src" / "macvlan_global") -> Path:
    """Make the package in `folder`; its path. `source` is the package folder of the driver.

    Raises:
        LabError: there is no dpkg-deb, or a library cannot be fetched.
    """
    made = made or Made(version(), source_date())
    if shutil.which("dpkg-deb") is None:
        raise LabError("dpkg-deb is not here: make the package on a Debian or an Ubuntu (apt install dpkg)")
    architecture = run(["dpkg", "--print-architecture"]).stdout.strip()
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{PROGRAM}_{made.version}_{architecture}.deb"
    with scratch_folder(folder) as scratch:
        tree = scratch / "tree"
        libraries = unpack(tree / LIBRARIES, [wheel for python in PYTHONS for wheel in wheels(python)])
        ignored = shutil.ignore_patterns("__pycache__", "py.typed")
        shutil.copytree(source, tree / LIBRARIES / "macvlan_global", ignore=ignored)
        for path, text in texts(made, libraries).items():
            _put(tree / path, text.encode())
        for path, text in documents(made).items():
            _put(tree / path, gzip.compress(text.encode(), mtime=0))
        (tree / COMMAND).chmod(0o755)
        _control(tree, made, architecture)
        _settle(tree, made.epoch)
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(made.epoch)}
        run(["dpkg-deb", *_PACKING, "--build", str(tree), str(scratch / "made.deb")], env=environment, timeout=600)
        (scratch / "made.deb").rename(archive)
    return archive


def texts(made: Made, libraries: Sequence[Library]) -> dict[str, str]:
    """Files of the package that are text and not compressed, by their path below /."""
    return {
        COMMAND: _LAUNCHER,
        CONFIGURATION: configuration.text(reference.source()),
        **units(),
        **completion.scripts(),
        **monitoring(),
        f"usr/share/doc/{PROGRAM}/copyright": copyright_text(libraries),
        f"usr/share/lintian/overrides/{PROGRAM}": (OWN_FILES / "lintian-overrides").read_text(),
        f"usr/share/python3/runtime.d/{PROGRAM}.rtupdate": (OWN_FILES / "rtupdate").read_text(),
    }


def units() -> dict[str, str]:
    """The units as `macvlan-global install` writes them, but for their first line, by their path below /."""
    found = {}
    for name, text in unit_texts([f"/{COMMAND}", "serve"], Config()).items():
        first, rest = text.split("\n", 1)
        own_settings = first.partition(" anew.")[2]
        found[f"{UNITS[name]}/{name}"] = f"{_WRITTEN_HERE}{own_settings}\n{rest}"
    return found


def monitoring() -> dict[str, str]:
    """Alert rules and dashboard, by their path below /."""
    names = (f"{PROGRAM}.rules.yml", f"{PROGRAM}.dashboard.json")
    return {f"{MONITORING}/{name}": (ROOT / "monitoring" / name).read_text() for name in names}


def documents(made: Made) -> dict[str, str]:
    """Manual pages and changelogs, which Debian wants compressed, by their path below /."""
    chapters = manpages.pages(reference.source(), __version__, made.epoch)
    paths = {f"usr/share/man/man{name[-1]}/{name}.gz": text for name, text in chapters.items()}
    when = format_datetime(datetime.fromtimestamp(made.epoch, UTC))
    entry = f"{PROGRAM} ({made.version}) unstable; urgency=medium\n\n{_CHANGED.format(version=__version__)}\n\n"
    folder = f"usr/share/doc/{PROGRAM}"
    return paths | {
        f"{folder}/changelog.gz": (ROOT / "CHANGELOG.md").read_text(),
        f"{folder}/changelog.Debian.gz": f"{entry} -- {_MAINTAINER}  {when}\n",
    }


def copyright_text(libraries: Sequence[Library]) -> str:
    """Licences of the driver and of every library in the package, with their texts."""
    parts = [(OWN_FILES / "copyright").read_text()]
    for each in libraries:
        parts.append(f"\n{'-' * 78}\n{each.name} {each.version}, in /{LIBRARIES}. Licence: {each.licence}\n")
        parts += [f"\n{name.rpartition('/')[2]}:\n\n{_licence(text)}" for name, text in sorted(each.texts.items())]
    return "".join(parts)


def _licence(text: str) -> str:
    """A licence's text. The one that is on every Debian is named, and its copyright line is kept."""
    if "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" not in text:
        return text.rstrip() + "\n"
    lines = [line.strip() for line in text.splitlines()]
    holders = [line for line in lines if line.startswith("Copyright ") and "[yyyy]" not in line]
    return "\n".join([*holders, "Apache License 2.0: /usr/share/common-licenses/Apache-2.0", ""])


def control(made: Made, architecture: str, kilobytes: int) -> str:
    """The control file (deb-control(5))."""
    major, minor = map(int, PYTHONS[-1].split("."))
    before = f"{major}.{minor + 1}"
    fields = {
        "Package": PROGRAM,
        "Version": made.version,
        "Architecture": architecture,
        "Maintainer": _MAINTAINER,
        "Installed-Size": str(kilobytes),
        "Depends": f"python3 (>= {PYTHONS[0]}), python3 (<< {before}), libc6 (>= 2.28), libgcc-s1",
        "Suggests": "docker.io | docker-ce",
        "Enhances": "docker.io, docker-ce",
        "Section": "net",
        "Priority": "optional",
        "Description": _DESCRIPTION.rstrip(),
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def _control(tree: Path, made: Made, architecture: str) -> None:
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    folders = sum(1 for path in tree.rglob("*") if path.is_dir())
    kilobytes = folders + sum(-(-path.stat().st_size // 1024) for path in files)  # as dpkg-gencontrol counts
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in files]  # noqa: S324
    folder = tree / "DEBIAN"
    _put(folder / "control", control(made, architecture, kilobytes).encode())
    _put(folder / "conffiles", f"/{CONFIGURATION}\n".encode())
    _put(folder / "md5sums", "".join(each for each in sums if not each.endswith(f"  {CONFIGURATION}\n")).encode())
    for name in SCRIPTS:
        _put(folder / name, (OWN_FILES / name).read_bytes())
        (folder / name).chmod(0o755)


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _settle(tree: Path, epoch: int) -> None:
    """Give every file the same time, and rights that do not depend on who builds."""
    scripts = {tree / COMMAND, tree / f"usr/share/python3/runtime.d/{PROGRAM}.rtupdate"}
    scripts |= {tree / "DEBIAN" / name for name in SCRIPTS}
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path in scripts else 0o644)
        os.utime(path, (epoch, epoch))
