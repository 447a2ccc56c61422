"""Cached replies, and their invalidation."""

import dns.edns
import msgspec

from macvlan_global.dns.resolver.cache import ResponseCache
from tests.unit.dns.names import ask, key, knowing, question, record, texts


def test_an_answer_is_kept_until_its_name_changes() -> None:
    """A change of another name leaves it; a change of its own makes it go, whatever it said."""
    cache = knowing(record(1, "web"), record(2, "db"))
    for name in ("web", "web.lan", "db", "new", "1.0.65.10.in-addr.arpa"):
        ask(cache, name)
    assert len(cache.templates) == 5
    cache.update(put=[(key(record(1)), record(1, "new"))])
    assert list(cache.templates) == [question("db")[2:]]
    assert [texts(ask(cache, name)) for name in ("web", "new")] == [["REFUSED"], ["NOERROR", "10.65.0.1"]]


def test_an_answer_about_a_port_goes_with_the_name_behind_it() -> None:
    """The name that is asked is not the one that changes."""
    cache = knowing(record(1, "web", ports=(80,)))
    assert len(ask(cache, "_80._tcp.web", "SRV").answer) == 1
    cache.update(deleted=[key(record(1))])
    assert texts(ask(cache, "_80._tcp.web", "SRV")) == ["REFUSED"]


def test_what_is_said_before_the_store_was_read_is_not_kept() -> None:
    """A failure must not outlive its cause."""
    cache = ResponseCache(5)
    ask(cache, "web")
    cache.mark_synced()
    assert texts(ask(cache, "web")) == ["REFUSED"]


def test_how_much_is_kept_is_bounded_and_foreign_names_do_not_drive_out_ours() -> None:
    """The oldest go first, of each kind by itself."""
    cache = ResponseCache(5, most_existing=2, most_unknown=10)
    cache.update(put=[(key(record(1)), record(1, "web", "shop"))])
    cache.mark_synced()
    for name in ("web", "shop", "web.lan"):
        ask(cache, name)
    for number in range(30):
        ask(cache, f"x{number}.example")
    kept = {question(name)[2:] for name in ("shop", "web.lan", *(f"x{number}.example" for number in range(20, 30)))}
    assert set(cache.templates) == kept
    assert len(cache._by_name) == len(kept)


def test_what_differs_each_time_is_not_kept() -> None:
    """A cookie makes every asker's query another one."""
    cache = knowing(record(1, "web"))
    ask(cache, "web", use_edns=0, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")])
    cache.respond(question("web"), udp=False)
    assert cache.templates == {}


def test_what_is_answered_changes_with_hosts_and_networks() -> None:
    """No reply is kept from before: of another set of living hosts, or of networks that containers here are on."""
    cache = knowing(record(1, "web"))
    assert texts(ask(cache, "web")) == ["NOERROR", "10.65.0.1"]
    cache.set_networks_here(frozenset())
    assert texts(ask(cache, "web")) == ["REFUSED"]
    assert texts(ask(cache, "web.lan")) == ["NOERROR", "10.65.0.1"]
    cache.set_networks_here(frozenset({"lan" * 8}))
    assert texts(ask(cache, "web")) == ["NOERROR", "10.65.0.1"]
    cache.update(put=[("names/h2/x", msgspec.structs.replace(record(2, "web"), host="h2"))])
    cache.set_living(frozenset({"h2"}))
    assert texts(ask(cache, "web")) == ["NOERROR", "10.65.0.2"]
    cache.set_living(frozenset({"h1", "h2"}))
    assert texts(ask(cache, "web")) == ["NOERROR", "10.65.0.1", "10.65.0.2"]
