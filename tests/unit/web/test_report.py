"""The report of a network: its parent as it is, and the members behind it."""

from dataclasses import replace

import pytest

from macvlan_global.admin.messages import ChoiceView, NetworkView, VerdictView
from macvlan_global.kernel.ports import LinkFact
from macvlan_global.web.reporter import network_report

NETWORK = NetworkView(
    id="1a",
    name="lan",
    parent="bond0.7",
    parent_state="up",
    parent_made=True,
    mode="bridge",
    internal=False,
    options={},
    subnets=[],
    endpoints=0,
)
BOND = LinkFact("bond0", 4, "02:00:00:00:00:04", 1500, up=True, kind="bond")
VLAN = LinkFact("bond0.7", 5, "02:00:00:00:00:04", 1500, up=True, kind="vlan", lower=4, vlan_id=7)
GOOD = LinkFact("eth1", 2, "02:00:00:00:00:02", 1500, up=True, master="bond0")
BAD = LinkFact("eth2", 3, "02:00:00:00:00:03", 1500, up=True, master="bond0", carrier=False)
CHOICE = ChoiceView(
    network="lan",
    current="bond0.7",
    chosen="bond0.7",
    source="parent=bond0.7",
    verdicts=[VerdictView(entry="bond0.7", usable=True, reason="VLAN 7 on bond0")],
)


def test_a_sub_interface_of_a_bond_with_a_member_down() -> None:
    """VLAN id, member and reasons are there."""
    report = network_report(NETWORK, CHOICE, [BOND, VLAN, GOOD, BAD])
    assert (report.state, report.vlan, report.members_down, report.made) == ("up", 7, ["eth2"], True)
    assert (report.chosen, report.verdicts, report.problem) == ("bond0.7", CHOICE.verdicts, "")


@pytest.mark.parametrize(
    ("links", "state"),
    [
        ([], "missing"),
        ([replace(VLAN, up=False)], "down"),
        ([replace(VLAN, carrier=False)], "no carrier"),
        ([VLAN], "up"),
    ],
)
def test_the_state_of_a_parent(links: list[LinkFact], state: str) -> None:
    """Its wire counts only while it is up."""
    assert network_report(NETWORK, CHOICE, links).state == state


def test_a_choice_that_cannot_be_made_is_the_problem() -> None:
    """Its text is shown, and no verdicts."""
    report = network_report(NETWORK, "parent file /etc/p cannot be read", [VLAN])
    assert (report.problem, report.verdicts) == ("parent file /etc/p cannot be read", [])


def test_the_id_is_that_of_the_cluster() -> None:
    """All hosts know a network by one id."""
    assert network_report(NETWORK, CHOICE, []).id == "1a"
    shared = NetworkView(**{each: getattr(NETWORK, each) for each in NETWORK.__struct_fields__} | {"cluster": "9f"})
    assert network_report(shared, CHOICE, []).id == "9f"
