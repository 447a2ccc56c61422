"""Choose a network's parent on this host: gather the facts (links, routes, parent file) and apply `parents.rules`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from macvlan_global.blocking_calls import BlockingCalls
from macvlan_global.deadline import waiting_for
from macvlan_global.errors import Invalid, Unavailable
from macvlan_global.kernel.ports import Kernel, LinkFact, RouteFacts
from macvlan_global.parents.owned import OwnedParents
from macvlan_global.parents.parent_file import read_parent_file
from macvlan_global.parents.rules import (
    MOST_MASTERS,
    Choice,
    Parent,
    ParentFacts,
    choose_parent,
    entries_of_links,
    isolated,
    judge_link,
    names_behind_auto,
    names_to_look_up,
    refuse_without_parent,
    split_entries,
    stands_for,
    wants_routes,
    wants_sub_interfaces,
)
from macvlan_global.subnets import Subnet

FILE_SECONDS = 3.0
MOST_FILES = 4
"""Files that may hang at a time; further ones are refused at once."""


@dataclass(frozen=True, slots=True)
class ParentList:
    """The list that a parent is chosen from: `text`, as it was given or read from `file`; `failed` is the reason why
    the file could not be read."""

    text: str
    file: str = ""
    failed: Invalid | Unavailable | None = None


class ParentChooser:
    """Chooses the parent of a network on this host, with the reason for each entry of its list."""

    def __init__(
        self,
        kernel: Kernel,
        owned: OwnedParents,
        aliases: Mapping[str, str],
        scope: str = "local",
        *,
        files: "ParentFiles | None" = None,
    ) -> None:
        """`aliases` come from the host's configuration, `[parents]`; `files` reads parent files."""
        self._kernel = kernel
        self._owned = owned
        self._aliases = aliases
        self._scope = scope
        self._files = files or ParentFiles()

    async def listed(self, parent: str, parent_file: str) -> ParentList:
        """The list, or that of the file, which wins over it and is read anew each time. This may take seconds, so it is
        not for those who hold a lock."""
        if not parent_file:
            return ParentList(parent)
        try:
            return ParentList(await self._files.read(parent_file), parent_file)
        except (Invalid, Unavailable) as error:
            return ParentList("", parent_file, error)

    async def choose(
        self,
        network_id: str,
        listed: ParentList,
        subnets: Sequence[Subnet],
        *,
        refused: Mapping[str, str] = MappingProxyType({}),
    ) -> Choice:
        """Choose from the list. With an empty one the network is isolated: it stands on a dummy of its own. `refused`
        are names of sub-interfaces that the kernel does not make, with the reasons.

        Raises:
            Invalid: the file could not be read; or no parent at all, in global scope.
            Unavailable: reading the file took too long.
        """
        if listed.failed:
            raise listed.failed
        if not split_entries(listed.text):
            refuse_without_parent(self._scope)
            return isolated(network_id)
        return choose_parent(listed.text, replace(await self._facts(listed.text), refused=refused), subnets)

    async def leads_elsewhere(self, current: str, parent: str, subnets: Sequence[Subnet]) -> bool:
        """Whether each entry of the list is another usable link than `current` now, one of them by an alternative name:
        after a reboot the kernel may number the interfaces the other way round.

        As long as an entry leads nowhere, or goes by the default route (`auto`), it may be the one that `current` was
        chosen by. The kernel is asked only if the list does not have the name of `current` itself.
        """
        entries = entries_of_links(parent, self._aliases)
        if not entries or current in entries:
            return False
        names = names_to_look_up(",".join(entries), {})
        found = {name: link.name for name in names if (link := await self._kernel.link(name))}
        if all(name == its for name, its in found.items()) or current in {found.get(each) for each in entries}:
            return False
        return not {"", current} & set(stands_for(parent, await self._facts(parent), subnets))

    async def judge(self, name: str) -> tuple[Parent | None, str]:
        """The link of this name as a parent now, None if it is not there or cannot be one; and the reason."""
        facts = ParentFacts(await self._with_masters([name]))
        if name not in facts.links:
            return None, f"it was renamed or removed; name it {name} again (ip link set NAME name {name})"
        return judge_link(facts.links[name], facts)

    async def _facts(self, text: str) -> ParentFacts:
        routes = await self._kernel.routes() if wants_routes(text, self._aliases) else RouteFacts()
        names = [*names_to_look_up(text, self._aliases), *names_behind_auto(text, self._aliases, routes)]
        links = await self._with_masters(names)
        facts = ParentFacts(links, routes, self._aliases, frozenset(await self._owned.owned()))
        if not wants_sub_interfaces(text, facts):
            return facts
        subs = {link.name: link for link in await self._kernel.links() if link.kind == "vlan"}
        return replace(facts, links=subs | links)

    async def _with_masters(self, names: Iterable[str]) -> dict[str, LinkFact]:
        """The links of these names, and the bridges, bonds and VRFs that they are ports of."""
        links = {name: link for name in dict.fromkeys(names) if (link := await self._kernel.link(name))}
        for _ in range(MOST_MASTERS):
            masters = {link.master for link in links.values() if link.master} - set(links)
            links |= {name: link for name in masters if (link := await self._kernel.link(name))}
        return links


class ParentFiles:
    """Reads parent files. One on a mount that hangs keeps nobody but the requests that need it, for `seconds`."""

    def __init__(self, read: Callable[[str], str] = read_parent_file, *, seconds: float = FILE_SECONDS) -> None:
        """Give a file `seconds`."""
        self._calls = BlockingCalls(read, most=MOST_FILES)
        self._seconds = seconds

    async def read(self, path: str) -> str:
        """The list in a parent file.

        Raises:
            Invalid: see `read_parent_file`.
            Unavailable: it takes too long.
        """
        try:
            with waiting_for(f"the parent file {path}"):
                return await self._calls.result(path, self._seconds)
        except TimeoutError:
            raise Unavailable(
                f"-o parent-file={path} could not be read within {self._seconds:g} s; is its mount there?"
            ) from None
