"""Install our resolver as the first nameserver of a host's /etc/resolv.conf, which engines read; and remove it."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from macvlan_global.dns.resolvconf.network_manager import replacement_warning
from macvlan_global.dns.resolvconf.text import add_block, find_block, is_of_network_manager, remove_block, renew_block
from macvlan_global.errors import Conflict, Unavailable
from macvlan_global.rights import refusal

FILE = Path("etc/resolv.conf")
RESOLVED = Path("run/systemd/resolve")
"""Folder of systemd-resolved with the files that /etc/resolv.conf may link to."""
STUB = "stub-resolv.conf"


@dataclass(frozen=True, slots=True)
class FileChange:
    """A change of the file: `before` and `after` are its texts, None for no file.

    `was_link` and `link` are the targets of the symbolic link that it is before and after, "" if it is none.
    """

    path: Path
    before: str | None
    after: str | None
    link: str = ""
    was_link: str = ""

    @property
    def needed(self) -> bool:
        """Whether the file changes."""
        return (self.before, self.was_link) != (self.after, self.link)


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The file below `root`: / on a running host, another folder for images and tests."""

    root: Path

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.root / FILE

    @property
    def kept(self) -> Path:
        """A copy of the link that the file replaced: whoever writes the file anew loses the block that names it."""
        return self.path.with_name(self.path.name + ".before-macvlan-global")

    def read(self) -> tuple[str | None, str]:
        """Text, None if there is no file; and the target if it is a symbolic link, else "".

        Raises:
            Unavailable: it cannot be read.
        """
        link = ""
        try:
            link = str(self.path.readlink()) if self.path.is_symlink() else ""
            return self._target(link).read_bytes().decode(errors="surrogateescape"), link
        except FileNotFoundError:
            return None, link
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be read: {error.strerror or error}") from error

    def install(self, address: str) -> FileChange:
        """The change that makes `address` the first nameserver.

        Raises:
            Conflict: the file is a link to another program's, or a part of our block is missing.
            Unavailable: the file cannot be read.
        """
        text, link = self.read()
        if link and not self._is_of_resolved(link):
            raise Conflict(
                f"{self.path} is a link to {link}, which belongs to another program; have that program name {address} "
                "first, or make it a plain file"
            )
        if link:
            return FileChange(self.path, text, add_block(self._stub() or text or "", address, link=link), was_link=link)
        if find_block(text or ""):
            return FileChange(self.path, text, renew_block(text or "", address))
        remove_block(text or "", str(self.path))  # it raises for a part of our block
        if lost := self._lost_link(text):
            return FileChange(self.path, text, add_block(self._stub() or text or "", address, link=lost))
        return FileChange(self.path, text, add_block(text or "", address, no_file=text is None))

    def remove(self) -> FileChange:
        """The change that restores the file, or the link, of before `install`: also a link whose file NetworkManager
        has replaced since.

        Raises:
            Conflict: our block, or a file that replaced a link, was changed since; the text has the next step.
            Unavailable: the file cannot be read.
        """
        text, link = self.read()
        rest, block = remove_block(text or "", str(self.path))
        if text is None or (link and not block):
            return FileChange(self.path, text, text, link, link)
        if target := block.link if block and block.link else self._lost_link(rest):
            return FileChange(self.path, text, self._text_behind(target), target)
        return FileChange(self.path, text, None if block and block.no_file and not rest else rest)

    def apply(self, change: FileChange) -> None:
        """Write the file atomically (write a new one, then rename).

        Raises:
            Unavailable: the file cannot be written.
        """
        new = self.path.with_name(self.path.name + ".macvlan-global")
        try:
            if change.was_link and not change.link:
                self.kept.unlink(missing_ok=True)
                self.kept.symlink_to(change.was_link)
            if change.link:
                self._swap(new, lambda: new.symlink_to(change.link))
            elif change.after is None:
                self.path.unlink()
            else:
                data = change.after.encode(errors="surrogateescape")
                mode = 0o644 if change.was_link or change.before is None else self.path.stat().st_mode & 0o7777
                self._swap(new, lambda: _write(new, data, mode))
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be written: {refusal(error)}") from error

    def forget(self) -> None:
        """Remove the copy of the link if the file is that link again.

        Raises:
            Unavailable: it cannot be removed.
        """
        if (kept := _target_of(self.kept)) and kept == _target_of(self.path):
            try:
                self.kept.unlink(missing_ok=True)
            except OSError as error:
                raise Unavailable(f"{self.kept} cannot be removed: {refusal(error)}") from error

    def warnings(self, change: FileChange) -> Iterator[str]:
        """Warnings for the operator about a link that is replaced, or was: neither the text nor the link shows them."""
        block = find_block(change.after or "")
        if block and block.link and (warning := replacement_warning(self.root)):
            yield warning
        kept = _target_of(self.kept)
        if kept and not change.link and not (block and block.link):
            yield (
                f"{self.path} was a link before `dns install`, and somebody has written the file anew since; restore "
                f"the link (ln -sf {kept} {self.path}), or remove {self.kept} if the file is to stay"
            )

    def _lost_link(self, text: str | None) -> str:
        """The target of the link that `install` replaced, if NetworkManager's file is there instead; else "". If
        nothing is behind the link any more (systemd-resolved is off), that file is what the host needs."""
        kept = _target_of(self.kept)
        return kept if kept and is_of_network_manager(text or "") and self._target(kept).exists() else ""

    def _swap(self, new: Path, make: Callable[[], object]) -> None:
        new.unlink(missing_ok=True)
        try:
            make()
            new.replace(self.path)
        finally:
            new.unlink(missing_ok=True)

    def _target(self, link: str) -> Path:
        """Path of the file itself, or of the link's target below our root."""
        if not link:
            return self.path
        return self.root / link.lstrip("/") if link.startswith("/") else self.path.parent / link

    def _is_of_resolved(self, link: str) -> bool:
        folder = Path(os.path.normpath(self._target(link))).parent
        return folder in {self.root / RESOLVED, self.root / "var" / RESOLVED, self.root / "usr/lib/systemd"}

    def _stub(self) -> str:
        """Text of the file that names systemd-resolved itself, "" if none: the servers behind it may change."""
        try:
            return (self.root / RESOLVED / STUB).read_bytes().decode(errors="surrogateescape")
        except OSError:
            return ""

    def _text_behind(self, link: str) -> str | None:
        try:
            return self._target(link).read_bytes().decode(errors="surrogateescape")
        except OSError:
            return None


def _target_of(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _write(path: Path, data: bytes, mode: int) -> None:
    path.write_bytes(data)
    path.chmod(mode)
