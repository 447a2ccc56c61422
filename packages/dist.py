"""The sdist and the wheel, and the bill of their materials as CycloneDX."""

import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.paths import ROOT, scratch_folder
from lab.process import run
from macvlan_global import __version__
from macvlan_global.cli.main import PROGRAM

_SOURCES = ("pyproject.toml", "README.md", "LICENSE")
# the back end changes sys.argv
_BUILD = "import sys; to = sys.argv[1]; from setuptools import build_meta as b; b.build_sdist(to); b.build_wheel(to)"
_OURS = "-r requirements.in"
"""The one who asks for a library, in the comments of requirements.txt, if that is us."""
_REQUIREMENT = re.compile(r"^(?P<name>[a-z][\w.-]*)==(?P<version>\S+)(?P<rest>(?:\n? .*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Requirement:
    """A pinned library: the SHA-256 of every file of it that would do, and the names of those that ask for it."""

    name: str
    version: str
    hashes: tuple[str, ...]
    via: tuple[str, ...]

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def build(folder: Path, epoch: int) -> list[Path]:
    """Make all three in `folder`; their paths. `epoch` is the time of what is in them, in seconds since 1970.

    Raises:
        LabError: the build failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder) as scratch:
        for name in _SOURCES:
            shutil.copy(ROOT / name, scratch)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "src/macvlan_global", scratch / "src/macvlan_global", ignore=ignored)
        made = scratch / "made"
        made.mkdir()
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
        run([sys.executable, "-c", _BUILD, str(made)], cwd=scratch, env=environment, timeout=300)
        bill = made / f"{PROGRAM}-{__version__}.cdx.json"
        bill.write_text(json.dumps(materials((ROOT / "requirements.txt").read_text(), epoch), indent=2) + "\n")
        return [path.replace(folder / path.name) for path in sorted(made.iterdir())]


def read_requirements(text: str) -> list[Requirement]:
    """The libraries of a requirements file that pip-compile wrote."""
    return list(_requirements(text))


def _requirements(text: str) -> Iterator[Requirement]:
    for found in _REQUIREMENT.finditer(text):
        comments = re.findall(r"^ +#(.*)$", found["rest"], re.MULTILINE)
        via = [each.strip().removeprefix("via").strip() for each in comments]
        hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", found["rest"]))
        yield Requirement(found["name"], found["version"], hashes, tuple(each for each in via if each))


def materials(requirements: str, epoch: int) -> dict[str, Any]:
    """The bill of materials, by the specification of CycloneDX 1.6. The same requirements give the same bill. Pure."""
    libraries = read_requirements(requirements)
    own = f"pkg:pypi/{PROGRAM}@{__version__}"
    asks: dict[str, list[str]] = {own: [], **{each.purl: [] for each in libraries}}
    purls = {_OURS: own, **{each.name: each.purl for each in libraries}}
    for each in libraries:
        for name in each.via:
            asks[purls[name]].append(each.purl)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{own} {epoch} {requirements}')}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z"),
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": PROGRAM,
                "version": __version__,
                "purl": own,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": [_component(each) for each in libraries],
        "dependencies": [{"ref": ref, "dependsOn": sorted(names)} for ref, names in asks.items()],
    }


def _component(library: Requirement) -> dict[str, Any]:
    files = {
        "type": "distribution",
        "url": f"https://pypi.org/simple/{library.name}/",
        "hashes": [{"alg": "SHA-256", "content": each} for each in library.hashes],
    }
    return {
        "type": "library",
        "bom-ref": library.purl,
        "name": library.name,
        "version": library.version,
        "purl": library.purl,
        "externalReferences": [files],
    }
