"""`python -m packages deb` and `dist`: the Debian package; the sdist, the wheel and their bill; in build/packages."""

import hashlib
import sys
from pathlib import Path

from lab.errors import LabError
from lab.paths import ROOT
from packages import deb, dist

FOLDER = ROOT / "build" / "packages"


def _tell(path: Path) -> None:
    size, digest = path.stat().st_size / 1e6, hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"packages: {path.relative_to(ROOT)} is made, {size:.1f} MB, sha256 {digest[:16]}")


def main() -> int:
    """Make what is asked for, and say how large it is."""
    if sys.argv[1:] not in (["deb"], ["dist"]):
        print("packages: python -m packages deb, or dist", file=sys.stderr)
        return 2
    try:
        for path in [deb.build(FOLDER)] if sys.argv[1] == "deb" else dist.build(FOLDER, deb.source_date()):
            _tell(path)
    except LabError as error:
        print(f"packages: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
