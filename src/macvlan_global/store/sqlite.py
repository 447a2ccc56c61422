"""The embedded store: one SQLite file.

One thread owns the connection. Whatever was asked while it was busy becomes one transaction (group commit), so many
callers share the cost of one fsync, and each is answered only after that commit. Operations are carried out in the
order in which they were asked: none is on the disk before one that was asked earlier.

A single entry is read on the event loop, unless something was asked before: that takes less time than the way to the
thread and back.
"""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from macvlan_global.errors import Unavailable
from macvlan_global.store.address_keys import padded
from macvlan_global.store.ports import Entry

T = TypeVar("T")

log = logging.getLogger(__name__)

APPLICATION_ID = 0x6D67736C  # "mgsl", PRAGMA application_id: tells our files from other SQLite files
MAX_BATCH = 512

MIGRATIONS: tuple[str, ...] = (
    # 1: every record is a key; revisions come from one counter and never repeat, not even for a key made anew
    """
    CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE counter (last INTEGER NOT NULL);
    INSERT INTO counter VALUES (0);
    """,
    # 2: keys of addresses sort by their numbers; whatever cannot be read stays under its key
    """
    UPDATE OR REPLACE entries SET key = sorting_key(CAST(key AS BLOB))
    WHERE (key GLOB 'addresses/*' OR key GLOB 'avoided/static/*') AND sorting_key(CAST(key AS BLOB)) IS NOT NULL;
    """,
)
"""Each brings the file from one version to the next; `PRAGMA user_version` says which were run. Append only."""

_FOREIGN = (sqlite3.Error, sqlite3.Warning, OSError, ValueError)
"""Errors of SQLite and the files below it. A key that is no UTF-8 is a ValueError."""

_Operation = Callable[[sqlite3.Connection], object]


