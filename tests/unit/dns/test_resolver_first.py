"""/etc/resolv.conf below another root: files, links and none, changed and brought back."""

from pathlib import Path

import pytest

from macvlan_global.dns.resolvconf.install import ResolvConf
from macvlan_global.dns.resolvconf.text import nameservers
from macvlan_global.errors import Conflict, Unavailable

PLAIN = b"# by hand \xff\nnameserver 192.0.2.1"
STUB = "# generated\nnameserver 127.0.0.53\noptions edns0\n"
LINK = "../run/systemd/resolve/stub-resolv.conf"


@pytest.fixture
def file(tmp_path: Path) -> ResolvConf:
    """Below a root with an empty /etc, on which systemd-resolved runs."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "run/systemd/resolve").mkdir(parents=True)
    (tmp_path / "run/systemd/resolve/stub-resolv.conf").write_text(STUB)
    (tmp_path / "run/systemd/resolve/resolv.conf").write_text("nameserver 192.0.2.1\n")
    return ResolvConf(tmp_path)


def _install(file: ResolvConf, address: str = "127.0.0.153") -> list[str]:
    file.apply(file.install(address))
    return nameservers(file.path.read_text(errors="replace"))


def _listed(file: ResolvConf) -> list[str]:
    return sorted(each.name for each in file.path.parent.iterdir())


def test_a_file_is_brought_back_byte_for_byte(file: ResolvConf) -> None:
    """With its mode, though it is not text that can be decoded."""
    file.path.write_bytes(PLAIN)
    file.path.chmod(0o640)
    assert _install(file) == ["127.0.0.153", "192.0.2.1"]
    assert file.path.stat().st_mode & 0o777 == 0o640
    file.apply(file.remove())
    assert (file.path.read_bytes(), file.path.stat().st_mode & 0o777) == (PLAIN, 0o640)
    assert _listed(file) == ["resolv.conf"]


def test_no_file_is_no_file_again(file: ResolvConf) -> None:
    """A resolver that was there before alone stays alone."""
    assert _install(file) == ["127.0.0.153"]
    file.apply(file.remove())
    assert _listed(file) == []


@pytest.mark.parametrize("link", [LINK, "/run/systemd/resolve/stub-resolv.conf", "../run/systemd/resolve/resolv.conf"])
def test_a_link_of_systemd_resolved_becomes_a_file_and_a_link_again(file: ResolvConf, link: str) -> None:
    """The file names systemd-resolved itself, whose servers may change, and not those of now."""
    file.path.symlink_to(link)
    assert _install(file) == ["127.0.0.153", "127.0.0.53"]
    assert not file.path.is_symlink()
    file.apply(file.remove())
    assert str(file.path.readlink()) == link
    assert (file.root / "run/systemd/resolve/stub-resolv.conf").read_text() == STUB


@pytest.mark.parametrize("link", ["", LINK])
def test_once_more_changes_nothing_and_another_address_only_that(file: ResolvConf, link: str) -> None:
    """The state of before the first time is restored."""
    if link:
        file.path.symlink_to(link)
    else:
        file.path.write_bytes(PLAIN)
    _install(file)
    assert not file.install("127.0.0.153").needed
    assert _install(file, "127.0.0.99")[0] == "127.0.0.99"
    file.apply(file.remove())
    assert file.path.is_symlink() == bool(link)
    assert link or file.path.read_bytes() == PLAIN
    assert not file.remove().needed


def test_a_link_of_somebody_else_is_left_alone(file: ResolvConf) -> None:
    """That program would not notice, and would write to its file as before."""
    file.path.symlink_to("../run/NetworkManager/resolv.conf")
    with pytest.raises(Conflict, match=r"is a link to \.\./run/NetworkManager/resolv\.conf"):
        file.install("127.0.0.153")


def test_what_cannot_be_read_or_written_is_an_error_with_advice(tmp_path: Path) -> None:
    """A folder of that name, and a folder that is not there."""
    (tmp_path / "etc/resolv.conf").mkdir(parents=True)
    with pytest.raises(Unavailable, match="cannot be read"):
        ResolvConf(tmp_path).install("127.0.0.153")
    other = ResolvConf(tmp_path / "nowhere")
    with pytest.raises(Unavailable, match=r"cannot be written: .*; run it as root"):
        other.apply(other.install("127.0.0.153"))
