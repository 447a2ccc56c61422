"""The parent comes late, goes down, is renamed or made again: errors say so, and what can be mended is mended."""

from collections.abc import Iterator

import pytest

from lab import ENGINES, DockerError, Host, Wire
from lab.driver import Driver
from lab.site import Site, links

NETWORK = ("--subnet=192.168.1.0/24", "--gateway=192.168.1.254", "-o", "parent=eth1")


@pytest.fixture(params=ENGINES)
def own_site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site of its own, as the tests here take its parent apart."""
    with Wire() as wire, Host("parents") as host:
        wire.plug(host)
        driver = Driver(host)
        driver.start()
        host.start_engine(request.param)
        yield Site(wire, host, driver, request.param)
        driver.stop()


def ip(site: Site, *arguments: str) -> str:
    """Run `ip` on the host."""
    return site.host.run(["ip", *arguments]).stdout


def refusal(site: Site) -> str:
    """What docker says when a container cannot be started; nothing of the attempt stays."""
    with pytest.raises(DockerError) as refused:
        site.run("mac", "alpine", "true")
    assert [each.kind for each in site.driver.admin.addresses()] == ["gateway"]
    assert [name for name in links(site.host) if name.startswith("mg-")] == []
    return refused.value.stderr


def works(site: Site) -> bool:
    """Whether two containers of the network reach each other."""
    site.start("mac", "peer", "--ip=192.168.1.77")
    answer = site.run("mac", "alpine", "ping", "-c1", "-W2", "192.168.1.77")
    site.docker("rm", "-f", "peer")
    return "0% packet loss" in answer


def test_a_parent_that_comes_late(own_site: Site) -> None:
    """The driver starts without the parent, says that it is missing, and uses it as soon as it is there."""
    own_site.create("mac", *NETWORK)
    own_site.driver.stop()
    ip(own_site, "link", "delete", "eth1")
    own_site.driver.start()
    assert "no usable parent interface on this host: eth1: no such interface" in refusal(own_site)
    own_site.wire.plug(own_site.host)
    assert works(own_site)


def test_a_parent_that_goes_down(own_site: Site) -> None:
    """A parent that the operator set down is not set up behind his back: the error says what to do."""
    own_site.create("mac", *NETWORK)
    ip(own_site, "link", "set", "eth1", "down")
    assert "eth1: it is down (ip link set eth1 up)" in refusal(own_site)
    ip(own_site, "link", "set", "eth1", "up")
    assert works(own_site)


def test_a_parent_without_carrier(own_site: Site) -> None:
    """Containers start while the cable is out, and are reachable once it is back."""
    own_site.create("mac", *NETWORK)
    own_site.wire.cut(own_site.host)
    own_site.start("mac", "one", "--ip=192.168.1.10")
    own_site.wire.mend(own_site.host)
    answer = own_site.run("mac", "alpine", "ping", "-c1", "-W2", "192.168.1.10")
    assert "0% packet loss" in answer


def test_a_parent_that_is_renamed(own_site: Site) -> None:
    """A network is tied to the name: under another one the parent is missing, with an alternative name it is there."""
    own_site.create("mac", *NETWORK)
    ip(own_site, "link", "set", "eth1", "down")
    ip(own_site, "link", "set", "eth1", "name", "lan0")
    ip(own_site, "link", "set", "lan0", "up")
    assert "eth1: no such interface" in refusal(own_site)
    ip(own_site, "link", "property", "add", "dev", "lan0", "altname", "eth1")
    assert works(own_site)


def test_a_parent_that_is_made_again(own_site: Site) -> None:
    """The same name with another index is the same parent."""
    own_site.create("mac", *NETWORK)
    own_site.start("mac", "one")
    index = ip(own_site, "-o", "link", "show", "eth1").partition(":")[0]
    ip(own_site, "link", "delete", "eth1")
    ip(own_site, "link", "add", "dummy-index", "type", "veth", "peer", "name", "other-index")
    own_site.wire.plug(own_site.host)
    assert ip(own_site, "-o", "link", "show", "eth1").partition(":")[0] != index
    own_site.docker("rm", "-f", "one")
    assert works(own_site)


def test_the_next_entry_of_a_list_takes_over(own_site: Site) -> None:
    """With the first parent gone, the next usable entry of the list carries new containers."""
    own_site.wire.plug(own_site.host, "eth2")
    own_site.create("mac", "--subnet=192.168.1.0/24", "--gateway=192.168.1.254", "-o", "parent=eth1,eth2")
    ip(own_site, "link", "delete", "eth1")
    assert works(own_site)
    assert [each.parent for each in own_site.driver.admin.networks()] == ["eth2"]
