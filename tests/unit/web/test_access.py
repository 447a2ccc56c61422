"""Who may ask the page: names of this host, and the token."""

import stat
from pathlib import Path

import pytest

from macvlan_global.admin.http_listener import split_address
from macvlan_global.errors import Unavailable
from macvlan_global.web.access import (
    TOKEN_FILE,
    has_token,
    is_loopback,
    load_token,
    may_be_asked_by,
)


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("127.0.0.1:8153", "127.0.0.1", 8153), ("[::1]:80", "::1", 80), ("localhost:1", "localhost", 1)],
)
def test_an_address_has_a_host_and_a_port(address: str, host: str, port: int) -> None:
    """Brackets of IPv6 are left out."""
    assert split_address(address) == (host, port)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - nobody binds it here
        ("::", False),
        ("10.0.0.5", False),
        ("anna", False),
    ],
)
def test_loopback_needs_no_token(host: str, loopback: bool) -> None:
    """Names but localhost may lead anywhere, and so do the unspecified addresses."""
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("header", "on_loopback", "elsewhere"),
    [
        ("127.0.0.1:8153", True, True),
        ("127.0.0.1", True, True),
        ("localhost:9999", True, True),
        ("LOCALHOST", True, True),
        ("[::1]:8153", True, True),
        ("::1", True, True),
        ("10.0.0.5:8153", False, True),
        ("[fd00::5]:8153", False, True),
        ("anna:8153", False, True),
        ("Anna", False, True),
        ("evil.example:8153", False, False),
        ("localhost.evil.example", False, False),
        ("127.0.0.1.evil.example:8153", False, False),
        ("anna.evil.example", False, False),
        ("", False, False),
        (":8153", False, False),
        ("[::1]:8153.evil", False, False),
    ],
)
def test_names_that_the_page_is_asked_by(header: str, on_loopback: bool, elsewhere: bool) -> None:
    """A foreign name is never one of ours (DNS rebinding); on loopback nothing but loopback is."""
    assert may_be_asked_by(header, loopback=True, own_name="anna") is on_loopback
    assert may_be_asked_by(header, loopback=False, own_name="anna") is elsewhere


@pytest.mark.parametrize(
    "shown", ["", "s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret1", "Basic s3cret", "Bearer \udcff"]
)
def test_another_token_is_none(shown: str) -> None:
    """Nor is the right one without its scheme."""
    assert has_token("Bearer s3cret", "s3cret")
    assert not has_token(shown, "s3cret")


def test_the_token_is_made_once_and_for_root(tmp_path: Path) -> None:
    """It is long, and stays the same."""
    token = load_token(tmp_path)
    assert len(token) >= 40
    assert load_token(tmp_path) == token
    assert stat.S_IMODE((tmp_path / TOKEN_FILE).stat().st_mode) == 0o600


def test_an_empty_token_is_refused(tmp_path: Path) -> None:
    """It would let everybody in."""
    (tmp_path / TOKEN_FILE).write_text("\n")
    with pytest.raises(Unavailable, match="is empty; delete the file"):
        load_token(tmp_path)


def test_a_token_that_cannot_be_made(tmp_path: Path) -> None:
    """The file is named."""
    with pytest.raises(Unavailable, match="page-token cannot be used"):
        load_token(tmp_path / "missing")
