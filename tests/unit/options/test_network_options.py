"""The user's `-o` options."""

import pytest

from macvlan_global.errors import Invalid
from macvlan_global.options.network import NetworkOptions, parse_options


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, NetworkOptions()),
        ({"parent": " eth0, eth1 "}, NetworkOptions(parent="eth0, eth1")),
        ({"": "eth0,eth1"}, NetworkOptions(parent="eth0,eth1")),
        ({"": "eth0", "parent": "eth0"}, NetworkOptions(parent="eth0")),
        ({"parent-file": "/etc/parent"}, NetworkOptions(parent_file="/etc/parent")),
        ({"macvlan_mode": "vepa"}, NetworkOptions(mode="vepa")),
        ({"mode": "private"}, NetworkOptions(mode="private")),
        ({"macvlan_mode": "", "mtu": "68"}, NetworkOptions(mtu=68)),
        ({"mtu": "65535", "mac": "address"}, NetworkOptions(mtu=65535, mac="address")),
        ({"probe": "true"}, NetworkOptions(probe=True)),
        ({"probe": "false"}, NetworkOptions(probe=False)),
        ({"com.docker.network.enable_ipv6": "true"}, NetworkOptions()),
    ],
)
def test_options_that_are_right(given: dict[str, str], options: NetworkOptions) -> None:
    """Defaults, both spellings of the mode, `-o =…`, and what the engine adds."""
    assert parse_options(given) == options


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"parnet": "eth0"}, "did you mean 'parent'"),
        ({"Parent": "eth0"}, "did you mean 'parent'"),
        ({"parent_file": "/x"}, "did you mean 'parent-file'"),
        ({"macvlan-mode": "vepa"}, "did you mean 'macvlan_mode'"),
        ({"ipvlan_flag": "x"}, "-o ipvlan_flag"),
        ({"zzz": "x"}, "known: parent, parent-file"),
        ({"mode": "bridg"}, "use bridge, private, vepa, passthru"),
        ({"mode": "vepa", "macvlan_mode": "bridge"}, "contradict"),
        ({"": "eth0", "parent": "eth1"}, "contradict"),
        ({"mtu": "0"}, "-o mtu=0"),
        ({"mtu": "67"}, "-o mtu=67"),
        ({"mtu": "65536"}, "-o mtu=65536"),
        ({"mtu": ""}, "-o mtu="),
        ({"mtu": "-1"}, "-o mtu=-1"),
        ({"mtu": "1500.0"}, "-o mtu"),
        ({"mtu": "٣٣٣"}, "-o mtu"),
        ({"mtu": "9" * 5000}, "-o mtu"),
        ({"probe": "yes"}, "-o probe=yes is neither true nor false"),
        ({"probe": ""}, "-o probe= is neither true nor false"),
        ({"prob": "true"}, "did you mean 'probe'"),
        ({"mac": "fixed"}, "use random, or address"),
    ],
)
def test_options_that_are_wrong(given: dict[str, str], words: str) -> None:
    """The error names the option and what would work."""
    with pytest.raises(Invalid) as refused:
        parse_options(given)
    assert words in str(refused.value)


def test_a_stored_network_still_loads_with_an_unknown_option() -> None:
    """An older version reads what a newer one wrote; bad values stay bad."""
    assert parse_options({"later": "x", "mode": "vepa"}, strict=False).mode == "vepa"
    with pytest.raises(Invalid):
        parse_options({"mode": "x"}, strict=False)
