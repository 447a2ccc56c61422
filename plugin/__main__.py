"""`python -m plugin`: the managed plugin in build/plugin, for `docker plugin create NAME build/plugin`."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from lab.errors import LabError
from lab.paths import scratch_folder
from plugin.description import describe
from plugin.rootfs import MOMENT, ROOT, build

BUILD = ROOT / "build"


def make(folder: Path) -> None:
    """Make the plugin in `folder`, in place of the one that is there. It appears whole or not at all.

    Raises:
        LabError: see `plugin.rootfs.build`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder.parent) as scratch:
        made = scratch / "made"
        build(made / "rootfs", BUILD / "plugin-packages")
        described = made / "config.json"
        described.write_text(json.dumps(describe(), indent=2) + "\n")
        described.chmod(0o644)
        os.utime(described, (MOMENT, MOMENT))
        made.chmod(0o755)
        if folder.exists():
            folder.rename(scratch / "before")
        made.rename(folder)


def is_current(folder: Path) -> bool:
    """Whether the plugin in `folder` was made of the sources as they are now."""
    made = folder / "config.json"
    sources = [ROOT / "requirements.txt", *(ROOT / "plugin").glob("*"), *(ROOT / "src").rglob("*.py")]
    if not (made.exists() and (BUILD / "plugin-packages").exists()):
        return False
    # its files all carry one and the same time, so the change of the inode says when they were made
    return made.stat().st_ctime > max(each.stat().st_mtime for each in sources if each.is_file())


def digest(folder: Path) -> tuple[str, int]:
    """A SHA-256 over the names, rights and contents of all that is in there, and how many bytes its files have."""
    seen, size = hashlib.sha256(), 0
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        seen.update(f"{path.relative_to(folder)} {about.st_mode:o} {int(about.st_mtime)}\n".encode())
        if path.is_symlink():
            seen.update(os.fsencode(path.readlink()))
        elif path.is_file():
            seen.update(path.read_bytes())
            size += about.st_size
    return seen.hexdigest(), size


def main() -> int:
    """Make it if it is not there already, and say how large it is."""
    if shutil.which("dpkg") is None or os.geteuid() != 0:
        print("plugin: this takes root and Debian's dpkg; elsewhere use plugin/Dockerfile", file=sys.stderr)
        return 1
    try:
        if not is_current(BUILD / "plugin"):
            make(BUILD / "plugin")
    except LabError as error:
        print(f"plugin: {error}", file=sys.stderr)
        return 1
    found, size = digest(BUILD / "plugin")
    print(f"plugin: build/plugin is made, {size / 1e6:.0f} MB, sha256 {found[:16]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
