"""Addresses and the names of containers, with an engine that does not tell the driver any name."""

import json

from lab.site import Site

OURS = ("-d", "macvlan-global", "--ipam-driver", "macvlan-global")


def _subnet(octet: int) -> tuple[str, str]:
    return f"--subnet=10.{octet}.0.0/24", f"--gateway=10.{octet}.0.1"


def test_an_engine_that_tells_no_name_has_what_it_had(site: Site) -> None:
    """The next address, a random MAC, and nothing remembered but --ip: as before, whatever the option says."""
    for name, octet in (("lan", 36), ("off", 37)):
        options = ("-o", "sticky=false") if name == "off" else ()
        site.docker("network", "create", *OURS, *_subnet(octet), "-o", "parent=eth0", *options, name)
    macs = set()
    for last in (2, 3):
        site.docker("run", "-d", "--init", "--network=lan", "--name=web", "alpine", "sleep", "900")
        found = json.loads(site.docker("inspect", "web"))[0]["NetworkSettings"]["Networks"]["lan"]
        assert found["IPAddress"] == f"10.36.0.{last}"
        macs.add(found["MacAddress"])
        site.docker("rm", "-f", "web")
    assert len(macs) == 2
    assert site.driver.admin.remembered() == []
    site.docker("run", "--rm", "--network=lan", "--ip=10.36.0.9", "alpine", "true")
    (kept,) = site.driver.admin.remembered()
    assert (kept.address, kept.name, kept.in_use) == ("10.36.0.9", "", False)
    assert [each.address for each in site.driver.admin.forget_address("10.36.0.9")] == ["10.36.0.9"]
    assert site.driver.admin.remembered() == []
    said = site.refusal("network", "create", *OURS, *_subnet(38), "-o", "sticky=often", "no")
    assert "-o sticky=often is neither true nor false" in said
