"""The sdist, the wheel and the bill of their materials: an index, a new virtual environment and CycloneDX take them."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

from lab.process import run
from macvlan_global import __version__
from packages import deb, dist
from packages.libraries import wheels

_VALIDATE = """
import sys
from pathlib import Path
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(Path(sys.argv[1]).read_text())
sys.exit(str(wrong) if wrong else 0)
"""


def _validated(bill: Path) -> "subprocess.CompletedProcess[str]":
    return run([sys.executable, "-c", _VALIDATE, str(bill)], check=False)


def test_what_an_upload_would_be_checked_for_holds(tmp_path: Path) -> None:
    """`twine check` has no word about sdist and wheel, and the bill holds to the schema of CycloneDX 1.6."""
    made = dist.build(tmp_path, deb.source_date())
    archives = [str(path) for path in made if path.suffix != ".json"]
    said = run([sys.executable, "-m", "twine", "check", "--strict", *archives]).stdout
    assert said.count("PASSED") == len(archives) == 2
    (bill,) = (path for path in made if path.suffix == ".json")
    done = _validated(bill)
    assert done.returncode == 0, done.stderr


def test_a_bill_that_does_not_hold_is_found(tmp_path: Path) -> None:
    """The check of it fails for a component of no kind that there is."""
    bill = dist.materials("aiohttp==1\n", 1_700_000_000)
    bill["components"][0]["type"] = "something"
    (tmp_path / "bill.json").write_text(json.dumps(bill))
    done = _validated(tmp_path / "bill.json")
    assert done.returncode == 1
    assert "'something' is not one of" in done.stderr


def test_a_new_virtual_environment_takes_the_wheel(tmp_path: Path) -> None:
    """With the pinned libraries and without a network; the sdist has all that the wheel is made of."""
    made = {path.name: path for path in dist.build(tmp_path / "dist", deb.source_date())}
    name = f"macvlan_global-{__version__}"
    assert set(made) == {f"{name}.tar.gz", f"{name}-py3-none-any.whl", f"macvlan-global-{__version__}.cdx.json"}
    with tarfile.open(made[f"{name}.tar.gz"]) as archive:
        assert f"{name}/src/macvlan_global/cli/units/macvlan-global.service" in archive.getnames()
    run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "new")])
    libraries = wheels(f"{sys.version_info.major}.{sys.version_info.minor}")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(tmp_path / "new"),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    run([*pip, str(made[f"{name}-py3-none-any.whl"]), *map(str, libraries)], timeout=300)
    alone = ["unshare", "--net", str(tmp_path / "new/bin/macvlan-global")]
    assert subprocess.run([*alone, "version"], capture_output=True, text=True, check=True).stdout == (
        f"macvlan-global {__version__}\n"
    )
    assert "macvlan-global.service" in run([*alone, "install", "--root", str(tmp_path / "root")]).stdout
