"""The sdist and the wheel: a new virtual environment takes them, and the version is the one of the package."""

import subprocess
import sys
import tarfile
from pathlib import Path

from lab.process import run
from macvlan_global import __version__
from packages import deb, dist
from packages.libraries import wheels


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
