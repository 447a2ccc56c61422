"""The parents of a host: facts gathered, then chosen."""

from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from macvlan_global.errors import Invalid
from macvlan_global.kernel.ports import RouteFacts
from macvlan_global.parents.choose import ParentChooser
from macvlan_global.parents.owned import OwnedParents
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.table import Tables
from testkit.fake_kernel import FakeKernel

NETWORK = "0123456789abcdef"


def _parents(kernel: FakeKernel, scope: str = "local", **aliases: str) -> ParentChooser:
    return ParentChooser(kernel, OwnedParents(kernel, Tables(MemoryStore(), MemoryStore()).links), aliases, scope)


async def _choose(parents: ParentChooser, parent: str = "", file: str = "") -> str:
    choice = await parents.choose(NETWORK, parent, file, [ip_network("10.0.0.0/24")])
    return choice.parent.name if choice.parent else ""


async def test_the_file_wins_over_the_option_and_is_read_anew(tmp_path: Path) -> None:
    """So that it can be changed while the network lives."""
    file = tmp_path / "parent"
    parents = _parents(FakeKernel("eth0", "eth1"))
    for name in ("eth1", "eth0"):
        file.write_text(name)
        assert await _choose(parents, "eth0", str(file)) == name


async def test_no_parent_and_an_empty_list_are_the_same() -> None:
    """A dummy in local scope, refused in global scope."""
    for text in ("", " , "):
        assert await _choose(_parents(FakeKernel()), text) == "dm-0123456789ab"
        with pytest.raises(Invalid, match="no parent interface was passed"):
            await _choose(_parents(FakeKernel(), "global"), text)


async def test_aliases_and_auto_look_at_the_host() -> None:
    """The links that they lead to are looked up."""
    routes = RouteFacts(addresses=(("eth1", ip_interface("10.0.0.9/16")),), default_link="eth0")
    kernel = FakeKernel("eth0", "eth1", routes=routes)
    assert await _choose(_parents(kernel), "auto") == "eth1"
    assert await _choose(_parents(kernel), "auto.5") == "eth0.5"
    assert await _choose(_parents(kernel, up="nosuch,auto"), "up") == "eth1"


async def test_an_alternative_name_leads_to_the_link() -> None:
    """Hosts can share a name for interfaces that are called differently."""
    kernel = FakeKernel("enp3s0")
    kernel.altnames["the-uplink-of-this-house"] = "enp3s0"
    assert await _choose(_parents(kernel), "the-uplink-of-this-house") == "enp3s0"
