"""The systemd units: their texts, and putting them in place, starting and removing them, step by step."""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from macvlan_global.config import Config, load_config
from macvlan_global.errors import Conflict, MacvlanGlobalError, Unavailable
from macvlan_global.rights import refusal

if TYPE_CHECKING:
    import subprocess

SOCKET, SERVICE = "macvlan-global.socket", "macvlan-global.service"
FOLDER = "etc/systemd/system"
RULES, NETWORK = "80-macvlan-global.rules", "00-macvlan-global.network"
FOLDERS = {SOCKET: FOLDER, SERVICE: FOLDER, RULES: "etc/udev/rules.d", NETWORK: "etc/systemd/network"}
"""Every file that we write, and its folder. The last two keep network managers off the links that we make."""
PACKAGED = f"usr/lib/systemd/system/{SERVICE}"
"""The unit of Debian's package. A unit of that name in `FOLDER` wins over it."""
_MARK = "COMMAND"
RUN, OLD_RUN = "/run/", "/var/run/"
"""The second one is a link to the first (hier(7))."""
FOLDER_MODE = 0o700
NETWORKD = "systemd-networkd.service"
RUNNING_MARK = "run/systemd/system"  # sd_booted(3)
WRITTEN_BY_US = "# Written by `macvlan-global install`"
SQLITE_ENDS = ("", "-wal", "-shm", "-journal", ".lock")
"""Ends of the names of the state file and of those that SQLite keeps beside it."""
FOLDER_FILES = ("lock", "page-token")
"""Every other file that the driver keeps in its state folder."""
SYSTEMCTL_SECONDS = 120
START = ("enable", "--now", SOCKET, SERVICE)
STOP = ("disable", "--now", SERVICE, SOCKET)


class Step(msgspec.Struct, frozen=True):
    """One step: `what` (a command line or a file), and what became of it."""

    what: str
    outcome: Literal["done", "unchanged", "would be done", "left to do"]


def unit_texts(command: Sequence[str], config: Config) -> dict[str, str]:
    """The units by name, for a driver started by `command` with this configuration. Pure but for the templates.

    Whatever the configuration puts elsewhere than the units' own folders is made writable for the service. systemd
    makes what is below /run at each start, with the unit's RuntimeDirectoryMode; the rest is `moved_folders`.
    """
    extra = [f"ReadWritePaths={_quoted(folder)}" for folder in moved_folders(config)]
    extra += [
        f"RuntimeDirectory={_quoted(folder.removeprefix(RUN))}" for folder in _moved(config) if _is_volatile(folder)
    ]
    values = {
        "@SOCKET@": config.socket.replace("%", "%%"),
        "@COMMAND@": " ".join(_quoted(word).replace("$", "$$") for word in command),
        "@EXTRA@": "\n# From the configuration when this was written.\n" + "\n".join(extra) + "\n" if extra else "",
    }
    return {name: _filled(name, values) for name in FOLDERS}


def outdated(root: Path) -> list[Path]:
    """Files of ours below `root` that `install` of this version would write otherwise, for the same command line. None
    if the configuration that it names cannot be read, or `install` wrote no service."""
    service = root / FOLDER / SERVICE
    try:
        (line,) = re.findall(r"^ExecStart=(.*)$", _text_of_ours(service), re.MULTILINE) or [""]
        words = shlex.split(line.replace("%%", "%").replace("$$", "$"))
        named = words[words.index("--config") + 1] if "--config" in words else None
        texts = unit_texts([_MARK], load_config(Path(named) if named else None, {}, {}))
    except (MacvlanGlobalError, LookupError, ValueError):
        return []
    written = {root / FOLDERS[name] / name: text.replace(f"={_MARK}\n", f"={line}\n") for name, text in texts.items()}
    return [path for path, text in written.items() if line and (found := _text_of_ours(path)) and found != text]


