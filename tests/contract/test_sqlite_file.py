"""The state file: what lasts, what is brought up to date, and what is left as it is."""

import asyncio
import contextlib
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from macvlan_global.errors import Unavailable
from macvlan_global.store.sqlite import APPLICATION_ID, MIGRATIONS, SqliteStore, open_sqlite

SECOND = "ALTER TABLE entries ADD COLUMN note TEXT;"
FAILS = "DROP TABLE nowhere;"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the state file is to be."""
    return tmp_path / "state" / "state.db"


def _looks(path: Path) -> tuple[bytes, int, int]:
    """A file's contents, mode and time of change."""
    stat = path.stat()
    return path.read_bytes(), stat.st_mode, stat.st_mtime_ns


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


async def _open_and_close(path: Path) -> None:
    store = open_sqlite(path)
    await store.close()


async def test_what_was_written_is_there_after_reopening(path: Path) -> None:
    """And revisions go on from where they were."""
    store = open_sqlite(path)
    first = await store.create("a", b"1")
    await store.close()
    store = open_sqlite(path)
    assert await store.get("a") == first
    second = await store.create("b", b"2")
    assert first
    assert second
    assert second.revision > first.revision
    await store.close()


async def test_only_root_may_read_it_or_its_companions(path: Path) -> None:
    """Whatever the umask."""
    before = os.umask(0)
    try:
        store = open_sqlite(path)
        await store.create("a", b"1")
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        await store.close()
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert "state.db-wal" in modes


async def test_an_answer_is_durable(path: Path) -> None:
    """A process killed right after its answer leaves what it answered."""
    script = (
        "import asyncio, os, signal, sys; from pathlib import Path\n"
        "from macvlan_global.store.sqlite import open_sqlite\n"
        "async def main():\n"
        "    store = open_sqlite(Path(sys.argv[1]))\n"
        "    await asyncio.gather(*(store.create(f'{n}', b'x') for n in range(50)))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -9
    store = open_sqlite(path)
    assert len(await store.scan("")) == 50
    await store.close()


async def test_every_commit_reaches_the_disk(path: Path) -> None:
    """The settings that durability rests on."""
    store = open_sqlite(path)

    def settings(connection: sqlite3.Connection) -> tuple[str, int]:
        journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
        return journal, connection.execute("PRAGMA synchronous").fetchone()[0]

    assert await store._ask(settings) == ("wal", 2)
    await store.close()


async def test_many_callers_share_a_commit(path: Path) -> None:
    """Group commit: far fewer commits than callers."""
    commits = []

    class Counting(SqliteStore):
        def _commit(self, batch):  # type: ignore[no-untyped-def]
            commits.append(len(batch))
            super()._commit(batch)

    await _open_and_close(path)
    store = Counting(sqlite3.connect(path, isolation_level=None, check_same_thread=False))
    await asyncio.gather(*(store.create(f"{number}", b"") for number in range(300)))
    await store.close()
    assert sum(commits) == 300
    assert len(commits) < 100


async def test_an_operation_that_fails_is_told_to_its_caller_and_the_store_lives_on(path: Path) -> None:
    """Even one that fails as no operation should."""
    store = open_sqlite(path)
    with pytest.raises(Unavailable):
        await store.create("\ud800 is no text", b"")
    assert await store.create("a", b"1")
    await store.close()


async def test_a_cancelled_caller_does_not_disturb_the_others(path: Path) -> None:
    """What it asked for may have been done."""
    store = open_sqlite(path)
    tasks = [asyncio.ensure_future(store.create(f"{number}", b"")) for number in range(20)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(each, asyncio.CancelledError) for each in done) == 1
    assert await store.create("a", b"1")
    await store.close()


# -------------------------------------------------------------- migrations


async def test_an_older_file_is_brought_up_to_date(path: Path) -> None:
    """Its records stay, its version is the new one, and opening it again changes nothing."""
    store = open_sqlite(path)
    entry = await store.create("a", b"1")
    await store.close()
    for _ in range(2):
        store = open_sqlite(path, [*MIGRATIONS, SECOND])
        assert await store.get("a") == entry
        await store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
        assert connection.execute("SELECT note FROM entries").fetchall() == [(None,)]
    connection.close()


async def test_keys_of_addresses_of_an_older_file_are_rewritten(path: Path) -> None:
    """With their values and revisions; what is no address, or no text at all, stays under its key."""
    path.parent.mkdir()
    keys = {
        "addresses/lan/10.8.0.9": "addresses/lan/010.008.000.009",
        "addresses/a_b/fd00::1": "addresses/a_b/fd00:0000:0000:0000:0000:0000:0000:0001",
        "avoided/static/lan/10.8.0.10": "avoided/static/lan/010.008.000.010",
        "avoided/names/lan/10.8.0.9": "avoided/names/lan/10.8.0.9",
        "avoided/hosts/10.8.0.9": "avoided/hosts/10.8.0.9",
        "addresses/lan/zz": "addresses/lan/zz",
        "pools/lan/10.8.0.0_24": "pools/lan/10.8.0.0_24",
    }
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(MIGRATIONS[0])
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        for number, key in enumerate(keys, 1):
            connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (key, key.encode(), number))
        connection.execute("INSERT INTO entries VALUES (CAST(x'6164647265737365732ff0' AS TEXT), 'x', 99)")
        connection.execute("UPDATE counter SET last = 99")
    for _ in range(2):
        store = open_sqlite(path)
        found = {each.value.decode(): (each.key, each.revision) for each in await store.scan("") if each.revision < 99}
        assert found == {old: (new, number) for number, (old, new) in enumerate(keys.items(), 1)}
        assert len(await store.scan("addresses/")) == 4
        await store.close()


