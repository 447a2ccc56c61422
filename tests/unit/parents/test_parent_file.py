"""Parent files: what they may hold, and that nothing of it is told."""

import os
from pathlib import Path

import pytest

from macvlan_global.errors import Invalid
from macvlan_global.parents.parent_file import MAX_BYTES, parse_parent_file, read_parent_file

TOLD_TO_NOBODY = "hunter2"


@pytest.mark.parametrize(
    ("content", "parent"),
    [
        ('[macvlan]\nparent = "eth1"\n', "eth1"),
        ('[macvlan]\nparent = "eth1, eth0.5"\n', "eth1, eth0.5"),
        ('[macvlan]\nparent = ["eth1", "eth0"]\n', "eth1,eth0"),
        ('# mine\n[other]\nx = 1\n[macvlan]\nparent = "eth1"\n', "eth1"),
        ('macvlan.parent = "eth1"', "eth1"),
        ('macvlan = { parent = "eth1" }', "eth1"),
        ("eth1", "eth1"),
        ("\n\n  eth1, eth0 \n the rest\n", "eth1, eth0"),
        ("# a comment\neth1\n", "eth1"),
        ("\ufeffeth1\r\n", "eth1"),
        ('\ufeff[macvlan]\r\nparent = "eth1"\r\n', "eth1"),
    ],
)
def test_what_a_parent_file_may_hold(content: str, parent: str) -> None:
    """TOML or plain text, a name or a list."""
    assert parse_parent_file(content.encode(), "/p") == parent


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"# hunter2 only a comment\n", "names no parent"),
        (b" , ,\nhunter2", "names no parent"),
        (b"\xff\xfehunter2", "is not text"),
        (b"hunter2\x00", "is not text"),
        (b"\x7fELF\x01hunter2", "is not text"),
        (b"[macvlan\nhunter2", "neither TOML nor plain text"),
        (b"password = hunter2", "neither TOML nor plain text"),
        (b"[macvlan]\nparent = " + b"[" * 5000 + b"hunter2", "neither TOML nor plain text"),
        (b"[macvlan]\nparent = " + b"7" * 5000 + b" # hunter2", "neither TOML nor plain text"),
        (b'password = "hunter2"', r"without a \[macvlan\] table"),
        (b'[macvlan]\npassword = "hunter2"', "has no parent"),
        (b"[macvlan]\nparent = 7 # hunter2", "has no parent"),
        (b'[macvlan]\nparent = ["hunter2", 7]', "has no parent"),
        (b'[macvlan]\nparent = " , " # hunter2', "has no parent"),
        (b'macvlan = "hunter2"', r"without a \[macvlan\] table"),
        (TOLD_TO_NOBODY.encode() * MAX_BYTES, "larger than 64 KiB"),
    ],
)
def test_what_is_no_parent_file_is_refused_without_its_contents(content: bytes, why: str) -> None:
    """The error names the file, what is wrong, and what one looks like."""
    with pytest.raises(Invalid, match=why) as refused:
        parse_parent_file(content, "/etc/some-file")
    text = str(refused.value)
    assert "/etc/some-file" in text
    assert "[macvlan]" in text
    assert TOLD_TO_NOBODY not in text
    assert refused.value.__cause__ is None, "a cause would carry the contents into the log"


def test_a_file_is_read(tmp_path: Path) -> None:
    """By its absolute path."""
    (tmp_path / "parent").write_text("eth1\n")
    assert read_parent_file(str(tmp_path / "parent")) == "eth1"


def test_a_file_of_just_the_size_allowed_is_read(tmp_path: Path) -> None:
    """And one byte more is refused."""
    file = tmp_path / "parent"
    file.write_bytes(b"eth1\n" + b" " * (MAX_BYTES - 5))
    assert read_parent_file(str(file)) == "eth1"
    file.write_bytes(b"eth1\n" + b" " * (MAX_BYTES - 4))
    with pytest.raises(Invalid, match="larger than"):
        read_parent_file(str(file))


def test_paths_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """Each with its reason; a FIFO and a device do not make us wait."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    rows = {
        "parent": "is not an absolute path",
        str(tmp_path / "nosuch"): "does not exist",
        str(tmp_path): "is a directory",
        str(tmp_path / "fifo"): "is not a regular file",
        "/dev/zero": "is not a regular file",
        str(tmp_path / "loop"): "cannot be read",
        f"{tmp_path}/nul\0": "is not a path",
        f"/{'x' * 5000}": "cannot be read",
    }
    for path, why in rows.items():
        with pytest.raises(Invalid, match=why):
            read_parent_file(path)
