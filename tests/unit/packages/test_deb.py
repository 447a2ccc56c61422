"""The Debian package: its control files, its units, and the libraries in it."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.paths import ROOT
from macvlan_global.cli.systemd import SERVICE, SOCKET, unit_texts
from macvlan_global.config import Config
from packages import deb, libraries

MADE = deb.Made("1.2.3-1", 1_700_000_000)


def wheel(folder: Path, python: str, files: dict[str, str], name: str = "lib") -> Path:
    """A wheel of a library for this Python."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-cp{python}-cp{python}-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Name: {name}\nVersion: 1.0\nLicense-Expression: MIT\n")
        archive.writestr(f"{name}-1.0.dist-info/RECORD", python)
        archive.writestr(f"{name}-1.0.dist-info/licenses/LICENSE", "Copyright me\nMay be used.\n")
        for path_within, text in files.items():
            archive.writestr(path_within, text)
    return path


def test_modules_for_several_pythons_stand_side_by_side(tmp_path: Path) -> None:
    """What is alike is there once, each Python's extension module beside it, and nothing that says how it came."""
    made = [
        wheel(tmp_path / "w", each, {"lib/__init__.py": "x = 1\n", f"lib/_c.cpython-{each}.so": each, "lib/_c.c": ""})
        for each in ("311", "313")
    ]
    found = libraries.unpack(tmp_path / "tree", made)
    files = {str(each.relative_to(tmp_path / "tree")) for each in (tmp_path / "tree").rglob("*") if each.is_file()}
    modules = {"lib/__init__.py", "lib/_c.cpython-311.so", "lib/_c.cpython-313.so"}
    assert files == modules | {"lib-1.0.dist-info/METADATA"}
    assert [(each.name, each.version, each.licence) for each in found] == [("lib", "1.0", "MIT")]


def test_wheels_that_differ_in_more_are_refused(tmp_path: Path) -> None:
    """One of them would run with the other's module."""
    made = [wheel(tmp_path / "w", each, {"lib/__init__.py": f"x = {each}\n"}) for each in ("311", "313")]
    with pytest.raises(LabError, match=r"lib-1\.0-cp313-cp313-any\.whl has another __init__\.py"):
        libraries.unpack(tmp_path / "tree", made)


def test_requirements_that_are_never_loaded_are_left_out_with_their_hashes() -> None:
    """And no others: `rich` stays where `rich-extra` goes."""
    text = "# head\nrich==1 \\\n    --hash=sha256:aa\nrich-extra==2 \\\n    --hash=sha256:bb\n    # via rich\nyarl==3\n"
    left = "# head\nrich==1 \\\n    --hash=sha256:aa\nyarl==3\n"
    assert libraries._without(text, ["rich-extra"]) == left


def test_the_copyright_file_has_every_licence(tmp_path: Path) -> None:
    """With its text, but for the one that every Debian has."""
    apache = (
        "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION\nCopyright 2020 them\nCopyright [yyyy] [name]\n"
    )
    found = deb.copyright_text(
        [
            *libraries.unpack(tmp_path / "tree", [wheel(tmp_path / "w", "311", {})]),
            libraries.Library("other", "2.0", "Apache-2.0", {"x/LICENSE": apache}),
        ]
    )
    assert "lib 1.0, in /usr/lib/macvlan-global. Licence: MIT\n\nLICENSE:\n\nCopyright me\nMay be used.\n" in found
    assert "Copyright 2020 them\nApache License 2.0: /usr/share/common-licenses/Apache-2.0\n" in found
    assert "TERMS AND" not in found


def test_the_package_is_for_the_pythons_that_it_has_libraries_for() -> None:
    """From the oldest on, and not for the one after the newest."""
    text = deb.control(MADE, "amd64", 10)
    assert libraries.PYTHONS == ("3.11", "3.12", "3.13")
    assert "\nDepends: python3 (>= 3.11), python3 (<< 3.14)," in text
    assert all(len(line) <= 80 for line in text.splitlines() if line.startswith(" "))


def test_the_units_are_those_of_install() -> None:
    """All but the line that says who wrote them; they start the command of the package."""
    found = deb.units()
    written = unit_texts(["/usr/bin/macvlan-global", "serve"], Config())
    assert {Path(path).name for path in found} == set(written)
    for path, text in found.items():
        assert text.split("\n", 1)[1] == written[Path(path).name].split("\n", 1)[1]
        assert text.startswith("# Part of the package macvlan-global.")
    assert "\nExecStart=/usr/bin/macvlan-global serve\n" in found[f"usr/lib/systemd/system/{SERVICE}"]
    assert "systemctl edit macvlan-global.socket" in found[f"usr/lib/systemd/system/{SOCKET}"].split("\n", 1)[0]


def test_the_package_has_the_rules_and_the_dashboard() -> None:
    """Those of the repository, and not the test of the rules."""
    folder = ROOT / "monitoring"
    names = ("macvlan-global.rules.yml", "macvlan-global.dashboard.json")
    assert deb.monitoring() == {
        f"usr/share/macvlan-global/monitoring/{name}": (folder / name).read_text() for name in names
    }


@pytest.mark.parametrize("name", [*deb.SCRIPTS, "rtupdate"])
def test_a_script_of_the_package_is_one_of_sh(name: str) -> None:
    """It ends at the first error, and the shell can read it."""
    path = deb.OWN_FILES / name
    assert path.read_text().startswith("#!/bin/sh\n")
    assert "\nset -e\n" in path.read_text()
    subprocess.run(["sh", "-n", str(path)], check=True)


def test_documents_depend_on_nothing_but_version_and_time() -> None:
    """Twice the same; the version of the package begins Debian's changelog."""
    assert deb.documents(MADE) == deb.documents(MADE)
    entry = deb.documents(MADE)["usr/share/doc/macvlan-global/changelog.Debian.gz"]
    assert entry.startswith("macvlan-global (1.2.3-1) unstable; urgency=medium\n")
    assert entry.endswith("  Tue, 14 Nov 2023 22:13:20 +0000\n")
