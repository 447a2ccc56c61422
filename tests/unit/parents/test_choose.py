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
    choice = await parents.choose(NETWORK, await parents.listed(parent, file), [ip_network("10.0.0.0/24")])
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


@pytest.mark.parametrize(
    ("parent", "elsewhere"),
    [
        ("lan", True),
        ("lan.10", True),
        ("up", True),
        ("lan,lan.10", True),
        ("nosuch,lan", False),
        ("lan,down", False),
        ("auto,lan", False),
        ("auto.10,lan.10", False),
        ("lan,eth0", False),
        ("lan,wan", False),
        ("lan,auto", False),
        ("up,eth0", False),
        ("auto", False),
        ("auto.5", False),
        ("gone", False),
        ("gone.10", False),
        ("eth1", False),
        ("", False),
    ],
)
async def test_only_an_alternative_name_leads_away_from_a_link(parent: str, elsewhere: bool) -> None:
    """Not a better entry, nor a fallback's alternative name while another entry leads nowhere, or goes by a default
    route that is not there yet: the link may have been chosen by that one."""
    kernel = FakeKernel("eth0", "eth1", "down")
    await kernel.set_down("down")
    kernel.altnames |= {"lan": "eth1", "wan": "eth0"}
    parents = _parents(kernel, up="lan")
    subnets = [ip_network("10.0.0.0/24")]
    assert await parents.leads_elsewhere("eth0", parent, subnets) is elsewhere


@pytest.mark.parametrize(
    ("parent", "asked"), [("eth0", 0), ("eth7,eth0", 0), ("auto", 0), ("up", 0), ("", 0), ("wan", 1), ("nosuch,wan", 2)]
)
async def test_a_start_of_a_container_asks_the_kernel_for_other_names_only(parent: str, asked: int) -> None:
    """Most lists have the parent's own name."""
    kernel = FakeKernel("eth0", "eth1", routes=RouteFacts(default_link="eth0"))
    kernel.altnames["wan"] = "eth0"
    assert not await _parents(kernel, up="eth1,eth0").leads_elsewhere("eth0", parent, [])
    assert kernel.faults.taken == ["link"] * asked
