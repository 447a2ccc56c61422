"""Puts our resolver first in the /etc/resolv.conf of a host, which engines read, and takes it out again."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from macvlan_global.dns.resolvconf.text import Ours, find_ours, with_ours, without_ours
from macvlan_global.errors import Conflict, Unavailable

FILE = Path("etc/resolv.conf")
RESOLVED = Path("run/systemd/resolve")
"""Where systemd-resolved keeps the files that /etc/resolv.conf is a link to."""
STUB = "stub-resolv.conf"


@dataclass(frozen=True, slots=True)
class FileChange:
    """What is to be done to the file: `before` and `after` are its texts, None for no file.

    `link` is where the file leads as a link after it, "" if it is none.
    """

    path: Path
    before: str | None
    after: str | None
    link: str = ""
    was_link: str = ""

    @property
    def needed(self) -> bool:
        """Whether anything is to be done."""
        return (self.before, self.was_link) != (self.after, self.link)


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The file below `root`, which is / but for images and tests."""

    root: Path

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.root / FILE

    def read(self) -> tuple[str | None, str]:
        """Its text, None if there is none, and where it leads if it is a link.

        Raises:
            Unavailable: it cannot be read.
        """
        link = str(self.path.readlink()) if self.path.is_symlink() else ""
        try:
            return self._target(link).read_bytes().decode(errors="surrogateescape"), link
        except FileNotFoundError:
            return None, link
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be read: {error.strerror}") from error

    def ours(self) -> Ours | None:
        """What our block in it says, None if it has none."""
        return find_ours(self.read()[0] or "")

    def install(self, address: str) -> FileChange:
        """What puts `address` first.

        Raises:
            Conflict: the file is a link to that of somebody else, or our lines were changed; nothing is done then.
            Unavailable: it cannot be read.
        """
        text, link = self.read()
        if link and not self._is_of_resolved(link):
            raise Conflict(
                f"{self.path} is a link to {link}, which belongs to another program; have that program name {address} "
                "first, or make it a plain file"
            )
        if link:
            return FileChange(self.path, text, with_ours(self._stub() or text or "", address, link=link), was_link=link)
        rest, ours = without_ours(text or "", str(self.path))
        if ours and ours.link:  # only the address may be another one
            return FileChange(self.path, text, with_ours(rest, address, link=ours.link))
        nothing = ours.nothing if ours else text is None
        return FileChange(self.path, text, with_ours(rest, address, nothing=nothing))

    def remove(self) -> FileChange:
        """What brings back what was there before `install`.

        Raises:
            Conflict: what was changed since cannot be undone; the text says what to do.
            Unavailable: the file cannot be read.
        """
        text, link = self.read()
        rest, ours = without_ours(text or "", str(self.path))
        if ours is None or text is None:
            return FileChange(self.path, text, text, link, link)
        if ours.link:
            return FileChange(self.path, text, self._text_behind(ours.link), ours.link)
        return FileChange(self.path, text, None if ours.nothing and not rest else rest)

    def carry_out(self, change: FileChange) -> None:
        """Do it, so that at no time half a file is there.

        Raises:
            Unavailable: the file cannot be written.
        """
        new = self.path.with_name(self.path.name + ".macvlan-global")
        try:
            if change.link:
                self._swap(new, lambda: new.symlink_to(change.link))
            elif change.after is None:
                self.path.unlink()
            else:
                data = change.after.encode(errors="surrogateescape")
                mode = 0o644 if change.was_link or change.before is None else self.path.stat().st_mode & 0o7777
                self._swap(new, lambda: _write(new, data, mode))
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be written: {error.strerror}; run it as root (sudo)") from error

    def _swap(self, new: Path, make: Callable[[], object]) -> None:
        new.unlink(missing_ok=True)
        try:
            make()
            new.replace(self.path)
        finally:
            new.unlink(missing_ok=True)

    def _target(self, link: str) -> Path:
        """The file itself, or where a link leads below our root."""
        if not link:
            return self.path
        return self.root / link.lstrip("/") if link.startswith("/") else self.path.parent / link

    def _is_of_resolved(self, link: str) -> bool:
        folder = Path(os.path.normpath(self._target(link))).parent
        return folder in {self.root / RESOLVED, self.root / "var" / RESOLVED, self.root / "usr/lib/systemd"}

    def _stub(self) -> str:
        """The file that names systemd-resolved itself, "" if it is not there: the servers behind it may change."""
        try:
            return (self.root / RESOLVED / STUB).read_text()
        except OSError:
            return ""

    def _text_behind(self, link: str) -> str | None:
        try:
            return self._target(link).read_bytes().decode(errors="surrogateescape")
        except OSError:
            return None


def _write(path: Path, data: bytes, mode: int) -> None:
    path.write_bytes(data)
    path.chmod(mode)
