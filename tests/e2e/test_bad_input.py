"""Whatever is wrong is refused in docker's output in words that help, and nothing of it stays behind."""

import json
from typing import Any

import pytest

from lab import ENGINES
from lab.driver import SOCKET
from lab.site import Site
from lab.unixhttp import ask

OLDEST, NEWEST = ENGINES
SUBNET = "--subnet=192.168.1.0/24"
PARENT = ("-o", "parent=eth1")
GOOD = (SUBNET, "--gateway=192.168.1.254", *PARENT)
CONTENTS = "nobody-else-may-read-this"

Words = tuple[str, ...] | dict[str, tuple[str, ...]]
"""What must be in docker's output; by engine where the engine itself refuses, each in its own words."""


def words_for(site: Site, words: Words) -> tuple[str, ...]:
    """The words that this site's engine must have in its output."""
    return words[site.version] if isinstance(words, dict) else words


def option(*values: str) -> tuple[str, ...]:
    """A good subnet, and these `-o` options."""
    return (SUBNET, *(part for value in values for part in ("-o", value)))


NOT_A_VLAN = "(1 to 4094, as in eth0.10)"
CREATE: dict[str, tuple[tuple[str, ...], Words]] = {
    "unknown option": (
        option("parent=eth1", "parnet=eth0"),
        ("unknown option -o parnet", "did you mean 'parent'?"),
    ),
    "option of another driver": (
        option("parent=eth1", "ipvlan_flag=vepa"),
        ("unknown option -o ipvlan_flag",),
    ),
    "bad mode": (
        option("parent=eth1", "macvlan_mode=brigde"),
        ("-o macvlan_mode=brigde is not a macvlan mode", "use bridge, private, vepa, passthru"),
    ),
    "two modes": (
        option("parent=eth1", "macvlan_mode=bridge", "mode=private"),
        ("-o macvlan_mode=bridge and -o mode=private contradict each other",),
    ),
    "parent=lo": (option("parent=lo"), ("lo: the loopback interface cannot carry a macvlan", "-o parent=eth0")),
    "vlan id 0": (option("parent=eth1.0"), ("eth1.0: VLAN id 0 is not between 1 and 4094",)),
    "vlan id 4095": (option("parent=eth1.4095"), ("eth1.4095: VLAN id 4095 is not between 1 and 4094",)),
    "vlan id abc": (option("parent=eth1.abc"), ("eth1.abc: ", "'abc' is not a VLAN id", NOT_A_VLAN)),
    "vlan id negative": (option("parent=eth1.-1"), ("eth1.-1: ", "'-1' is not a VLAN id", NOT_A_VLAN)),
    "vlan id empty": (option("parent=eth1."), ("eth1.: ", "'' is not a VLAN id", NOT_A_VLAN)),
    "name over 15 characters": (
        option("parent=a-name-that-is-long"),
        ("a-name-that-is-long: not an interface name: longer than 15 characters",),
    ),
    "sub-interface name over 15 characters": (
        option("parent=eth1.0000000000010"),
        ("eth1.0000000000010: not an interface name: longer than 15 characters",),
    ),
    "list with no usable entry": (
        option("parent=toothbrush, lo, nosuch.10,,eth1.5000"),
        (
            "no usable parent interface on this host",
            "toothbrush: no such interface",
            "lo: the loopback interface cannot carry a macvlan",
            "nosuch.10: no such interface, and its master nosuch does not exist",
            "eth1.5000: VLAN id 5000 is not between 1 and 4094",
        ),
    ),
    "slash in the name": (option("parent=../../etc"), ("../../etc: not an interface name",)),
    "subnet with host bits": (
        ("--subnet=192.168.1.1/24", *PARENT),
        {
            OLDEST: ("--subnet '192.168.1.1/24' is not a subnet", "192.168.1.0/24"),
            NEWEST: ("invalid subnet 192.168.1.1/24", "it should be 192.168.1.0/24"),
        },
    ),
    "subnet that is none": (("--subnet=192.168.1.0/33", *PARENT), ("192.168.1.0/33",)),
    "range outside the subnet": ((SUBNET, "--ip-range=192.168.2.0/25", *PARENT), ("192.168.2.0/25",)),
    "gateway outside the subnet": ((SUBNET, "--gateway=192.168.2.1", *PARENT), ("192.168.2.1",)),
    "gateway that is no address": ((SUBNET, "--gateway=192.168.1.256", *PARENT), ("192.168.1.256",)),
    "aux address outside the subnet": ((SUBNET, "--aux-address=x=192.168.2.9", *PARENT), ("192.168.2.9",)),
    "range wider than the subnet": ((SUBNET, "--ip-range=192.168.0.0/16", *PARENT), ("192.168.0.0/16",)),
    "mtu 0": (option("parent=eth1", "mtu=0"), ("-o mtu=0 is not an MTU", "from 68 to the MTU of the parent")),
    "mtu 67": (option("parent=eth1", "mtu=67"), ("-o mtu=67 is not an MTU", "from 68")),
    "mtu a word": (option("parent=eth1", "mtu=big"), ("-o mtu=big is not an MTU",)),
    "mtu above the parent's": (
        option("parent=eth1", "mtu=1501"),
        ("-o mtu=1501 is above the MTU of the parent eth1 (1500); use 1500 or less",),
    ),
    "mtu too small for IPv6": (
        ("--ipv6", "--subnet=fd18::/64", *option("parent=eth1", "mtu=1279")),
        ("-o mtu=1279 is too small for IPv6; use 1280 or more",),
    ),
    "bad mac policy": (option("parent=eth1", "mac=fixed"), ("-o mac=fixed is not a MAC policy", "random, or address")),
    "unknown ipam option": (
        (*option("parent=eth1"), "--ipam-opt=spce=blue"),
        ("unknown option --ipam-opt spce", "known: space"),
    ),
    "bad address space": (
        (*option("parent=eth1"), "--ipam-opt=space=../blue"),
        ("--ipam-opt space=../blue must be 1 to 32 letters, digits",),
    ),
}

