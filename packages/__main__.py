"""`python -m packages deb`: the Debian package in build/packages."""

import hashlib
import sys
from pathlib import Path

from lab.errors import LabError
from lab.paths import ROOT
from packages import deb

FOLDER = ROOT / "build" / "packages"


def _tell(path: Path) -> None:
    size, digest = path.stat().st_size / 1e6, hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"packages: {path.relative_to(ROOT)} is made, {size:.1f} MB, sha256 {digest[:16]}")


def main() -> int:
    """Make what is asked for, and say how large it is."""
    if sys.argv[1:] != ["deb"]:
        print("packages: python -m packages deb", file=sys.stderr)
        return 2
    try:
        _tell(deb.build(FOLDER))
    except LabError as error:
        print(f"packages: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