async def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    """All of it or none; the file works with the program that wrote it."""
    store = open_sqlite(path)
    entry = await store.create("a", b"1")
    await store.close()
    with pytest.raises(Unavailable, match="left as it is"):
        open_sqlite(path, [*MIGRATIONS, SECOND + FAILS])
    store = open_sqlite(path)
    assert await store.get("a") == entry
    await store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    connection.close()


async def test_a_file_of_a_newer_version_is_left_as_it_is(path: Path) -> None:
    """The error says which version and what to do."""
    await _open_and_close(path)
    store = open_sqlite(path, [*MIGRATIONS, SECOND])
    await store.close()
    before = _looks(path)
    known = len(MIGRATIONS)
    with pytest.raises(Unavailable, match=f"version {known + 1}, and this macvlan-global knows versions up to {known}"):
        open_sqlite(path)
    assert _looks(path) == before


# ----------------------------------------------------- files that cannot be


async def test_a_file_cut_short_at_its_birth_still_opens(path: Path) -> None:
    """The power went between SQLite's first page and our first table."""
    path.parent.mkdir()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    store = open_sqlite(path)
    assert await store.create("a", b"1")
    await store.close()


async def test_an_empty_file_is_filled(path: Path) -> None:
    """`touch` made it, or the power went even earlier."""
    _write(path, b"")
    await _open_and_close(path)
    assert APPLICATION_ID.to_bytes(4) in _looks(path)[0][:100]


@pytest.mark.parametrize("content", [b"not a database, but long enough for one" * 50, b"\0" * 4096])
def test_what_is_no_database_is_left_as_it_is(path: Path, content: bytes) -> None:
    """Never replaced by an empty one."""
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o644)
    before = _looks(path)
    with pytest.raises(Unavailable, match=r"left as it is"):
        open_sqlite(path)
    assert _looks(path) == before
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]


def test_another_programs_database_is_left_as_it_is(path: Path) -> None:
    """Contents, mode and time; and nothing is put beside it."""
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.commit()
    connection.close()
    path.chmod(0o644)
    before = _looks(path)
    with pytest.raises(Unavailable, match="not a state file of macvlan-global"):
        open_sqlite(path)
    assert _looks(path) == before
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]


@pytest.mark.parametrize("at", [100, 4096, 8192])
async def test_a_damaged_file_is_left_as_it_is(path: Path, at: int) -> None:
    """The error says that it is damaged and what to do."""
    store = open_sqlite(path)
    for number in range(200):
        await store.create(f"key/{number:04}", b"v" * 200)
    await store.close()
    content = bytearray(_looks(path)[0])
    content[at : at + 3000] = b"\xaa" * 3000
    _write(path, bytes(content))
    with pytest.raises(Unavailable, match="is damaged"):
        open_sqlite(path)
    assert _looks(path)[0] == bytes(content)


IN_THE_WAY = r"cannot be opened: .+; is the disk full or read-only, or does another process hold it\?"


async def test_a_file_that_another_process_holds_is_not_called_damaged(path: Path) -> None:
    """A program that looks into it with a lock of its own: nobody is to move the file away for that."""
    await _open_and_close(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match=IN_THE_WAY):
            open_sqlite(path)
    await _open_and_close(path)


@pytest.mark.parametrize(
    "before",
    ["ulimit -f 0; trap '' XFSZ", 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"'],
    ids=["no room", "read-only"],
)
async def test_a_disk_that_cannot_be_written_is_not_called_damaged(path: Path, before: str) -> None:
    """The disk is full, or became read-only: the file stays as it is, and is sound."""
    store = open_sqlite(path)
    entry = await store.create("a", b"1")
    await store.close()
    looked = _looks(path)
    opens = (
        "import sys, pathlib; from macvlan_global.store.sqlite import open_sqlite; "
        "open_sqlite(pathlib.Path(sys.argv[1]))"
    )
    script = f'{before}; exec "$2" -c "$3" "$1/state.db"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(path.parent), sys.executable, opens]
    done = await asyncio.to_thread(subprocess.run, command, stderr=subprocess.PIPE, check=False)
    assert re.search(IN_THE_WAY, done.stderr.decode())
    assert _looks(path) == looked
    store = open_sqlite(path)
    assert await store.get("a") == entry
    await store.close()


def test_a_path_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    """A folder in its place, a file in its folder's place."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "state.db"):
        with pytest.raises(Unavailable, match=r"cannot be opened|left as it is"):
            open_sqlite(path)