FILE = "/etc/bad-parent"
FILES: dict[str, tuple[str, str]] = {
    "missing": ("true", "does not exist on this host"),
    "a directory": (f"mkdir {FILE}", "is a directory"),
    "a loop of links": (f"ln -s {FILE} {FILE}", "cannot be read (Too many levels of symbolic links)"),
    "unreadable": (f"ln -s /proc/self/mem {FILE}", "cannot be read (Input/output error)"),
    "a device": (f"ln -s /dev/zero {FILE}", "is not a regular file"),
    "a pipe": (f"mkfifo {FILE}", "is not a regular file"),
    "empty": (f": > {FILE}", "is empty"),
    "only blanks and comments": (f"printf '\\n  \\n# {CONTENTS}\\n' > {FILE}", "names no parent"),
    "binary": (f"printf '{CONTENTS}\\000\\377' > {FILE}", "is not text"),
    "over 64 KiB": (f"yes {CONTENTS} | head -c 66000 > {FILE}", "is larger than 64 KiB"),
    "TOML without its table": (
        f"printf '[other]\\nparent = \"{CONTENTS}\"\\n' > {FILE}",
        "is TOML without a [macvlan] table",
    ),
    "TOML without a parent": (
        f"printf '[macvlan]\\nkey = \"{CONTENTS}\"\\n' > {FILE}",
        "has no parent in its [macvlan] table",
    ),
    "broken TOML": (f"printf '[macvlan\\nparent = {CONTENTS}\\n' > {FILE}", "is neither TOML nor plain text"),
}

