"""The libraries that requirements.txt pins, unpacked into one folder for every Python that the package is for.

Wheels of one version for several Pythons differ in their extension modules only, and those have the Python in their
names: so they stand side by side, and each Python loads its own.
"""

import hashlib
import platform
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.parser import Parser
from fnmatch import fnmatch
from pathlib import Path

from lab.errors import LabError
from lab.paths import ROOT, locked, scratch_folder
from lab.process import run

PYTHONS = ("3.11", "3.12", "3.13")
"""Of Debian 12, Ubuntu 24.04 and Debian 13."""
REQUIREMENTS = ROOT / "requirements.txt"
WHEELS = ROOT / "build" / "packages" / "wheels"
_PLATFORMS = ("manylinux_2_17", "manylinux2014", "manylinux_2_28")
# What rich could use, and our commands do not: it reads no Markdown here, and colours no source.
_NEVER_LOADED = ("markdown-it-py", "mdurl", "pygments")
_NOT_NEEDED = ("*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "*.hash", "*/py.typed", "bin/*", "*/_testcapi.*")
_LICENCE = re.compile(r"(^|/)(licen[cs]e|copying|notice)[^/]*$", re.IGNORECASE)


@dataclass(frozen=True)
class Library:
    """A library: its name and version, the licence that it states, and the texts of its licences by file."""

    name: str
    version: str
    licence: str
    texts: dict[str, str]


def wheels(python: str) -> list[Path]:
    """The wheels for this Python, fetched unless they are there: a second build asks nobody.

    Raises:
        LabError: one cannot be fetched, or has another hash than requirements.txt says.
    """
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    folder = WHEELS / f"{digest}-{python}"
    with locked("wheels"):
        if not folder.exists():
            print(f"packages: fetching the libraries for Python {python}", flush=True)
            with scratch_folder(WHEELS) as scratch:
                (scratch / "requirements.txt").write_text(_without(REQUIREMENTS.read_text(), _NEVER_LOADED))
                _download(python, scratch / "requirements.txt", scratch / "wheels")
                (scratch / "wheels").rename(folder)
    return sorted(folder.glob("*.whl"))


def _download(python: str, requirements: Path, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", f"--dest={folder}"]
    wanted = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--implementation=cp"]
    platforms = [f"--platform={each}_{platform.machine()}" for each in _PLATFORMS]
    run([*pip, *wanted, *platforms, f"--python-version={python}", f"-r{requirements}"], timeout=600)


def _without(requirements: str, names: Iterable[str]) -> str:
    """The text of a requirements file without these packages: each begins a line, its hashes are indented."""
    blocks = re.split(r"^(?=[a-z])", requirements, flags=re.MULTILINE)
    return "".join(each for each in blocks if not each.startswith(tuple(f"{name}==" for name in names)))


def unpack(folder: Path, archives: Iterable[Path]) -> list[Library]:
    """Unpack wheels, of which several may be of one library, into `folder`; the libraries, by name.

    Raises:
        LabError: wheels of one library differ in more than their extension modules.
    """
    found: dict[str, Library] = {}
    for wheel in archives:
        with zipfile.ZipFile(wheel) as archive:
            library = _library(archive)
            found[library.name] = library
            for name in _wanted(archive.namelist()):
                _write(folder / name, archive.read(name), wheel)
    return sorted(found.values(), key=lambda each: each.name.lower())


def _wanted(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        about = ".dist-info/" in name  # scanners read what is installed from METADATA
        if name.endswith("/METADATA") if about else not any(fnmatch(name, each) for each in ("*/", *_NOT_NEEDED)):
            yield name


def _write(path: Path, data: bytes, wheel: Path) -> None:
    if path.exists():
        if path.read_bytes() != data:
            raise LabError(f"{wheel.name} has another {path.name} than the wheel for another Python")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _library(archive: zipfile.ZipFile) -> Library:
    names = archive.namelist()
    metadata = next(each for each in names if each.endswith(".dist-info/METADATA"))
    about = Parser().parsestr(archive.read(metadata).decode())
    classified = [each.split(" :: ")[-1] for each in about.get_all("Classifier", []) if each.startswith("License ::")]
    stated = about.get("License-Expression") or ", ".join(classified) or about.get("License") or "see its text"
    texts = {name: archive.read(name).decode() for name in names if _LICENCE.search(name) and not name.endswith("/")}
    return Library(about["Name"], about["Version"], stated, texts)
