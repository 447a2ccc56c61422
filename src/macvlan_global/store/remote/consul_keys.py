"""Keys of a Consul below our prefix: their names there, and how one, some and all of them are read.

Bells (`bell`) are keys there, too, and are none for whoever reads a prefix.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote

import msgspec

from macvlan_global.store.ports import Entry
from macvlan_global.store.remote.consul_messages import (
    BAD_REQUEST,
    OK,
    ConsulPair,
    ConsulTxn,
    checked,
    decode,
    found,
    index_of,
    is_folder,
    pairs_in,
)
from macvlan_global.store.remote.consul_pages import PAGE, STEPS, KeysPage, names_in, pages
from macvlan_global.store.remote.many import free
from macvlan_global.store.remote.members import DEADLINE, Answer, Members, Request

BELLS = "bell/"
"""Beginning of the keys that are bells."""

AT_ONCE = 1_000
"""Keys of an answer that are taken apart before the event loop gets its turn: some milliseconds."""

NO_TEXT = "\ufffd"
"""Character that Consul tells for bytes of a name that are no text (U+FFFD). It sorts names by their bytes."""

# What a path must not hold: Consul's HTTP server takes `//`, `/./` and `/../` together.
_UNSAFE = re.compile(r"%|(?<=/)[/.]")


class ConsulKeys:
    """The keys below a prefix of a Consul."""

    def __init__(self, members: Members, prefix: str, token: str) -> None:
        """`prefix` has no slash at its end; without a token, "", nothing is said of who asks."""
        self.members = members
        self.headers: Mapping[str, str] | None = {"X-Consul-Token": token} if token else None
        self._root = f"{prefix}/"

    # --- names

    def name(self, key: str) -> str:
        """The name of a key in Consul: what a path cannot hold is escaped; prefixes stay prefixes."""
        name = self._root + key
        if not _is_special(name):
            return name
        name = _UNSAFE.sub(lambda found: _escaped(found[0]), name)
        return name if name.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in name)

    def key(self, name: str) -> str:
        """The key of a name in Consul. A name that we would not give stays as it is: anybody may write there."""
        if not _is_special(name):
            return name[len(self._root) :]
        key = unquote(name, errors="replace")[len(self._root) :]
        return key if self.name(key) == name else name[len(self._root) :]

    def read_request(self, key: str, options: str, *, bulk: bool = False) -> Request:
        """A request that reads a key, or what is below it."""
        return self._read_name(self.name(key), options, bulk=bulk)

    def _read_name(self, name: str, options: str, *, bulk: bool = False) -> Request:
        return Request("GET", f"/v1/kv/{quote(name, safe='/')}?{options}", headers=self.headers, bulk=bulk)

    # --- one key

    async def pair(self, key: str, until: float) -> ConsulPair | None:
        """The pair of a key as it is now.

        Raises:
            NotAsked, AnswerLost: see there.
            Unavailable: Consul refuses.
        """
        answer = await self.members.ask(self.read_request(key, "consistent"), until)
        if answer.status == BAD_REQUEST and not key.isascii():
            return None  # a character that is newer than Consul: it takes none that its tables do not know as printable
        return self.pair_in(answer)

    @staticmethod
    def pair_in(answer: Answer) -> ConsulPair | None:
        """The pair in an answer about one key; None if there is none.

        Raises:
            Unavailable: Consul refuses, or somebody else answers.
        """
        return next(iter(pairs_in(answer)), None)

    def entry(self, pair: ConsulPair) -> Entry:
        """The entry of a pair."""
        return Entry(self.key(pair.key), pair.value or b"", pair.modify_index, bool(pair.session))

    async def entries(self, pairs: Iterable[ConsulPair | None]) -> list[Entry]:
        """The entries among pairs, by key. Of many, others have their turn in between."""
        entries = []
        in_order = True
        last = ""
        for number, pair in enumerate(pairs, 1):
            if pair and not is_folder(pair):
                entry = self.entry(pair)
                if not entry.key.startswith(BELLS):
                    in_order &= last <= entry.key
                    last = entry.key
                    entries.append(entry)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return entries if in_order else sorted(entries, key=lambda entry: entry.key)

    # --- below a prefix

    async def whole(self, prefix: str) -> tuple[list[Entry], int]:
        """All entries below a prefix, and an index of Consul's history: what was done up to there is among them.

        It is read by pages, each as it is at its own time. A page that could not be read is read again, and not those
        before it.

        Raises:
            Unavailable: the store does not answer.
        """
        async with self.members.operation() as until:
            names, index = await self.members.read(lambda until: self._names(prefix, until), until)
            entries: list[Entry] = []
            in_order = True
            for page in self._pages(prefix, names):
                more = await self.entries(await self._in_time(page))
                in_order &= not entries or not more or entries[-1].key <= more[0].key
                entries += more
                await asyncio.sleep(0)
            await free(names)
        return entries if in_order else sorted(entries, key=lambda entry: entry.key), index

    async def below(self, prefixes: Iterable[str]) -> list[Entry]:
        """All entries below some prefixes, as they are now.

        Raises:
            Unavailable: the store does not answer.
        """
        trees = tuple(self.name(each) for each in prefixes)
        parts = [KeysPage(trees[first : first + STEPS]) for first in range(0, len(trees), STEPS)]
        async with self.members.operation():
            return await self.entries([pair for part in parts for pair in await self._in_time(part)])

    async def _names(self, prefix: str, until: float) -> tuple[list[str], int]:
        answer = found(await self.members.ask(self.read_request(prefix, "keys&consistent", bulk=True), until))
        names: list[str] = []
        is_text = True
        if answer.status == OK:
            for piece in names_in(answer.body):
                names += piece
                is_text = is_text and NO_TEXT not in "".join(piece)
                await asyncio.sleep(0)
        if not is_text:
            names = sorted(set(names))
        folder = self.name(prefix)  # it keeps a place in the tree
        return names[1:] if names[:1] == [folder] and folder.endswith("/") else names, index_of(answer)

    def _pages(self, prefix: str, names: list[str]) -> Iterable[KeysPage]:
        # names that are no text are in what is below the prefix, and are not to be had by what is told of them
        return [KeysPage((self.name(prefix),))] if 0 < len(names) <= PAGE else pages(names)

    async def _in_time(self, page: KeysPage) -> list[ConsulPair | None]:
        until = asyncio.get_running_loop().time() + DEADLINE
        return await self.members.read(lambda until: self._page(page, until), until)

    async def _page(self, page: KeysPage, until: float) -> list[ConsulPair | None]:
        if page.alone:
            return [self.pair_in(await self.members.ask(self._read_name(page.alone, "consistent"), until))]
        body = msgspec.json.encode([{"KV": {"Verb": "get-tree", "Key": each}} for each in page.trees])
        answer = await self.members.ask(Request("PUT", "/v1/txn?consistent", body, self.headers, bulk=True), until)
        return [each.kv for each in decode(checked(answer).body, ConsulTxn).results or ()]


def _is_special(name: str) -> bool:
    """Whether something in a name is or must be escaped; Consul refuses characters that cannot be printed."""
    return "%" in name or "//" in name or "/." in name or not name.isprintable()


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogatepass"))
