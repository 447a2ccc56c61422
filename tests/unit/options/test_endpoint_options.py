"""What one container asks of its interface."""

import pytest

from macvlan_global.errors import Invalid
from macvlan_global.options.endpoint import EndpointOptions, check_ifname, parse_endpoint_options, settings_of
from macvlan_global.options.engine_keys import IFNAME_KEY, SYSCTLS_KEY

ENGINES = {
    "com.docker.network.portmap": [],
    "com.docker.network.endpoint.exposedports": [{"Proto": 6, "Port": 80}],
    "com.docker.network.endpoint.macaddress": "AkLAqAEK",
    "com.docker.network.endpoint.dnsservers": [],
    "com.docker.network.endpoint.later": "of a newer engine",
}


def test_nothing_is_asked_by_what_the_engine_sends() -> None:
    """It tells of ports and whatever else it has, of whatever type."""
    assert parse_endpoint_options(ENGINES) == EndpointOptions()


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("x", "--driver-opt x=y has no effect on networks of this driver; known: ifname"),
        ("ifnam", "did you mean 'ifname'?"),
        ("com.docker.network.driver.mtu", "has no effect on a container; give it to the network"),
        ("com.docker.network.container_iface_prefix", "has no effect on a container; give it to the network"),
        ("com.docker.network.bridge.name", "has no effect on a container"),
        ("com.docker.network.bridge.enable_icc", "it is for the bridge driver"),
        ("com.docker.network.host_ipv4", "it is for drivers that translate"),
        ("com.docker.network.windowsshim.dnsservers", "it is for Windows"),
    ],
)
def test_an_option_of_a_container_without_effect_is_refused(key: str, words: str) -> None:
    """The text names it with its value."""
    with pytest.raises(Invalid) as refused:
        parse_endpoint_options({**ENGINES, key: "y"})
    assert words in str(refused.value)
    assert f"--driver-opt {key}=y" in str(refused.value)


@pytest.mark.parametrize("key", ["ifname", IFNAME_KEY])
def test_a_name_by_either_key(key: str) -> None:
    """Ours is shorter, the engine's is what Compose writes."""
    assert parse_endpoint_options({key: "lan"}) == EndpointOptions("lan")


def test_two_names_contradict_each_other() -> None:
    """The same one twice does not."""
    assert parse_endpoint_options({"ifname": "lan", IFNAME_KEY: "lan"}).ifname == "lan"
    with pytest.raises(Invalid, match="contradict each other"):
        parse_endpoint_options({"ifname": "lan", IFNAME_KEY: "wan"})


@pytest.mark.parametrize("name", ["lan", "lan0", "a.b", "eth", "ethernet0", "x" * 15, "Ω".encode().hex()])
def test_names_that_can_be(name: str) -> None:
    """Of up to 15 characters."""
    check_ifname(name, "it", counted=False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "0 characters; use 1 to 15"),
        ("x" * 16, "16 characters; use 1 to 15"),
        ("a b", "is not a valid"),
        ("a/b", "is not a valid"),
        ("a:b", "is not a valid"),
        ("a%d", "is not a valid"),
        ("é", "is not a valid"),
        (".", "is not a valid"),
        ("..", "is not a valid"),
        ("eth0", "is reserved for the engine"),
        ("eth17", "is reserved for the engine"),
        ("lo", "the loopback interface"),
    ],
)
def test_names_that_cannot_be(name: str, said: str) -> None:
    """Each with its reason."""
    with pytest.raises(Invalid, match=said):
        check_ifname(name, "it", counted=False)


def test_what_a_number_follows_is_shorter_and_never_the_engines() -> None:
    """`eth1` and a 0 would be eth10."""
    check_ifname("x" * 13, "it", counted=True)
    check_ifname("lo", "it", counted=True)
    for name, said in (("x" * 14, "use 1 to 13, since a number follows"), ("eth", "engine"), ("eth1", "engine")):
        with pytest.raises(Invalid, match=said):
            check_ifname(name, "it", counted=True)


def test_settings_of_an_interface() -> None:
    """The engine's command line writes everything in small letters; a value may hold anything but a comma."""
    asked = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.ifname.retrans_time_ms=a=b"
    assert settings_of(asked) == (("ipv4/conf/*/log_martians", "1"), ("ipv6/neigh/*/retrans_time_ms", "a=b"))
    assert settings_of("") == ()
    assert parse_endpoint_options({SYSCTLS_KEY: asked}).sysctls == asked


@pytest.mark.parametrize(
    "asked",
    [
        "net.ipv4.conf.eth0.log_martians=1",
        "net.ipv4.conf.IFNAME.log_martians",
        "kernel.domainname=x",
        "net.ipv4.conf.IFNAME.../../all/forwarding=1",
        "net.ipv4.ip_forward=1",
    ],
)
def test_what_is_no_setting_of_an_interface(asked: str) -> None:
    """Nothing else of the kernel can be reached by it."""
    with pytest.raises(Invalid, match="is not a sysctl of an interface"):
        parse_endpoint_options({SYSCTLS_KEY: asked})


def test_options_are_short_texts() -> None:
    """Whoever talks to the socket may send anything."""
    for value in (7, ["lan"], "x" * 5000):
        with pytest.raises(Invalid, match="must be a string of up to 4096 characters"):
            parse_endpoint_options({"ifname": value})
