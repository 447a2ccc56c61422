"""Shims of the kernel in memory, held to `shim_contract` like the real ones."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from macvlan_global.errors import Conflict, NotFound
from macvlan_global.kernel.names import OUR_ALIAS, shim_name
from macvlan_global.kernel.ports import HostPath, MacvlanSpec, Shim
from macvlan_global.subnets import Address

if TYPE_CHECKING:
    from testkit.fake_kernel import FakeKernel


class FakeShims:
    """Shims of a `FakeKernel`, whose `hosted` has their links: what else they are is in `states`, by their names.

    `changed` is set to tell who follows `changes` of one more.
    """

    def __init__(self, kernel: "FakeKernel") -> None:
        """Begin with none."""
        self._kernel = kernel
        self.states: dict[str, Shim] = {}
        self.changed = asyncio.Event()

    def unsettle(self, name: str) -> None:
        """Somebody changes a sysctl of a shim."""
        self.states[name] = replace(self.states[name], settled=False)

    def drop_routes(self, name: str) -> None:
        """Somebody deletes all routes over a shim."""
        self.states[name] = replace(self.states[name], paths=frozenset())
        self.changed.set()

    async def all(self) -> list[Shim]:
        """See `Shims.all`."""
        return await self._kernel.step("shims", self._all)

    async def add(self, parent: str, *, mac: str, ipv6: bool) -> str:
        """See `Shims.add`."""
        return await self._kernel.step("add_shim", lambda: self._add(parent, mac, ipv6=ipv6))

    async def settle(self, name: str, *, ipv6: bool) -> None:
        """See `Shims.settle`."""
        await self._kernel.step("settle_shim", lambda: self._change(name, settled=True, ipv6=ipv6))

    async def delete(self, name: str) -> None:
        """See `Shims.delete`."""
        await self._kernel.delete(name)
        self.changed.set()

    async def add_address(self, name: str, address: Address) -> None:
        """See `Shims.add_address`."""
        await self._kernel.step("add_shim_address", lambda: self._add_address(name, address))

    async def delete_address(self, name: str, address: Address) -> None:
        """See `Shims.delete_address`."""
        await self._kernel.step("delete_shim_address", lambda: self._delete_address(name, address))

    async def add_path(self, name: str, path: HostPath) -> None:
        """See `Shims.add_path`."""
        await self._kernel.step("add_path", lambda: self._add_path(name, path))

    async def delete_path(self, name: str, address: Address) -> None:
        """See `Shims.delete_path`."""
        await self._kernel.step("delete_path", lambda: self._delete_path(name, address))

    async def changes(self) -> AsyncGenerator[None]:
        """See `Shims.changes`."""
        while True:
            yield
            await self.changed.wait()
            self.changed.clear()

    def _all(self) -> list[Shim]:
        links = {name: link for name, link in self._kernel.hosted.items() if link.is_shim}
        lower = {link.index: link for link in self._kernel.hosted.values()}
        self.states = {name: self.states[name] for name in links}
        found = []
        for name, state in self.states.items():
            parent = lower.get(links[name].lower)
            settled = state.settled and links[name].up and (parent is None or parent.mtu == links[name].mtu)
            found.append(replace(state, parent=parent.name if parent else "", settled=settled))
        return found

    def _add(self, parent: str, mac: str, *, ipv6: bool) -> str:
        name = shim_name(parent)
        left = self._kernel.hosted.get(name)
        if left and (left.kind, left.alias, left.up, left.mac) == ("macvlan", "", False, mac):
            del self._kernel.hosted[name]
        self._kernel.make(MacvlanSpec(name, parent, "bridge", mac))
        self._kernel.hosted[name] = replace(self._kernel.hosted[name], alias=OUR_ALIAS, up=True)
        self._kernel.altnames[f"{OUR_ALIAS}-{name}"] = name
        self.states[name] = Shim(name, parent, mac, ipv6=ipv6)
        return name

    def _change(self, name: str, **fields: object) -> None:
        if name not in self._kernel.hosted:
            raise NotFound(f"there is no interface {name} (ENODEV)")
        link = self._kernel.hosted[name]
        mtus = {each.index: each.mtu for each in self._kernel.hosted.values()}
        self._kernel.hosted[name] = replace(link, up=True, mtu=mtus.get(link.lower, link.mtu))
        self.states[name] = replace(self.states[name], **fields)  # type: ignore[arg-type]  # fields by name
        if not self.states[name].ipv6:
            self._keep(name, lambda address: address.version == 4)

    def _keep(self, name: str, kept: Callable[[Address], bool]) -> None:
        state = self.states[name]
        self.states[name] = replace(
            state,
            addresses=frozenset(each for each in state.addresses if kept(each)),
            paths=frozenset(each for each in state.paths if kept(each.address)),
        )

    def _need(self, name: str) -> Shim:
        if name not in self._kernel.hosted:
            raise NotFound(f"there is no interface {name} (ENODEV)")
        return self.states[name]

    def _add_address(self, name: str, address: Address) -> None:
        shim = self._need(name)
        self.states[name] = replace(shim, addresses=shim.addresses | {address})

    def _delete_address(self, name: str, address: Address) -> None:
        if name in self._kernel.hosted:
            shim = self.states[name]
            paths = frozenset(each for each in shim.paths if each.source != address)
            self.states[name] = replace(shim, addresses=shim.addresses - {address}, paths=paths)

    def _add_path(self, name: str, path: HostPath) -> None:
        shim = self._need(name)
        own = {each.ip for _, each in self._kernel.route_facts.addresses}
        own |= {each for state in self.states.values() for each in state.addresses}
        if path.source not in own:
            raise Conflict(f"setting the host's route to {path.address}: the host does not have {path.source} (EINVAL)")
        others = {each for each in shim.paths if each.address != path.address}
        self.states[name] = replace(shim, paths=frozenset({*others, path}))

    def _delete_path(self, name: str, address: Address) -> None:
        if name in self._kernel.hosted:
            shim = self.states[name]
            self.states[name] = replace(shim, paths=frozenset(each for each in shim.paths if each.address != address))
