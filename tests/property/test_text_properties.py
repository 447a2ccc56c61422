"""Whatever text or bytes an operator or a file holds: an answer or an error of ours, never a crash."""

from ipaddress import ip_network

from hypothesis import assume, given
from hypothesis import strategies as st

from macvlan_global.errors import Invalid
from macvlan_global.kernel.names import mac_from_address, parse_mac, random_mac
from macvlan_global.kernel.ports import LinkFact, RouteFacts
from macvlan_global.options.network import parse_options
from macvlan_global.parents.parent_file import parse_parent_file
from macvlan_global.parents.rules import ParentFacts, choose_parent, names_to_look_up, no_usable_parent, split_entries
from macvlan_global.subnets import parse_address, parse_subnet, usable

NAMES = ("eth0", "eth1", "lo", "down0", "eth0.10")
LINKS = {
    name: LinkFact(name, index, "02:00:00:00:00:01", 1500, up=name != "down0", loopback=name == "lo")
    for index, name in enumerate(NAMES, 1)
}
FACTS = ParentFacts(LINKS, RouteFacts(default_link="eth0"), {"up": "nosuch,eth1", "loop": "loop,loop"})
ENTRY = st.one_of(
    st.sampled_from(
        [*NAMES, "auto", "up", "loop", "auto.5", "up.6", "nosuch", "eth1.4094", "eth1.4095", "eth0..5", "."]
    ),
    st.text(max_size=20),
)
BLANKS = st.text(" \t", max_size=2)


@given(st.lists(ENTRY, max_size=6))
def test_a_choice_explains_every_entry_it_looked_at(entries: list[str]) -> None:
    """The parent, if any, comes from the last verdict, and can be looked up or made."""
    choice = choose_parent(",".join(entries), FACTS, [ip_network("10.0.0.0/24")])
    assert [verdict.usable for verdict in choice.verdicts[:-1]] == [False] * len(choice.verdicts[:-1])
    assert (choice.parent is not None) is any(verdict.usable for verdict in choice.verdicts)
    assert all(verdict.reason for verdict in choice.verdicts)
    if choice.parent:
        assert choice.parent.name in LINKS or len(choice.parent.name.encode()) <= 15
        assert choice.parent.name not in {"lo", "down0"}
        assert choice.parent.kind == "existing" or 1 <= choice.parent.vlan_id <= 4094


@given(st.lists(st.tuples(BLANKS, st.sampled_from(["eth0", "eth1", "nosuch", ""]), BLANKS), max_size=6))
def test_blanks_and_empty_entries_change_nothing(parts: list[tuple[str, str, str]]) -> None:
    """The order stays, and the first usable entry wins."""
    names = [name for _, name, _ in parts if name]
    text = ",".join("".join(part) for part in parts)
    assert list(split_entries(text)) == names
    chosen = choose_parent(text, FACTS).parent
    assert (chosen.name if chosen else None) == next((name for name in names if name in LINKS), None)


@given(st.text())
def test_any_text_as_a_parent_list(text: str) -> None:
    """Names to look up are names that can be."""
    assert all(name and "\0" not in name and "/" not in name for name in names_to_look_up(text, FACTS.aliases))
    choose_parent(text, FACTS)


@given(st.text(min_size=3))
def test_a_parent_files_text_is_in_no_error(text: str) -> None:
    """Unless the words of the error happen to hold it."""
    choice = choose_parent(text, ParentFacts({}))
    told = no_usable_parent(choice, "/p")
    plain = no_usable_parent(choose_parent("x", ParentFacts({})), "/p")
    assume(text not in plain)
    assert text not in told


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_as_a_parent_file(content: bytes) -> None:
    """A list with something in it, or an error without the contents."""
    try:
        assert parse_parent_file(content, "/p").strip(" ,")
    except Invalid as error:
        text = content.decode(errors="ignore").strip()
        assert len(text) < 30 or text not in str(error)


@given(st.text())
def test_any_text_as_a_mac(text: str) -> None:
    """One spelling, which is read as itself."""
    try:
        mac = parse_mac(text)
    except Invalid:
        return
    assert parse_mac(mac) == mac
    assert len(bytes.fromhex(mac.replace(":", ""))) == 6


@given(st.binary(min_size=6, max_size=6))
def test_any_mac_that_a_link_can_have_is_read_in_every_spelling(raw: bytes) -> None:
    """Colons or dashes, upper or lower case."""
    assume(not raw[0] & 1 and any(raw))
    for text in (raw.hex(":"), raw.hex("-").upper()):
        assert parse_mac(text) == raw.hex(":")


@given(st.binary(min_size=6, max_size=6), st.ip_addresses())
def test_macs_that_we_make_are_ones_that_a_link_can_have(raw: bytes, address: object) -> None:
    """Random ones and derived ones."""
    for mac in (random_mac(lambda _: raw), mac_from_address(str(address))):
        assert parse_mac(mac) == mac
        assert int(mac[:2], 16) & 0b11 == 0b10


@given(
    st.one_of(
        st.text(), st.ip_addresses().map(str), st.tuples(st.ip_addresses(), st.text()).map("{0[0]}%{0[1]}".format)
    )
)
def test_any_text_as_an_address_or_a_subnet(text: str) -> None:
    """One spelling for each, which is read as itself."""
    try:
        address = parse_address(text, "--ip")
        assert parse_address(str(address), "--ip") == address
        assert str(address) == str(type(address)(int(address))), "the number is all there is to an address"
    except Invalid:
        pass
    try:
        subnet = parse_subnet(text, "--subnet")
        assert parse_subnet(str(subnet), "--subnet") == subnet
        first, stop = usable(subnet)
        assert int(subnet.network_address) <= first < stop <= int(subnet.broadcast_address) + 1
    except Invalid:
        pass


KEYS = st.one_of(
    st.sampled_from(["parent", "", "mode", "macvlan_mode", "mtu", "mac", "parent-file"]), st.text(max_size=12)
)
VALUES = st.one_of(st.sampled_from(["eth0", "bridge", "vepa", "1500", "0", "random", ""]), st.text(max_size=12))


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_options(given_options: dict[str, str]) -> None:
    """Read the same strictly and tolerantly, or refused."""
    try:
        options = parse_options(given_options)
    except Invalid:
        return
    assert parse_options(given_options, strict=False) == options
    assert options.mtu == 0 or 68 <= options.mtu <= 65535
