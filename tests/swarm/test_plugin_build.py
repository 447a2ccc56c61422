"""What `make plugin` leaves in build/plugin."""

import os
from pathlib import Path

import pytest

from plugin.__main__ import BUILD, digest, make
from plugin.description import INTERPRETER, PACKAGES, describe


def _inside(root: Path, link: Path) -> Path:
    """What a link of the root file system leads to."""
    target = link.readlink()
    return root / str(target).lstrip("/") if target.is_absolute() else link.parent / target


@pytest.mark.usefixtures("_built")
def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    """Names, rights, times and contents, of what is compiled too; and it is not large. Nothing points nowhere."""
    make(tmp_path / "build/again")
    first, size = digest(BUILD / "plugin")
    assert first == digest(tmp_path / "build/again")[0]
    assert size < 70e6
    root = BUILD / "plugin/rootfs"
    assert os.access(root / INTERPRETER[1:], os.X_OK)
    assert (root / PACKAGES[1:] / "macvlan_global/__main__.py").exists()
    assert [*(root / PACKAGES[1:] / "macvlan_global/driver/__pycache__").glob("networks.*.pyc")] != []
    assert [each for each in root.rglob("*") if each.is_symlink() and not _inside(root, each).exists()] == []
    assert (root / "usr/share/common-licenses/LGPL-2.1").exists()
    carried = [each.name for each in (root / "usr/share/doc").iterdir() if not (each / "copyright").exists()]
    assert carried == []
    wheels = [each for each in (root / PACKAGES[1:]).glob("*.dist-info") if not [*each.rglob("LICEN[SC]E*")]]
    assert wheels == []


@pytest.mark.usefixtures("_built")
def test_every_mount_has_a_place_in_the_root_file_system() -> None:
    """The engine makes no folder where config.json wants something mounted."""
    described = describe()
    assert (BUILD / "plugin/rootfs/var/run").readlink() == Path("../run")  # Docker's paths begin with /var/run
    places = [each["destination"] for each in described["mounts"]] + [described["propagatedMount"]]
    assert [place for place in places if not (BUILD / "plugin/rootfs" / place[1:]).exists()] == []


def test_the_plugin_asks_for_no_more_than_it_needs() -> None:
    """Four capabilities, no devices, and no process or semaphore of the host."""
    described = describe()
    assert described["linux"] == {
        "capabilities": ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE"]
    }
    assert not {"pidhost", "ipchost"} & described.keys()