RUN: dict[str, tuple[tuple[str, ...], Words]] = {
    "--ip taken": (("--ip=192.168.1.3",), ("address 192.168.1.3 is in use by",)),
    "--ip outside the subnet": (
        ("--ip=192.168.9.9",),
        {
            OLDEST: ("192.168.9.9", "does not belong to any of this network's subnets"),
            NEWEST: ("no configured subnet or ip-range contain the IP address 192.168.9.9",),
        },
    ),
    "--ip an aux address": (("--ip=192.168.1.2",), ("address 192.168.1.2 is in use by network", "aux address router")),
    "--ip the network": (
        ("--ip=192.168.1.0",),
        ("192.168.1.0 is the network or broadcast address", "from 192.168.1.1 to 192.168.1.6"),
    ),
    "--ip the broadcast": (("--ip=192.168.1.7",), ("192.168.1.7 is the network or broadcast address",)),
    "--ip no address": (("--ip=192.168.1.999",), ("192.168.1.999",)),
    "--ip6 without IPv6": (
        ("--ip6=fd18::1",),
        ("user specified IP address is supported only when connecting to networks with user configured subnets",),
    ),
    "malformed MAC": (("--mac-address=zz:zz:zz:zz:zz:zz",), ("zz:zz:zz:zz:zz:zz",)),
    "short MAC": (("--mac-address=02:42:01",), ("02:42:01",)),
    "multicast MAC": (("--mac-address=01:00:5e:00:00:01",), ("01:00:5e:00:00:01", "multicast")),
    "MAC of nobody": (("--mac-address=00:00:00:00:00:00",), ("00:00:00:00:00:00",)),
}


def refused_without_trace(site: Site, words: tuple[str, ...], *command: str) -> str:
    """Docker refuses a command with these words in its output, and all is as it was; the output."""
    before = site.traces()
    said = site.refusal(*command)
    assert [word for word in words if word not in said] == [], said
    assert "internal error" not in said
    assert site.traces() == before
    return said


@pytest.mark.parametrize("case", CREATE)
def test_a_network_that_cannot_be(site: Site, case: str) -> None:
    """The error names option, value and what would work, and the good command works right afterwards."""
    arguments, words = CREATE[case]
    refused_without_trace(site, words_for(site, words), *site.create_command("lan", *arguments))
    site.create("lan", *GOOD)


@pytest.mark.parametrize("case", FILES)
def test_a_parent_file_that_is_none(site: Site, case: str) -> None:
    """The error names the file and what one looks like, and never holds what is in it."""
    prepare, words = FILES[case]
    site.shell(prepare)
    command = site.create_command("lan", SUBNET, "-o", f"parent-file={FILE}")
    said = refused_without_trace(site, (f"-o parent-file={FILE} {words}", 'parent = "eth1"'), *command)
    assert CONTENTS not in said
    assert CONTENTS not in site.driver.log_text()
    site.shell(f"rm -rf {FILE}; echo eth1 > {FILE}")
    site.docker(*command)
    site.shell(f"rm {FILE}")


@pytest.mark.parametrize("case", RUN)
def test_a_container_that_cannot_be(site: Site, case: str) -> None:
    """An address or a MAC that cannot be had is refused, and a container without it starts."""
    arguments, words = RUN[case]
    gateway = ("--gateway=192.168.1.1", "--aux-address=router=192.168.1.2")
    site.create("lan", "--subnet=192.168.1.0/29", *gateway, *PARENT)
    site.start("lan", "holder", "--ip=192.168.1.3")
    command = ("run", "--rm", "--network=lan", *arguments, "alpine", "true")
    refused_without_trace(site, words_for(site, words), *command)
    site.run("lan", "--ip=192.168.1.4", "alpine", "true")


