"""Folders of the demo. All of it goes with `make stop`.

The folder below /var/lib outlives a reboot and the one below /run does not, as what they describe.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = Path("/run/macvlan-global-demo")
KEPT = Path("/var/lib/macvlan-global-demo")
PROGRAM = Path(sys.executable).parent / "macvlan-global"
FAILED = ROOT / "build" / "run"
"""Logs of a run that failed are moved here, since `RUN` is cleared."""


def shown(path: Path) -> str:
    """A path as it is shortest to type from the repository."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
