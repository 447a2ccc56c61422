"""The package as a file: the same bytes twice, and nothing that lintian calls an error."""

import os
import subprocess
import sys
from pathlib import Path

from lab.lintian import lintian
from lab.paths import ROOT
from packages import deb


def test_it_is_built_twice_with_the_same_bytes_and_lintian_has_no_word(tmp_path: Path) -> None:
    """By `make deb` for another builder, who is elsewhere, at another time of day, and without a network."""
    one = deb.build(tmp_path / "one")
    environment = os.environ | {"TZ": "Asia/Tokyo", "LC_ALL": "C", "SOURCE_DATE_EPOCH": str(deb.source_date())}
    script = "import sys; from pathlib import Path; from packages import deb; deb.build(Path(sys.argv[1]))"
    alone = ["unshare", "--net", "sh", "-c", 'umask 077; exec "$@"', "sh", sys.executable, "-c", script]
    subprocess.run([*alone, str(tmp_path / "two")], cwd=ROOT, env=environment, check=True)
    assert (tmp_path / "two" / one.name).read_bytes() == one.read_bytes()
    assert lintian(one) == []