def test_a_full_pool(site: Site) -> None:
    """The error says which pool is full and what to do; a container that ends makes room at once."""
    site.create("lan", "--subnet=192.168.1.0/29", "--ip-range=192.168.1.4/31", "--gateway=192.168.1.1", *PARENT)
    site.start("lan", "one")
    site.start("lan", "two")
    words = ("no free address is left in 192.168.1.4/31", "stop a container", "--ip-range or --subnet wider")
    refused_without_trace(site, words, "run", "--rm", "--network=lan", "alpine", "true")
    site.docker("rm", "-f", "one")
    assert "192.168.1.4/29" in site.run("lan", "alpine", "ip", "addr")


def test_an_overlapping_pool(site: Site) -> None:
    """A space is a wire: a wider subnet may be on it too, and an address is given once, on whichever network."""
    site.create("lan", *GOOD)
    site.start("lan", "one", "--ip=192.168.1.3")
    site.create("wider", "--subnet=192.168.0.0/16", *PARENT)
    words = ("address 192.168.1.3 is in use by", "on host")
    refused_without_trace(site, words, "run", "--rm", "--network=wider", "--ip=192.168.1.3", "alpine", "true")
    site.create("again", "--subnet=192.168.0.0/16", "--ipam-opt=space=blue", *PARENT)


def test_the_same_pool_twice(site: Site) -> None:
    """Two networks cannot have one subnet and range: the error names the network that has it, and what would work."""
    site.create("lan", SUBNET, "--ip-range=192.168.1.0/25", *PARENT)
    command = site.create_command("same", SUBNET, "--ip-range=192.168.1.0/25", *PARENT)
    words = ("--subnet 192.168.1.0/24 overlaps", "(range 192.168.1.0/25)", "has it", "--ipam-opt space=NAME")
    refused_without_trace(site, words, *command)
    site.create("a-part", SUBNET, "--ip-range=192.168.1.64/26", *PARENT)
    site.create("other-half", SUBNET, "--ip-range=192.168.1.128/25", *PARENT)


def test_a_second_network_on_a_passthru_parent(site: Site) -> None:
    """A passthru network has its parent for itself: before others and after others."""
    second = site.create_command("second", *GOOD)
    site.create("first", "--subnet=192.168.2.0/24", *PARENT, "-o", "macvlan_mode=passthru")
    words = ("parent eth1 cannot be shared", "is in mode passthru", "Use another parent, or remove that network")
    refused_without_trace(site, words, *second)
    refused_without_trace(site, words, *second, "-o", "macvlan_mode=passthru")
    site.docker("network", "rm", "first")
    site.docker(*second)
    third = site.create_command("third", "--subnet=192.168.2.0/24", *PARENT, "-o", "mode=passthru")
    refused_without_trace(site, ("parent eth1 cannot be shared", "is already using it"), *third)


def test_a_second_container_on_a_passthru_network(site: Site) -> None:
    """A passthru parent carries one container; when it goes, another may come."""
    site.create("lan", *GOOD, "-o", "macvlan_mode=passthru")
    site.start("lan", "one")
    words = ("is in mode passthru, which carries one container at a time",)
    refused_without_trace(site, words, "run", "--rm", "--network=lan", "alpine", "true")
    site.docker("rm", "-f", "one")
    site.run("lan", "alpine", "true")


def test_a_parent_that_is_down(site: Site) -> None:
    """A parent of the user's is not set up unasked: the error says that it is down and the command that sets it up."""
    site.shell("ip link set eth1 down")
    try:
        refused_without_trace(site, ("eth1: it is down (ip link set eth1 up)",), *site.create_command("lan", *GOOD))
    finally:
        site.shell("ip link set eth1 up")
    site.create("lan", *GOOD)


# ------------------------------------------------------------------- the protocol