class SqliteStore:
    """See `macvlan_global.store.ports.Store`. Make it with `open_sqlite`."""

    def __init__(self, connection: sqlite3.Connection, reader: sqlite3.Connection | None = None) -> None:
        """Take over connections to one file that nobody else uses from now on. Without a `reader`, reads wait for
        their turn among the writes."""
        self._connection = connection
        self._reader = reader
        self._unanswered = 0
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="sqlite", daemon=True)
        self._closed = False
        self._thread.start()

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        if self._unanswered or self._reader is None:  # what was asked before must be seen, so it waits for its turn
            return await self._ask(lambda connection: _read(connection, key))
        self._refuse_if_closed()
        try:
            return _read(self._reader, key)
        except _FOREIGN as error:
            raise Unavailable(f"the state file cannot be read: {error}") from error

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        return await self._ask(lambda connection: _list(connection, prefix))

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        return await self._ask(lambda connection: _create(connection, key, value))

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        return await self._ask(lambda connection: _replace(connection, entry, value))

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        return await self._ask(lambda connection: _delete(connection, entry))

    async def close(self) -> None:
        """See `Store.close`."""
        if not self._closed:
            self._closed = True
            self._asked.put(None)
            await asyncio.to_thread(self._thread.join)
            if self._reader is not None:
                with contextlib.suppress(*_FOREIGN):
                    self._reader.close()

    async def _ask(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        self._refuse_if_closed()
        asked = _Asked(operation, asyncio.get_running_loop())
        self._unanswered += 1
        self._asked.put(asked)
        return await asked.answer  # type: ignore[return-value]  # one queue carries operations of every type

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise Unavailable("the state file is closed: the driver is stopping")

    def _serve(self) -> None:
        running = True
        while running:
            batch: list[_Asked] = []
            item = self._asked.get()
            while item is not None:
                batch.append(item)
                if len(batch) == MAX_BATCH:
                    break
                try:
                    item = self._asked.get_nowait()
                except queue.Empty:
                    break
            else:
                running = False
            if batch:
                self._commit(batch)
        with contextlib.suppress(*_FOREIGN):
            self._connection.close()

    def _commit(self, batch: Sequence["_Asked"]) -> None:
        results: list[object]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [asked.operation(self._connection) for asked in batch]
            self._connection.execute("COMMIT")
        except Exception as error:  # whatever it is, those who wait are answered and the thread lives on
            if not isinstance(error, _FOREIGN):
                log.exception("a bug in an operation on the state file")
            with contextlib.suppress(*_FOREIGN):
                self._connection.execute("ROLLBACK")
            results = [Unavailable(f"the state file cannot be written: {error}")] * len(batch)
        loops = {asked.loop for asked in batch}
        for loop in loops:
            pairs = [(asked, result) for asked, result in zip(batch, results, strict=True) if asked.loop is loop]
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits for the answer
                loop.call_soon_threadsafe(self._answer, pairs)

    def _answer(self, pairs: Sequence[tuple["_Asked", object]]) -> None:
        self._unanswered -= len(pairs)
        for asked, result in pairs:
            if asked.answer.done():
                continue
            if isinstance(result, Exception):
                asked.answer.set_exception(result)
            else:
                asked.answer.set_result(result)


class _Asked:
    """One operation and the future of the caller who waits for it."""

    __slots__ = ("answer", "loop", "operation")

    def __init__(self, operation: _Operation, loop: asyncio.AbstractEventLoop) -> None:
        self.operation = operation
        self.loop = loop
        self.answer: asyncio.Future[object] = loop.create_future()


def _read(connection: sqlite3.Connection, key: str) -> Entry | None:
    row = connection.execute("SELECT key, value, revision FROM entries WHERE key = ?", (key,)).fetchone()
    return Entry(*row) if row else None


def _list(connection: sqlite3.Connection, prefix: str) -> list[Entry]:
    rows = connection.execute(
        "SELECT key, value, revision FROM entries WHERE key >= ? AND key < ? ORDER BY key",
        (prefix, prefix + "\U0010ffff"),
    )
    return [Entry(*row) for row in rows]


def _create(connection: sqlite3.Connection, key: str, value: bytes) -> Entry | None:
    revision = _next_revision(connection)
    done = connection.execute("INSERT OR IGNORE INTO entries VALUES (?, ?, ?)", (key, value, revision))
    return Entry(key, value, revision) if done.rowcount else None


def _replace(connection: sqlite3.Connection, entry: Entry, value: bytes) -> Entry | None:
    revision = _next_revision(connection)
    done = connection.execute(
        "UPDATE entries SET value = ?, revision = ? WHERE key = ? AND revision = ?",
        (value, revision, entry.key, entry.revision),
    )
    return Entry(entry.key, value, revision) if done.rowcount else None


def _delete(connection: sqlite3.Connection, entry: Entry) -> bool:
    done = connection.execute("DELETE FROM entries WHERE key = ? AND revision = ?", (entry.key, entry.revision))
    return bool(done.rowcount)


def _next_revision(connection: sqlite3.Connection) -> int:
    row: tuple[int] = connection.execute("UPDATE counter SET last = last + 1 RETURNING last").fetchone()
    return row[0]


def open_sqlite(path: Path, migrations: Sequence[str] = MIGRATIONS) -> SqliteStore:
    """Open the state file, making it if there is none and bringing an older one up to date.

    It is never replaced: a file that is damaged, newer than this program or no state file at all is left as it is.

    Raises:
        Unavailable: it cannot be used; the message says why and what to do.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)  # SQLite gives its other files the mode of this one
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.text_factory = _text  # a key of any bytes, which we would not write, is left alone
    except _FOREIGN as error:
        raise Unavailable(f"the state file {path} cannot be opened: {error}") from error
    try:
        _prepare(connection, path, migrations)
        reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        reader.execute("PRAGMA query_only = ON")
        reader.text_factory = _text
    except sqlite3.Error as error:
        connection.close()
        raise _unusable(path, error) from error
    except Unavailable:
        connection.close()
        raise
    return SqliteStore(connection, reader)


def read_sqlite(path: Path) -> list[Entry]:
    """Every entry of a state file, read without changing anything; also beside a running driver.

    Raises:
        Unavailable: it cannot be used; the message says why and what to do.
    """
    try:
        # no log beside it: the file is whole, and SQLite need not make the log's files to read it
        whole = not Path(f"{path}-wal").exists()
        url = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if whole else ''}"
        with contextlib.closing(sqlite3.connect(url, uri=True)) as connection:
            connection.text_factory = _text
            return _list(connection, "") if _check(connection, path, len(MIGRATIONS)) else []
    except sqlite3.Error as error:
        raise _unusable(path, error) from error
    except (OSError, ValueError) as error:
        raise Unavailable(f"the state file {path} cannot be opened: {error}") from error


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _unusable(path: Path, error: sqlite3.Error) -> Unavailable:
    """The error for a state file that SQLite refuses: its disk or another process is in the way, or it is damaged.
    An OperationalError is the former, but for SQLITE_ERROR: a statement does not fit what is in the file."""
    code = getattr(error, "sqlite_errorcode", None)  # Python's own errors have none
    if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR:
        return Unavailable(
            f"the state file {path} cannot be opened: {error}; is the disk full or read-only, or does another process "
            "hold it?"
        )
    return Unavailable(
        f"the state file {path} is damaged ({error}). It was left as it is. Put back a copy, or move it away "
        "and start again: addresses of running containers are then taken anew from the engine by "
        "`macvlan-global repair`"
    )


def _check(connection: sqlite3.Connection, path: Path, known: int) -> int:
    """The version of a file that is sound, ours, and not newer than what is known; 0 if nothing is in it yet."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    # without any table it is new, or a power cut came between its first byte and its first table
    fresh = application == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not fresh and application != APPLICATION_ID:
        raise Unavailable(
            f"{path} is a SQLite file, but not a state file of macvlan-global. It was left as it is. "
            "Give another folder with --state-dir"
        )
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > known:
        raise Unavailable(
            f"the state file {path} has version {version}, and this macvlan-global knows versions up to "
            f"{known}. It was left as it is. Start the newer macvlan-global that wrote it, or give another "
            "folder with --state-dir"
        )
    check: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if check != "ok":
        raise sqlite3.DatabaseError(check)
    return version


def _sorting_key(raw: bytes) -> str | None:
    """The key of an address as version 2 has it; None if it is none of an address, or no text at all."""
    try:
        start, _, address = raw.decode().rpartition("/")
        return f"{start}/{padded(address)}"
    except ValueError:
        return None


def _prepare(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    version = _check(connection, path, len(migrations))
    connection.create_function("sorting_key", 1, _sorting_key, deterministic=True)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    for number in range(version, len(migrations)):
        connection.executescript(
            f"BEGIN IMMEDIATE; {migrations[number]} PRAGMA application_id = {APPLICATION_ID};"
            f"PRAGMA user_version = {number + 1}; COMMIT;"
        )
