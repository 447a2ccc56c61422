"""The reader of console blocks itself: a page that lies must fail."""

import pytest

from tests.docs.console import matches, parse, rewritten

PAGE = """# Page
<!-- needs: 8021q dummy -->
```console
$ one \\
    --more
out
$ two
```
text
<!-- not run: it installs things -->
```console
$ three
```
"""


def test_page_is_read_as_commands_and_output() -> None:
    """Continued lines are joined, output belongs to its command, marks are found."""
    page = parse(PAGE)
    assert [(command.text, command.shown) for command in page.commands] == [("one --more", ("out",)), ("two", ())]
    assert [block.not_run for block in page.blocks] == ["", "it installs things"]
    assert page.needs == ("8021q", "dummy")


@pytest.mark.parametrize("text", ["```console\nno command\n```", "```console\n```", "```console\n$ one\n"])
def test_malformed_block_is_an_error(text: str) -> None:
    """A block that could never be run is not passed over."""
    with pytest.raises(ValueError, match="block at line"):
        parse(text)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("6013943410e9e530328ac38a24142e7c", "99c272dbcab5ffb0821e7a1bf5de642a\n"),
        ("link/ether ba:37:86:e4:84:17 brd", "link/ether 02:00:00:00:00:01 brd"),
        ("seq=0 ttl=64 time=0.360 ms", "seq=0 ttl=64 time=12 ms"),
        ("4: eth0@if2: <UP>", "17: eth0@if9: <UP>"),
        ("one\n...\nfour", "one\ntwo\nthree\nfour"),
        ("one\n...\ntwo", "one\ntwo"),
        ("up for ... s", "up for 12.5 s"),
        ("", ""),
    ],
)
def test_what_differs_from_run_to_run_matches(shown: str, printed: str) -> None:
    """Ids, MACs, times, indexes and what is left open match."""
    assert matches(tuple(shown.splitlines()), printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("", "something"),
        ("something", ""),
        ("192.168.1.2", "192.168.1.3"),
        ("default via 192.168.1.1", "default via 192.168.1.1\nmore"),
        ("one\n...\nfour", "one\ntwo\nthree"),
        ("parent eth0", "parent eth1"),
    ],
)
def test_what_is_wrong_does_not_match(shown: str, printed: str) -> None:
    """Any other difference does not."""
    assert not matches(tuple(shown.splitlines()), printed)


def test_rewriting_replaces_only_what_no_longer_matches() -> None:
    """What still matches stays as the author wrote it."""
    page = parse(PAGE)
    first, second = page.commands
    assert rewritten(PAGE, [(first, "out\n"), (second, "")]) == PAGE
    assert "\n$ two\nnew\n```" in rewritten(PAGE, [(first, "out\n"), (second, "new\n")])
