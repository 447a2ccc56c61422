"""The user's `-o` options."""

import pytest

from macvlan_global.errors import Invalid
from macvlan_global.options.engine_keys import check_families
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
        ({"com.docker.network.driver.mtu": "1400"}, NetworkOptions(mtu=1400, mtu_key="com.docker.network.driver.mtu")),
        ({"com.docker.network.driver.mtu": "1400", "mtu": "1400"}, NetworkOptions(mtu=1400)),
        ({"com.docker.network.advertise_addr_nmsgs": "0"}, NetworkOptions()),
        ({"com.docker.network.advertise_addr_ms": "2000"}, NetworkOptions()),
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
        ({"parent": ","}, "-o parent=, names no interface; use one, such as eth0"),
        ({"": " , ,"}, "-o parent=, , names no interface"),
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
        ({"com.docker.network.driver.mtu": "x"}, "-o com.docker.network.driver.mtu=x is not an MTU"),
        ({"com.docker.network.driver.mtu": "1400", "mtu": "1500"}, "contradict"),
        (
            {"com.docker.network.mtu": "1400"},
            "-o com.docker.network.mtu=1400 has no effect on networks of this driver; use -o mtu=1400",
        ),
        ({"com.docker.network.internal": "true"}, "use --internal"),
        ({"com.docker.network.container_iface_prefix": "lan"}, "use -o attach=direct -o ifname=lan"),
        ({"com.docker.network.bridge.name": "br0"}, "use -o parent=INTERFACE"),
        ({"com.docker.network.bridge.enable_icc": "false"}, "it is for the bridge driver; leave it out"),
        ({"com.docker.network.bridge.gateway_mode_ipv4": "routed"}, "it is for the bridge driver"),
        ({"com.docker.network.bridge.host_binding_ipv4": "10.0.0.1"}, "it is for the bridge driver"),
        ({"com.docker.network.host_ipv4": "10.0.0.1"}, "it is for drivers that translate addresses"),
        ({"com.docker.network.driver.overlay.vxlanid_list": "4097"}, "it is for the overlay driver"),
        ({"com.docker.network.windowsshim.interface": "x"}, "it is for Windows"),
        ({"com.docker.network.endpoint.ifname": "lan"}, "driver-opt=com.docker.network.endpoint.ifname=NAME"),
        ({"com.docker.network.endpoint.sysctls": "x"}, "for each container"),
        ({"com.docker.network.endpoint.other": "x"}, "it is for containers"),
        ({"com.docker.network.driver.mto": "1400"}, "did you mean 'com.docker.network.driver.mtu'?"),
        ({"com.docker.network.": "x"}, "known: com.docker.network.driver.mtu"),
        ({"com.docker.network.enable_ipv6": "yes"}, "is neither true nor false"),
        ({"com.docker.network.advertise_addr_nmsgs": "4"}, "is not a number from 0 to 3"),
        ({"com.docker.network.advertise_addr_ms": "99"}, "is not a number from 100 to 2000"),
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


def test_a_stored_network_keeps_what_older_releases_ignored() -> None:
    """Any option of Docker, any value of its MTU (one that can be read counts), and parents without an entry."""
    assert parse_options({"parent": ","}, strict=False) == NetworkOptions(parent=",")
    key = "com.docker.network.driver.mtu"
    assert parse_options({key: "big", "com.docker.network.bridge.name": "br0"}, strict=False) == NetworkOptions()
    assert parse_options({key: "1400"}, strict=False) == NetworkOptions(mtu=1400, mtu_key=key)


@pytest.mark.parametrize(
    ("given", "ipv4", "ipv6", "words"),
    [
        ({"com.docker.network.enable_ipv6": "true"}, True, False, "use --ipv6=true"),
        ({"com.docker.network.enable_ipv6": "0"}, True, True, "use --ipv6=false"),
        ({"com.docker.network.enable_ipv4": "false"}, True, True, "use --ipv4=false"),
    ],
)
def test_families_that_the_engine_did_not_heed(
    given: dict[str, str],
    ipv4: bool,
    ipv6: bool,
    words: str,
) -> None:
    """Engines before 28 pass these options on and do nothing about them."""
    with pytest.raises(Invalid, match=f"has no effect on this engine; {words}"):
        check_families(given, ipv4=ipv4, ipv6=ipv6)
    heeded = {"ipv4": ipv4, "ipv6": ipv6} | {
        key.rpartition("_")[2]: value in {"true", "1"} for key, value in given.items()
    }
    check_families(given, **heeded)
