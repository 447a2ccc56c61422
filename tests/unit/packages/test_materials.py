"""The bill of materials: every pinned library, with its hashes and those that ask for it."""

import re
from pathlib import Path

from macvlan_global import __version__
from packages import dist

ROOT = Path(__file__).parents[3]
REQUIREMENTS = (ROOT / "requirements.txt").read_text()
BILL = dist.materials(REQUIREMENTS, 1_700_000_000)


def test_every_pinned_library_is_in_it_with_every_hash() -> None:
    """And nothing else: what requirements.txt has, line by line."""
    lines = re.findall(r"^([a-z][\w.-]*)==(\S+)", REQUIREMENTS, re.MULTILINE)
    assert [(each["name"], each["version"]) for each in BILL["components"]] == lines
    hashes = [each["content"] for part in BILL["components"] for each in part["externalReferences"][0]["hashes"]]
    assert hashes == re.findall(r"--hash=sha256:(\w+)", REQUIREMENTS)


def test_it_says_who_asks_for_what() -> None:
    """The driver for what requirements.in names, libraries for others; each that is asked for is a part."""
    asked = {each["ref"]: each["dependsOn"] for each in BILL["dependencies"]}
    own = BILL["metadata"]["component"]["bom-ref"]
    wanted = [line for line in (ROOT / "requirements.in").read_text().splitlines() if line and not line.startswith("#")]
    assert [each.partition("/")[2].partition("@")[0] for each in asked[own]] == sorted(wanted)
    assert {each for parts in asked.values() for each in parts} == {each["bom-ref"] for each in BILL["components"]}


def test_the_same_requirements_give_the_same_bill() -> None:
    """Another version of a library gives another serial number."""
    assert dist.materials(REQUIREMENTS, 1_700_000_000) == BILL
    other = dist.materials(REQUIREMENTS.replace("==1", "==2"), 1_700_000_000)
    assert other["serialNumber"] != BILL["serialNumber"]
    assert BILL["metadata"]["component"]["version"] == __version__
    assert BILL["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