def _text_of_ours(path: Path) -> str:
    """The text of a file that `install` wrote, "" if it is not there or somebody else's."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if text.startswith(WRITTEN_BY_US) else ""


def moved_folders(config: Config) -> list[str]:
    """Folders that the service writes to, elsewhere than in the units' own, and that outlast a boot. A service whose
    ReadWritePaths= names one that is not there does not start (systemd.exec(5))."""
    return [folder for folder in _moved(config) if not _is_volatile(folder)]


def _moved(config: Config) -> list[str]:
    files = [config.admin_socket]
    if config.store.startswith("sqlite:///"):
        files.append(config.store.removeprefix("sqlite://"))
    folders = [config.state_dir, *(os.path.dirname(each) for each in files)]  # noqa: PTH120  # text, not a file
    own = {Config().state_dir, os.path.dirname(Config().admin_socket)}  # noqa: PTH120
    return [each for each in dict.fromkeys(map(_plain, folders)) if each not in own]


def _plain(folder: str) -> str:
    """A path as systemd wants it: with one slash at its beginning, where sqlite:////srv/a.db has two (POSIX keeps
    them), and without the link that /var/run is."""
    path = "/" + os.path.normpath(folder).lstrip("/")
    return RUN + path.removeprefix(OLD_RUN) if path.startswith(OLD_RUN) else path


def _is_volatile(folder: str) -> bool:
    """Whether a folder is below /run, a tmpfs that is empty after each boot."""
    return folder.startswith(RUN)


def _filled(name: str, values: Mapping[str, str]) -> str:
    text = (files("macvlan_global.cli") / "units" / name).read_text()
    for mark, value in values.items():
        text = text.replace(mark, value)
    return text


def _quoted(word: str) -> str:
    """A word of a unit file: % begins a specifier there, and blanks end a word (systemd.syntax(7))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if any(letter in " \"\\'" for letter in word) else escaped


