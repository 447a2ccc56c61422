"""A kernel in memory, held to `kernel_contract` like the real one."""

from dataclasses import replace

from macvlan_global.errors import Conflict, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.kernel.ports import LinkFact, MacvlanSpec, RouteFacts


class FakeKernel:
    """Links live in dicts: `hosted` in the host's namespace, `sandboxed` by namespace path.

    `failing` maps a method's name to the error its next call raises, to try every step that can fail.
    """

    def __init__(self, *names: str, routes: RouteFacts | None = None) -> None:
        """Start with `lo` and a plain device, up, for each name."""
        self.hosted: dict[str, LinkFact] = {}
        self.sandboxed: dict[str, dict[str, LinkFact]] = {}
        self.failing: dict[str, MacvlanGlobalError] = {}
        self.route_facts = routes or RouteFacts()
        self._last_index = 0
        self._put("lo", loopback=True, mac="00:00:00:00:00:00", mtu=65536)
        self.hosted["lo"] = replace(self.hosted["lo"], up=True)
        for name in names:
            self.add_device(name)

    def add_device(self, name: str, *, up: bool = True, mtu: int = 1500) -> None:
        """A plain device appears."""
        self._put(name, mtu=mtu)
        self.hosted[name] = replace(self.hosted[name], up=up)

    def move(self, name: str, sandbox: str, new_name: str = "eth0") -> None:
        """The engine moves a link into a container."""
        link = self.hosted.pop(name)
        self.sandboxed.setdefault(sandbox, {})[new_name] = replace(link, name=new_name)

    def move_back(self, sandbox: str, name: str, host_name: str) -> None:
        """The engine moves a link back to the host."""
        self.hosted[host_name] = replace(self.sandboxed[sandbox].pop(name), name=host_name)

    async def link(self, name: str) -> LinkFact | None:
        """See `Kernel.link`."""
        return self.hosted.get(name)

    async def links(self) -> list[LinkFact]:
        """See `Kernel.links`."""
        return list(self.hosted.values())

    async def routes(self) -> RouteFacts:
        """See `Kernel.routes`."""
        return self.route_facts

    async def add_vlan(self, name: str, master: str, vlan_id: int) -> None:
        """See `Kernel.add_vlan`."""
        self._maybe_fail("add_vlan")
        lower = self._need(master)
        self._put(name, kind="vlan", lower=lower.index, mac=lower.mac, mtu=lower.mtu, vlan_id=vlan_id)

    async def add_dummy(self, name: str) -> None:
        """See `Kernel.add_dummy`."""
        self._maybe_fail("add_dummy")
        self._put(name, kind="dummy")

    async def add_macvlan(self, spec: MacvlanSpec) -> None:
        """See `Kernel.add_macvlan`."""
        self._maybe_fail("add_macvlan")
        lower = self._need(spec.parent)
        self._put(spec.name, kind="macvlan", lower=lower.index, mac=spec.mac, mtu=spec.mtu or lower.mtu)

    async def set_up(self, name: str) -> None:
        """See `Kernel.set_up`."""
        self._maybe_fail("set_up")
        link = self._need(name)
        lower = self._by_index(link.lower)
        if lower and not lower.up:
            raise Unavailable(f"setting {name} up: the link below it is down (ENETDOWN)")
        taken = {other.mac for other in self._on(link.lower) if other.up} | ({lower.mac} if lower else set())
        if link.kind == "macvlan" and link.mac in taken:
            raise Conflict(f"setting {name} up: the MAC is in use on this parent (EBUSY)")
        self.hosted[name] = replace(link, up=True)

    async def set_down(self, name: str) -> None:
        """See `Kernel.set_down`."""
        self.hosted[name] = replace(self._need(name), up=False)

    async def delete(self, name: str) -> bool:
        """See `Kernel.delete`. Links that stand on it go with it, wherever they are."""
        self._maybe_fail("delete")
        if name not in self.hosted:
            return False
        self._remove(self.hosted[name].index)
        return True

    async def delete_in_sandbox(self, sandbox: str, mac: str) -> bool:
        """See `Kernel.delete_in_sandbox`."""
        self._maybe_fail("delete_in_sandbox")
        found = [name for name, link in self.sandboxed.get(sandbox, {}).items() if link.mac == mac]
        for name in found:
            del self.sandboxed[sandbox][name]
        return bool(found)

    async def find_in_sandbox(self, sandbox: str, mac: str) -> bool:
        """See `Kernel.find_in_sandbox`."""
        return any(link.mac == mac for link in self.sandboxed.get(sandbox, {}).values())

    async def close(self) -> None:
        """See `Kernel.close`."""

    def _maybe_fail(self, method: str) -> None:
        if error := self.failing.pop(method, None):
            raise error

    def _need(self, name: str) -> LinkFact:
        if name not in self.hosted:
            raise NotFound(f"there is no interface {name} on this host")
        return self.hosted[name]

    def _by_index(self, index: int) -> LinkFact | None:
        return next((link for link in self.hosted.values() if link.index == index), None)

    def _on(self, index: int) -> list[LinkFact]:
        everywhere = [*self.hosted.values(), *(x for links in self.sandboxed.values() for x in links.values())]
        return [link for link in everywhere if index and link.lower == index]

    def _put(self, name: str, **facts: object) -> None:
        if name in self.hosted:
            raise Conflict(f"making {name}: there is one already (EEXIST)")
        self._last_index += 1
        index = self._last_index
        base = LinkFact(name=name, index=index, mac=f"02:00:00:00:00:{index:02x}", mtu=1500, up=False)
        self.hosted[name] = replace(base, **facts)  # type: ignore[arg-type]  # fields by name

    def _remove(self, index: int) -> None:
        for upper in self._on(index):
            self._remove(upper.index)
        for links in (self.hosted, *self.sandboxed.values()):
            for name in [name for name, link in links.items() if link.index == index]:
                del links[name]
