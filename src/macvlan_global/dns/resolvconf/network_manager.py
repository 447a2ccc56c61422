"""NetworkManager, which replaces a plain /etc/resolv.conf unless it is told otherwise (NetworkManager.conf(5))."""

from collections.abc import Iterator
from configparser import ConfigParser, Error
from pathlib import Path

RUNNING = "run/NetworkManager"
FILE = "etc/NetworkManager/NetworkManager.conf"
FOLDERS = ("usr/lib/NetworkManager/conf.d", "run/NetworkManager/conf.d", "etc/NetworkManager/conf.d")
"""Folders of further files, in the order in which they are read: the last setting counts."""


def replacement_warning(root: Path) -> str:
    """Warning for a host below `root` whose /etc/resolv.conf was a link of systemd-resolved and is a file by now, "" if
    NetworkManager does not run there or leaves the file alone.

    Without a setting it looks at the link to tell whether systemd-resolved is there, and at a file writes its own.
    """
    main = _settings(root)
    left_alone = main.get("dns") in {"systemd-resolved", "none"} or main.get("rc-manager") == "unmanaged"
    if left_alone or not (root / RUNNING).is_dir():
        return ""
    return (
        "NetworkManager replaces this file by one of its own, without the resolver, since it is no link of "
        f"systemd-resolved any more; dns=systemd-resolved below [main] in /{FILE} (then systemctl reload "
        "NetworkManager) makes it leave the file alone"
    )


def _settings(root: Path) -> dict[str, str]:
    """The keys of [main] in all of its files; a file that cannot be read says nothing."""
    found: dict[str, str] = {}
    for path in _files(root):
        parser = ConfigParser(interpolation=None, strict=False, allow_no_value=True)
        try:
            parser.read_string(path.read_text(errors="replace"))
        except (OSError, Error):
            continue
        if parser.has_section("main"):
            found |= {key: (value or "").strip() for key, value in parser.items("main")}
    return found


def _files(root: Path) -> Iterator[Path]:
    system, runtime, own = (sorted((root / each).glob("*.conf")) for each in FOLDERS)
    yield from (*system, *runtime, root / FILE, *own)
