"""Mirrored table (an informer): a watch keeps a copy of one table of the store in memory.

The watch is opened again when it breaks; every new watch begins with all rows. The copy may lag behind the store.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, NoReturn, TypeVar

from macvlan_global.store.follow import PrefixFollower
from macvlan_global.store.ports import Batch, ClusterStore
from macvlan_global.store.records import Record
from macvlan_global.store.table import Row, Table

R = TypeVar("R", bound=Record)


class Question:
    """A question about one key that the store has not answered yet."""

    def __init__(self, key: str) -> None:
        """`key` is the name or id that the row's key is for."""
        self.key = key
        self.overtaken = False
        """Whether the watch has brought news of this key since the store was asked."""


class MirroredTable(Generic[R]):
    """Rows of one table, by the names or ids that their keys are for."""

    def __init__(
        self,
        store: ClusterStore,
        table: Table[R],
        on_change: Callable[[Iterable[str]], None],
        on_resync: Callable[[], None],
    ) -> None:
        """`on_change` gets the keys of changed and deleted rows; `on_resync` is called after all rows were read."""
        self._table = table
        self._on_change = on_change
        self._on_resync = on_resync
        self._follower = PrefixFollower(store, table.prefix, self._take)
        self._questions: list[Question] = []
        self.rows: dict[str, Row[R]] = {}
        self.unreadable: set[str] = set()
        """Keys of records that a newer version wrote, or that are damaged."""
        self.synced = False
        """Whether all rows were read at least once."""

    @property
    def live(self) -> bool:
        """Whether the watch is open."""
        return self._follower.live

    async def run(self) -> NoReturn:
        """Follow the table until cancelled."""
        await self._follower.run()

    @contextlib.contextmanager
    def asking(self, key: str) -> Iterator[Question]:
        """Encloses a read or a write of one row, so that `put` can tell whether its answer is still news."""
        question = Question(key)
        self._questions.append(question)
        try:
            yield question
        finally:
            self._questions.remove(question)

    def put(self, question: Question, row: Row[R] | None) -> None:
        """Take over a row that was just read or written, None if there is none, before the watch delivers it.

        If the watch has brought news of this row since the store was asked, the answer may be older and is passed
        over. To compare rows is not enough: another host may have created and deleted the row meanwhile.
        """
        if question.overtaken:
            return
        if row:
            self.rows[question.key] = row
        else:
            self.rows.pop(question.key, None)

    async def _take(self, batch: Batch) -> None:
        rows = await self._table.read_all(batch.entries)  # before anything changes: others have their turn meanwhile
        news = {self._key(each) for each in (*(entry.key for entry in batch.entries), *batch.gone)}
        for question in self._questions:
            question.overtaken |= batch.whole or question.key in news
        if batch.whole:
            self.rows.clear()
            self.unreadable.clear()
        for entry, row in rows:
            self._take_row(self._key(entry.key), row)
        gone = [self._key(key) for key in batch.gone]
        if batch.whole:
            self.synced = True
            self._on_resync()
        else:
            # before deleted rows are dropped: the callee may look at them
            self._on_change([*(self._key(entry.key) for entry in batch.entries), *gone])
        for key in gone:
            self.rows.pop(key, None)
            self.unreadable.discard(key)

    def _take_row(self, key: str, row: Row[R] | None) -> None:
        if row:
            self.rows[key] = row
            self.unreadable.discard(key)
        else:
            self.rows.pop(key, None)
            self.unreadable.add(key)

    def _key(self, key: str) -> str:
        return self._table.name_of(key)
