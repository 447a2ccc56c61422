"""Parent files: TOML with `[macvlan] parent = "…"`, or plain text whose first line with text is the value.

The file belongs to the operator and may hold anything, so nothing of its contents ever appears in an error.
"""

import os
import stat
import tomllib

from macvlan_global.errors import Invalid

MAX_BYTES = 64 * 1024


def read_parent_file(path: str) -> str:
    """The parent list that the file names. Blocks for as long as reading a small file takes.

    Raises:
        Invalid: the file cannot be read, is no parent file, or names no parent; the text says which, and what one
            looks like.
    """
    if not path.startswith("/"):
        raise _refuse(path, "is not an absolute path")
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _refuse(path, "does not exist on this host") from None
    except OSError as error:
        raise _refuse(path, f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise _refuse(repr(path), "is not a path") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise _refuse(path, "is a directory" if stat.S_ISDIR(mode) else "is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _refuse(path, f"cannot be read ({error.strerror})") from None
    finally:
        os.close(descriptor)
    return parse_parent_file(content, path)


def parse_parent_file(content: bytes, path: str) -> str:
    """The parent list in `content`. Pure; `path` is only named in errors.

    Raises:
        Invalid: see `read_parent_file`.
    """
    if len(content) > MAX_BYTES:
        raise _refuse(path, f"is larger than {MAX_BYTES // 1024} KiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _refuse(path, "is not text") from None
    if any(ord(character) < 32 and character not in "\t\r\n" for character in text):
        raise _refuse(path, "is not text")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise _refuse(path, "is empty")
    return _from_toml(text, path) if _looks_like_toml(lines) else _from_first_line(lines, path)


def _looks_like_toml(lines: list[str]) -> bool:
    return any(line.startswith("[") or "=" in line for line in lines if not line.startswith("#"))


def _from_toml(text: str, path: str) -> str:
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError):  # numbers of thousands of digits, brackets within brackets
        raise _refuse(path, "is neither TOML nor plain text") from None
    table = document.get("macvlan")
    if not isinstance(table, dict):
        raise _refuse(path, "is TOML without a [macvlan] table")
    value = table.get("parent")
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        value = ",".join(value)
    if not isinstance(value, str) or not value.strip(" ,"):
        raise _refuse(path, "has no parent in its [macvlan] table")
    return value


def _from_first_line(lines: list[str], path: str) -> str:
    first = next((line for line in lines if not line.startswith("#")), "")
    if not first.strip(" ,"):
        raise _refuse(path, "names no parent")
    return first


def _refuse(path: str, why: str) -> Invalid:
    return Invalid(
        f'-o parent-file={path} {why}. A parent file is TOML ([macvlan] with parent = "eth1") or one line of text '
        "(eth1), and may hold a list"
    )
