"""Refusals of the kernel in errors about files: root is not told to be root."""

import errno
import os
from pathlib import Path

import pytest

from macvlan_global.rights import refusal
from tests.unit.running import command

NOBODY = 65534
AS_ROOT = "; run it as root (sudo)"


def _said(number: int, user: int) -> str:
    return refusal(OSError(number, os.strerror(number)), user=user)


def test_a_user_is_told_to_be_root() -> None:
    """Whatever the reason: root may be told another one."""
    assert _said(errno.EACCES, NOBODY) == f"Permission denied{AS_ROOT}"
    assert _said(errno.EPERM, NOBODY) == f"Operation not permitted{AS_ROOT}"


def test_root_is_told_what_is_in_the_way() -> None:
    """An immutable file, a read-only mount, a mount of its own; any other reason stands alone."""
    assert _said(errno.EPERM, 0).startswith("Operation not permitted; lsattr shows")
    assert _said(errno.EROFS, 0).startswith("Read-only file system; findmnt -T FILE shows")
    assert _said(errno.EBUSY, 0).startswith("Device or resource busy; findmnt shows")
    assert _said(errno.ENOSPC, 0) == "No space left on device"
    assert refusal(OSError("no number"), user=0) == "no number"


@pytest.mark.parametrize("words", [("install",), ("dns", "install")])
def test_commands_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    """A file that cannot be replaced: here a folder is in the way of the new one."""
    for name in ("etc/systemd/system/macvlan-global.socket.new", "etc/resolv.conf.macvlan-global"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    done = command(capsys, *words, "--root", str(tmp_path))
    assert (done.code, "cannot be written: Is a directory" in done.error) == (1, True)
    assert (AS_ROOT in done.error) == (os.geteuid() != 0)
