"""Cached replies, and their invalidation."""

import dns.edns
import dns.message
import dns.rcode
import msgspec

from macvlan_global.dns.resolver.cache import PATIENCE_SECONDS, Early, ResponseCache
from testkit.fake_clock import FakeClock
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
    cache.set_awaited(frozenset())
    assert texts(ask(cache, "web")) == ["REFUSED"]


def test_how_much_is_kept_is_bounded_and_foreign_names_do_not_drive_out_ours() -> None:
    """The oldest go first, of each kind by itself."""
    cache = ResponseCache(5, most_existing=2, most_unknown=10)
    cache.update(put=[(key(record(1)), record(1, "web", "shop"))])
    cache.set_awaited(frozenset())
    for name in ("web", "shop", "web.lan"):
        ask(cache, name)
    for number in range(30):
        ask(cache, f"x{number}.example")
    kept = {question(name)[2:] for name in ("shop", "web.lan", *(f"x{number}.example" for number in range(20, 30)))}
    assert set(cache.templates) == kept
    assert len(cache._over_udp._by_name) == len(kept)


def test_what_differs_each_time_is_not_kept() -> None:
    """A cookie makes every asker's query another one."""
    cache = knowing(record(1, "web"))
    ask(cache, "web", use_edns=0, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")])
    assert cache.templates == {}


def test_answers_over_tcp_are_kept_for_themselves_and_few_of_them() -> None:
    """They are long, and none may be sent over UDP. Of names that nobody has none is kept: a client may ask for any."""
    cache = ResponseCache(5, most_over_tcp=2)
    cache.update(put=[(key(record(1)), record(1, "web", "shop"))])
    cache.set_awaited(frozenset())
    for name in ("web", "shop", "elsewhere.example", "web.lan"):
        ask(cache, name, udp=False)
    assert list(cache.templates_over_tcp) == [question(name)[2:] for name in ("shop", "web.lan")]
    assert cache.templates == {}
    cache.update(put=[(key(record(1)), record(1, "web"))])
    assert cache.templates_over_tcp == {}
    ask(cache, "web", udp=False)
    cache.set_living(frozenset({"h2"}))
    assert cache.templates_over_tcp == {}


def test_what_is_answered_changes_with_hosts_and_networks() -> None:
    """No reply is kept from before: of another set of living hosts, or of networks that containers here are on."""
    cache = knowing(record(1, "web"))
    assert texts(ask(cache, "web")) == ["NOERROR", "10.65.0.1"]
    cache.set_networks_here(frozenset())
    assert texts(ask(cache, "web")) == ["REFUSED"]
    assert texts(ask(cache, "web.lan")) == ["NOERROR", "10.65.0.1"]
    cache.set_networks_here(frozenset({"lan" * 8}))
    assert texts(ask(cache, "web")) == ["NOERROR", "10.65.0.1"]
    second = msgspec.structs.replace(record(2, "web"), host="h2")
    cache.update(put=[(key(second), second)])
    cache.set_living(frozenset({"h2"}))
    assert texts(ask(cache, "web")) == ["NOERROR", "10.65.0.2"]
    cache.set_living(frozenset({"h1", "h2"}))
    assert texts(ask(cache, "web")) == ["NOERROR", "10.65.0.1", "10.65.0.2"]


# ------------------------------------------------------- names that are awaited

LAN, WAN = record(1).network, record(1, network="wan").network


def _code(cache: ResponseCache, name: str) -> str:
    """The answer of a resolver that may wait: its code, or that it waits."""
    reply = cache.respond_or_wait(question(name), udp=True)
    if reply is Early.WAIT:
        return "waits"
    assert reply is not None
    return dns.rcode.to_text(dns.message.from_wire(reply).rcode())


def test_a_query_waits_for_the_names_of_a_network_that_is_being_read() -> None:
    """Any query may be about one of them; what has no endpoint afterwards is refused. No answer of before is kept."""
    cache = knowing(record(1, "web"))
    assert [_code(cache, name) for name in ("web", "db", "elsewhere.example")] == ["NOERROR", "REFUSED", "REFUSED"]
    cache.set_awaited(frozenset({WAN}))
    assert [_code(cache, name) for name in ("web", "db", "elsewhere.example")] == ["waits"] * 3
    assert not cache.names_there.is_set()
    cache.update(put=[(key(each), each) for each in (record(2, "db", network="wan"),)])
    assert _code(cache, "db") == "waits", "there may be more of that name"
    cache.set_awaited(frozenset())
    assert [_code(cache, name) for name in ("web", "db", "elsewhere.example")] == ["NOERROR", "NOERROR", "REFUSED"]
    assert cache.names_there.is_set()


def test_containers_of_this_host_are_answered_at_once() -> None:
    """They are known without the store."""
    cache = ResponseCache(5, "h1")
    own, other = record(1, "web"), msgspec.structs.replace(record(2, "db"), host="h2")
    cache.update(put=[(key(own), own), (key(other), other)])
    assert [_code(cache, name) for name in ("web", "db")] == ["NOERROR", "waits"]
    cache.set_awaited(frozenset({LAN}))
    assert [_code(cache, name) for name in ("web", "db")] == ["NOERROR", "waits"]


def test_whoever_waited_long_enough_gets_what_is_known() -> None:
    """Names on networks that were read, and SERVFAIL for what may still come; nothing of it is kept."""
    cache = ResponseCache(5, "h1")
    read, half = record(1, "web", network="wan"), record(2, "db")
    others = [msgspec.structs.replace(each, host="h2") for each in (read, half)]
    cache.update(put=[(key(each), each) for each in others])
    assert [texts(ask(cache, name)) for name in ("web", "db")] == [["SERVFAIL"]] * 2
    cache.set_awaited(frozenset({LAN}))
    assert [texts(ask(cache, name)) for name in ("web", "db", "x")] == [["NOERROR", "10.65.0.1"], *[["SERVFAIL"]] * 2]
    assert cache.templates == {}


def test_nobody_waits_for_a_store_that_is_away_for_long() -> None:
    """Ten seconds after a network began to be followed its names are as good as none, until they come."""
    clock = FakeClock(0)
    cache = ResponseCache(5, steady=clock)
    cache.set_awaited(frozenset({LAN}))
    clock.advance(PATIENCE_SECONDS - 1)
    assert _code(cache, "web") == "waits"
    clock.advance(2)
    assert _code(cache, "web") == "SERVFAIL"
    cache.set_awaited(frozenset({LAN, WAN}))
    assert _code(cache, "web") == "waits"
    cache.set_awaited(frozenset({WAN}))
    clock.advance(PATIENCE_SECONDS)
    assert _code(cache, "web") == "SERVFAIL"
