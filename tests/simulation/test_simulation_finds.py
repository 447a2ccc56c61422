"""A check that finds nothing proves nothing: with a bug put in, the simulation must find it, and soon."""

import asyncio
import re
from collections.abc import Callable

import pytest

from macvlan_global.kernel.ports import ContainerLink, RouteFacts
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry, Lease
from testkit.fake_kernel import FakeKernel
from testkit.simulation import simulate

ENOUGH = 400
"""So many seeds at most until a bug is found. The one that found it when this was written is tried first: to look for
it anew each time cost more than all known schedules. If the simulation draws otherwise by now, the others follow."""


class OverwritingStore(MemoryStore):
    """Creates what is there already."""

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        if entry := await self.get(key):
            return await self.replace(entry, value)
        return await super().create(key, value)


class RepeatingStore(MemoryStore):
    """Deletes twice: some seconds later whatever is there by then, and not only what its caller has read."""

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        asyncio.get_running_loop().call_later(2.0, self._delete_again, entry.key)
        return await super().delete(entry)

    def _delete_again(self, key: str) -> None:
        if key in self._contents.entries:
            self._contents.remove(key)


class ForgetfulStore(MemoryStore):
    """Says that it deleted an address, and does not."""

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        return True if entry.key.startswith("addresses/") else await super().delete(entry)


class SecretiveStore(MemoryStore):
    """Says that it wrote down a network for all hosts, and does not."""

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        return Entry(key, value, 1) if key.startswith("definitions/") else await super().create(key, value)


class LosingStore(MemoryStore):
    """Says that it made a reservation a claim, and drops it."""

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        written = await super().replace(entry, value)
        if written and b'"kind":"endpoint"' in value:
            await super().delete(written)
        return written


class BlindStore(MemoryStore):
    """Shows no host that lives, and lets another one have its key: a clone does not meet its original there."""

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        return [] if prefix == "alive/" else await super().scan(prefix)

    async def create_with(self, lease: Lease, key: str, value: bytes, over: Entry | None = None) -> Entry | None:
        """See `ClusterStore.create_with`."""
        if entry := await self.get(key):
            return await self.replace(entry, value)
        return await super().create_with(lease, key, value, over)


class MacKernel(FakeKernel):
    """Knows containers' interfaces by their MACs: with another one it says that the namespace is gone."""

    async def find_in_sandbox(self, link: ContainerLink) -> bool | None:
        """See `Kernel.find_in_sandbox`."""
        await super().find_in_sandbox(link)
        return any(each.mac == link.mac for each in self.sandboxed.get(link.sandbox, {}).values()) or None


class LonelyStore(MemoryStore):
    """Keeps one claim on each address, and drops those of other networks."""

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        if entry.key.startswith("addresses/"):
            value = re.sub(rb'"sharers":\[.*\]', b'"sharers":[]', value)
        return await super().replace(entry, value)


class ObligingStore(MemoryStore):
    """Gives the memory of a name to whoever asks: of two hosts that start containers of one name, both have its MAC."""

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        entry = await self.get(key) if key.startswith("avoided/names/") else None
        return await super().replace(entry, value) if entry else await super().create(key, value)

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        newest = await self.get(entry.key) if entry.key.startswith("avoided/names/") else None
        return await super().replace(newest or entry, value)


class SilentKernel(FakeKernel):
    """Says that the host has no address itself."""

    async def own_addresses(self) -> RouteFacts:
        """See `Kernel.own_addresses`."""
        return RouteFacts()


class ClumsyKernel(FakeKernel):
    """Takes the links of all containers when it is to take one's."""

    async def delete_in_sandbox(self, link: ContainerLink) -> bool:
        """See `Kernel.delete_in_sandbox`."""
        for links in self.sandboxed.values():
            links.clear()
        return True


@pytest.mark.parametrize(
    ("store", "found", "first"),
    [
        pytest.param(OverwritingStore, {"two holders"}, 0, id="create overwrites"),
        pytest.param(RepeatingStore, {"claim lost"}, 0, id="delete does not compare"),
        pytest.param(ForgetfulStore, {"held by nobody"}, 0, id="addresses are never free again"),
        pytest.param(SecretiveStore, {"pool held by nobody"}, 0, id="networks are told to nobody"),
        pytest.param(LosingStore, {"two holders"}, 0, id="claims are lost"),
        pytest.param(BlindStore, {"claim lost"}, 40, id="a clone does not meet its original"),
        pytest.param(LonelyStore, {"gateway or aux address lost"}, 0, id="networks share no gateway"),
        pytest.param(ObligingStore, {"MAC of two"}, 453, id="two hosts have one name"),
    ],
)
def test_a_broken_store_is_found(store: Callable[[], MemoryStore], found: set[str], first: int) -> None:
    """One bug in the store, and the kind of violation that it leads to."""
    _find(found, first, store=store)


def test_a_container_that_is_touched_is_found() -> None:
    """One bug in the kernel."""
    _find({"running container touched"}, kernel=lambda: ClumsyKernel("eth0"))


def test_an_address_taken_from_a_container_that_changed_its_mac_is_found() -> None:
    """One bug in the kernel, which says that whatever it does not find is gone."""
    _find({"two holders", "claim lost"}, 34, kernel=lambda: MacKernel("eth0"))


def test_an_address_of_a_host_that_is_handed_out_is_found() -> None:
    """One bug in the kernel: nobody knows of the host's addresses."""
    _find({"address of a host handed out"}, 239, kernel=lambda: SilentKernel("eth0"))


def _find(
    kinds: set[str],
    first: int = 0,
    *,
    store: Callable[[], MemoryStore] = MemoryStore,
    kernel: Callable[[], FakeKernel] = lambda: FakeKernel("eth0"),
) -> None:
    seen: set[str] = set()
    for seed in (first, *range(ENOUGH)):
        seen |= {each.kind for each in simulate(seed, store=store, kernel=kernel).verdict.violations}
        if seen & kinds:
            return
    pytest.fail(f"after {ENOUGH} seeds none of {sorted(kinds)} was found, only {sorted(seen)}")
