"""Choose a network's parent on this host: gather the facts (links, routes, parent file) and apply `parents.rules`."""

import asyncio
from collections.abc import Mapping, Sequence

from macvlan_global.errors import Unavailable
from macvlan_global.kernel.ports import Kernel, RouteFacts
from macvlan_global.parents.owned import OwnedParents
from macvlan_global.parents.parent_file import read_parent_file
from macvlan_global.parents.rules import (
    Choice,
    ParentFacts,
    choose_parent,
    isolated,
    names_behind_auto,
    names_to_look_up,
    refuse_without_parent,
    split_entries,
    wants_routes,
)
from macvlan_global.subnets import Subnet

FILE_SECONDS = 5.0


class ParentChooser:
    """Chooses the parent of a network on this host, with the reason for each entry of its list."""

    def __init__(self, kernel: Kernel, owned: OwnedParents, aliases: Mapping[str, str], scope: str = "local") -> None:
        """`aliases` come from the host's configuration, `[parents]`."""
        self._kernel = kernel
        self._owned = owned
        self._aliases = aliases
        self._scope = scope

    async def choose(self, network_id: str, parent: str, parent_file: str, subnets: Sequence[Subnet]) -> Choice:
        """Choose from the list, or from the file, which wins over it and is read anew each time. With neither, the
        network is isolated: it stands on a dummy of its own.

        Raises:
            Invalid: the file cannot be read; or no parent at all, in global scope.
            Unavailable: reading the file takes too long.
        """
        text = await _read(parent_file) if parent_file else parent
        if not split_entries(text):
            refuse_without_parent(self._scope)
            return isolated(network_id)
        return choose_parent(text, await self._facts(text), subnets)

    async def _facts(self, text: str) -> ParentFacts:
        routes = await self._kernel.routes() if wants_routes(text, self._aliases) else RouteFacts()
        names = [*names_to_look_up(text, self._aliases), routes.default_link]
        names += names_behind_auto(text, self._aliases, routes.default_link)
        names += [name for name, _ in routes.addresses]
        links = {name: link for name in dict.fromkeys(names) if name and (link := await self._kernel.link(name))}
        return ParentFacts(links, routes, self._aliases, frozenset(await self._owned.owned()))


async def _read(path: str) -> str:
    """The list in a parent file. On a mount that hangs the thread is left behind: the engine must not wait for it.

    Raises:
        Invalid: see `read_parent_file`.
        Unavailable: it takes longer than FILE_SECONDS.
    """
    try:
        async with asyncio.timeout(FILE_SECONDS):
            return await asyncio.to_thread(read_parent_file, path)
    except TimeoutError:
        raise Unavailable(
            f"-o parent-file={path} could not be read within {FILE_SECONDS:g} s; is its mount there?"
        ) from None