def ask_plugin(site: Site, path: str, body: object = b"", content_type: str = "") -> tuple[int, dict[str, Any]]:
    """Call the plugin as the engine does; status and reply. Bytes are sent as they are, anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask(site.host.run_folder / SOCKET, "POST", path, data, content_type)


NETWORK, ENDPOINT = "ab" * 32, "cd" * 32
IDS = {"NetworkID": NETWORK, "EndpointID": ENDPOINT}
GENERIC = "com.docker.network.generic"
NOT_THE_PROTOCOL = "the request does not follow the plugin protocol"


def network_request(options: object, **data: object) -> dict[str, object]:
    """A CreateNetwork request with these `-o` options, and IPv4Data of one subnet."""
    return {"NetworkID": NETWORK, "Options": {GENERIC: options}, "IPv4Data": [{"Pool": "192.168.1.0/24", **data}]}


MALFORMED: dict[str, tuple[str, object, str]] = {
    "not JSON": ("/NetworkDriver.CreateNetwork", b"{nope", NOT_THE_PROTOCOL),
    "no body": ("/NetworkDriver.CreateNetwork", b"", "the request has no body"),
    "not UTF-8": ("/NetworkDriver.DeleteNetwork", b'{"NetworkID": "\xff\xfe"}', NOT_THE_PROTOCOL),
    "a list": ("/NetworkDriver.Join", [1, 2], NOT_THE_PROTOCOL),
    "null": ("/NetworkDriver.Join", None, NOT_THE_PROTOCOL),
    "a number for an id": ("/NetworkDriver.DeleteNetwork", {"NetworkID": 5}, "$.NetworkID"),
    "a missing id": ("/NetworkDriver.CreateNetwork", {"Options": {}}, "NetworkID"),
    "options of a wrong type": ("/NetworkDriver.CreateNetwork", {"NetworkID": NETWORK, "Options": [1]}, "$.Options"),
    "data of a wrong type": ("/NetworkDriver.CreateNetwork", {"NetworkID": NETWORK, "IPv4Data": {}}, "$.IPv4Data"),
    "an interface of a wrong type": ("/NetworkDriver.CreateEndpoint", {**IDS, "Interface": "eth0"}, "$.Interface"),
    "a pool of a wrong type": ("/IpamDriver.RequestPool", {"Pool": ["10.0.0.0/8"]}, "$.Pool"),
    "nesting": ("/NetworkDriver.CreateNetwork", b'{"Options":' + b'{"a":' * 50_000, NOT_THE_PROTOCOL),
    "nesting where it is ignored": ("/NetworkDriver.CreateNetwork", b'{"X":' + b"[" * 200_000, NOT_THE_PROTOCOL),
}

REFUSED: dict[str, tuple[str, object, str]] = {
    "an id with a path in it": (
        "/NetworkDriver.DeleteNetwork",
        {"NetworkID": "../../x"},
        "is not an id of Docker",
    ),
    "an empty id": ("/NetworkDriver.DeleteNetwork", {"NetworkID": ""}, "is not an id of Docker"),
    "an id without end": ("/NetworkDriver.DeleteNetwork", {"NetworkID": "a" * 5000}, "is not an id of Docker"),
    "options that are no map": (
        "/NetworkDriver.CreateNetwork",
        network_request("parent=eth1"),
        "must be a map of strings",
    ),
    "an option that is no text": (
        "/NetworkDriver.CreateNetwork",
        network_request({"mtu": 1400}),
        "must be a map of strings",
    ),
    "a pool that is none": (
        "/NetworkDriver.CreateNetwork",
        network_request({"parent": "eth1"}, Pool="x"),
        "--subnet 'x'",
    ),
    "a gateway that is none": (
        "/NetworkDriver.CreateNetwork",
        network_request({"parent": "eth1"}, AddressSpace="macvlan-global", Gateway="x"),
        "--gateway 'x' is not an IP address",
    ),
    "a gateway outside": (
        "/NetworkDriver.CreateNetwork",
        network_request({"parent": "eth1"}, AddressSpace="macvlan-global", Gateway="192.168.2.1/24"),
        "192.168.2.1 is not in the subnet 192.168.1.0/24",
    ),
    "an aux address outside": (
        "/NetworkDriver.CreateNetwork",
        network_request({"parent": "eth1"}, AddressSpace="macvlan-global", AuxAddresses={"a": "192.168.2.1/24"}),
        "192.168.2.1 is not in the subnet 192.168.1.0/24",
    ),
    "an unknown network": ("/NetworkDriver.CreateEndpoint", IDS, "is not known to macvlan-global on this host"),
    "an unknown network at Join": ("/NetworkDriver.Join", IDS, "is not known to macvlan-global on this host"),
    "an unknown endpoint": ("/NetworkDriver.EndpointOperInfo", IDS, "is not known to macvlan-global on this host"),
    "an unknown pool": ("/IpamDriver.RequestAddress", {"PoolID": "macvlan-global/10.9.0.0/24"}, "there is no pool"),
    "a pool id that is none": ("/IpamDriver.RequestAddress", {"PoolID": "../.."}, "is not a pool id"),
    "a range outside the subnet": (
        "/IpamDriver.RequestPool",
        {"Pool": "192.168.1.0/24", "SubPool": "192.168.2.0/25"},
        "--ip-range 192.168.2.0/25 is not inside --subnet 192.168.1.0/24",
    ),
    "a range of the other family": (
        "/IpamDriver.RequestPool",
        {"Pool": "192.168.1.0/24", "SubPool": "fd18::/64"},
        "--ip-range fd18::/64 is not inside --subnet 192.168.1.0/24",
    ),
    "a range without a subnet": ("/IpamDriver.RequestPool", {"SubPool": "10.0.0.0/8"}, "needs a --subnet"),
}


def error_of(path: str, reply: dict[str, Any]) -> str:
    """The error text, from the key where the engine looks for it."""
    (key,) = reply
    assert key == ("Error" if path.startswith("/IpamDriver.") else "Err")
    return str(reply[key])


@pytest.mark.parametrize("case", MALFORMED)
def test_a_request_that_is_none(site: Site, case: str) -> None:
    """What is not of the protocol is answered with 400 and the place of the mistake, and changes nothing."""
    path, body, words = MALFORMED[case]
    before = site.state()
    status, reply = ask_plugin(site, path, body)
    assert (status, words in error_of(path, reply)) == (400, True), reply
    assert site.state() == before


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_cannot_be_granted(site: Site, case: str) -> None:
    """What is of the protocol and cannot be is answered as the engine expects an error, and changes nothing."""
    path, body, words = REFUSED[case]
    before = site.traces()
    status, reply = ask_plugin(site, path, body)
    assert (status, words in error_of(path, reply)) == (200, True), reply
    assert site.traces() == before


@pytest.mark.parametrize(
    "method", ["NetworkDriver.DeleteEndpoint", "NetworkDriver.Leave", "NetworkDriver.DeleteNetwork"]
)
def test_what_is_not_there_is_deleted_already(site: Site, method: str) -> None:
    """Deleting twice, or what never was, succeeds: the engine repeats calls whose answer was lost."""
    assert ask_plugin(site, f"/{method}", IDS) == (200, {})


@pytest.mark.parametrize("path", ["/NetworkDriver.CreateNetwork", "/IpamDriver.RequestPool"])
def test_a_huge_body(site: Site, path: str) -> None:
    """More than 16 MiB is refused, and the driver goes on."""
    status, reply = ask_plugin(site, path, b'{"NetworkID": "' + b"a" * (16 * 1024 * 1024) + b'"}')
    assert (status, error_of(path, reply)) == (413, "the request is larger than 16 MiB")
    site.create("lan", *GOOD)


def test_an_unknown_path_and_any_content_type(site: Site) -> None:
    """404 for a path of a later protocol, as engines expect; what a body calls itself does not matter."""
    assert ask_plugin(site, "/NetworkDriver.MakeCoffee", {})[0] == 404
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"):
        status, reply = ask_plugin(site, "/NetworkDriver.GetCapabilities", b"", kind)
        assert (status, reply["Scope"]) == (200, "local")