@dataclass(frozen=True)
class Installer:
    """Works below `root`, which is / but for images and tests: systemd is spoken to only there, and if it runs."""

    root: Path
    dry_run: bool = False

    @property
    def systemd_runs(self) -> bool:
        """Whether systemd is the init of this machine, and what is done here is done to it."""
        return self.root == Path("/") and (self.root / RUNNING_MARK).is_dir()

    @property
    def is_packaged(self) -> bool:
        """Whether the package made the driver a service."""
        return (self.root / PACKAGED).exists()

    def paths(self) -> dict[str, Path]:
        """The paths of all files, by name."""
        return {name: self.root / folder / name for name, folder in FOLDERS.items()}

    def install(self, texts: Mapping[str, str], folders: Iterable[str] = ()) -> Iterator[Step]:
        """Make these folders where they are missing, write the units, and start them. Each step is told as soon as it
        is done; repeatable.

        Raises:
            Conflict: there is a unit of that name that we did not write; nothing was changed.
            Unavailable: a folder or a file cannot be written, or systemctl failed; the steps before it stay.
        """
        paths = self.paths()
        for path in paths.values():
            self._ours(path)
        for folder in folders:
            yield self._make(self.below(Path(folder)))
        changed = False
        for name, text in texts.items():
            step = self._write(paths[name], text)
            changed = changed or step.outcome != "unchanged"
            yield step
        running = self.systemd_runs and _is_active(SERVICE)
        yield from self._reload_networkd()
        yield self._systemctl("daemon-reload")
        yield self._systemctl(*START)
        if running and changed:
            yield self._systemctl("restart", SOCKET, SERVICE)

    def uninstall(self) -> Iterator[Step]:
        """Stop the units and remove them, if they are ours; repeatable. Where the package is, its units go on.

        Raises:
            Conflict: there is a unit of that name that we did not write, or only the package's; nothing was changed.
            Unavailable: a file cannot be removed, or systemctl failed; the steps before it stay.
        """
        present = [path for path in self.paths().values() if self._ours(path)]
        if self.is_packaged and not present:
            raise Conflict(
                "the driver is a service of the package macvlan-global; remove that: apt remove macvlan-global, or "
                "apt purge macvlan-global, which removes the state too"
            )
        if present and not self.is_packaged:
            yield self._systemctl(*STOP)
        for path in self.paths().values():
            yield self._remove(path)
        if present:
            yield from self._reload_networkd()
            yield self._systemctl("daemon-reload")
            if self.is_packaged:
                yield self._systemctl("restart", SOCKET, SERVICE)

    def below(self, path: Path) -> Path:
        """An absolute path, below the root."""
        # two slashes at the beginning are a root of their own (POSIX), as in sqlite:////srv/a.db
        return self.root / str(path).lstrip("/")

    def is_there(self, path: Path) -> bool:
        """Whether an absolute path is there below the root.

        Raises:
            Unavailable: that cannot be seen, as its folder is for root only.
        """
        try:
            return self.below(path).exists()
        except OSError as error:
            raise Unavailable(f"{self.below(path)} cannot be read: {refusal(error)}") from error

    def purge(self, state: Path, file: Path | None) -> Iterator[Step]:
        """Remove the state file, those of SQLite beside it, its lock, the other files of the state folder, and that
        folder if nothing else is in it. Both are absolute paths; `file` is None if there is no state file.

        The folder of a `file` that is elsewhere stays: it is the operator's.

        Raises:
            Unavailable: one of them cannot be read or removed; the steps before it stay.
        """
        beside = [Path(f"{file}{end}") for end in SQLITE_ENDS] if file else []
        for path in (*beside, *(state / name for name in FOLDER_FILES)):
            if self.is_there(path):
                yield self._remove(self.below(path))
        folder = self.below(state)
        if folder.is_dir() and (self.dry_run or not any(folder.iterdir())):
            yield self._remove(folder, Path.rmdir)

    @property
    def _done(self) -> Literal["done", "would be done"]:
        return "would be done" if self.dry_run else "done"

    def _ours(self, path: Path) -> bool:
        """Whether the file is there and ours."""
        try:
            text = path.read_text()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}") from error
        if not text.startswith(WRITTEN_BY_US):
            raise Conflict(f"{path} was not written by `macvlan-global install`; move it away, then try again")
        return True

    def _make(self, folder: Path) -> Step:
        if folder.is_dir():
            return Step(f"create {folder}", "unchanged")
        if not self.dry_run:
            try:
                folder.mkdir(FOLDER_MODE, parents=True)
            except OSError as error:
                raise Unavailable(f"{folder} cannot be created: {refusal(error)}") from error
        return Step(f"create {folder}", self._done)

    def _write(self, path: Path, text: str) -> Step:
        if path.exists() and path.read_text() == text:
            return Step(f"write {path}", "unchanged")
        if not self.dry_run:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                new = path.with_suffix(path.suffix + ".new")
                new.write_text(text)
                new.chmod(0o644)
                new.replace(path)  # at no time is half a unit there
            except OSError as error:
                raise Unavailable(f"{path} cannot be written: {refusal(error)}") from error
        return Step(f"write {path}", self._done)

    def _remove(self, path: Path, remove: Callable[[Path], None] = Path.unlink) -> Step:
        if not path.exists():
            return Step(f"remove {path}", "unchanged")
        if not self.dry_run:
            try:
                remove(path)
            except OSError as error:
                raise Unavailable(f"{path} cannot be removed: {refusal(error)}") from error
        return Step(f"remove {path}", self._done)

    def _reload_networkd(self) -> Iterator[Step]:
        """Have networkd read our file, if it runs. udev looks for changed files by itself, and NetworkManager asks
        udev."""
        if self.systemd_runs and _is_active(NETWORKD):
            yield self._call("networkctl", "reload")

    def _systemctl(self, *words: str) -> Step:
        return self._call("systemctl", *words)

    def _call(self, *words: str) -> Step:
        line = " ".join(words)
        if not self.systemd_runs:
            return Step(line, "left to do")
        if self.dry_run:
            return Step(line, "would be done")
        done = _run(*words)
        if done.returncode != 0:
            reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise Unavailable(f"{line} failed: {reason}; see journalctl -u macvlan-global")
        return Step(line, "done")


def _is_active(unit: str) -> bool:
    return _run("systemctl", "is-active", "--quiet", unit).returncode == 0


def _run(*words: str) -> "subprocess.CompletedProcess[str]":
    import subprocess  # noqa: PLC0415  # this module is loaded by every command

    try:
        return subprocess.run(words, text=True, capture_output=True, check=False, timeout=SYSTEMCTL_SECONDS)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{' '.join(words)} failed: {error}; see journalctl -u macvlan-global") from error
