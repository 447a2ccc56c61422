"""Write `docs/examples/*.txt`: what the seed's examples print on the newest engine, as the tests see it.

Run as root from the repository's folder: `.venv/bin/python tests/e2e/write_examples.py`. Examples that want VLAN or
dummy links, which the running kernel may lack, come out of the guest kernel.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from lab import guest_run  # noqa: E402 - the lab is found only after the line above
from lab.suite import GUEST_MARK  # noqa: E402

OUT = ROOT / "docs/examples"
DOCS_OUT = "MACVLAN_GLOBAL_DOCS_OUT"
SUITES = ["tests/e2e/test_seed.py", "tests/cluster/test_seed_two_hosts.py"]
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "newest", *SUITES]


def main() -> int:
    """Run the seed's tests outside and in the guest, and keep what they wrote; 0 if all passed."""
    outside = subprocess.run(PYTEST, cwd=ROOT, env={**os.environ, DOCS_OUT: str(OUT)}, check=False).returncode
    inside = guest_run(PYTEST, env={GUEST_MARK: "1", "PYTHONPATH": str(ROOT), DOCS_OUT: "/mnt/out/examples"})
    for file in sorted((inside.out / "examples").glob("*.txt")):
        shutil.copy(file, OUT)
    return outside or inside.returncode


if __name__ == "__main__":
    sys.exit(main())
