"""The browser of the page's tests: where there is none, one line says how to get one."""

from pathlib import Path

import pytest

from lab import LabError
from lab.packages import CHROMIUM_VARIABLE, ensure_chromium


def test_a_release_without_the_package_is_told_what_to_do(tmp_path: Path) -> None:
    """apt-get knows no such package, as on Ubuntu: one line with its words, and with a way to a browser."""
    with pytest.raises(LabError) as failed:
        ensure_chromium("chromium-of-no-release", tmp_path / "none", {})
    said = str(failed.value)
    assert "\n" not in said
    assert "chromium-of-no-release cannot be installed here (apt-get: E: Unable to locate package" in said
    assert said.endswith(f"then name that program in {CHROMIUM_VARIABLE}")


def test_another_browser_can_be_named(tmp_path: Path) -> None:
    """A program is taken as it is; what is none is refused with the name of the variable."""
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(LabError, match=f"{CHROMIUM_VARIABLE} names {program}, which is no program"):
        ensure_chromium(environment={CHROMIUM_VARIABLE: str(program)})
    program.chmod(0o755)
    assert ensure_chromium(environment={CHROMIUM_VARIABLE: str(program)}) == program
