"""What a machine says of its packages is understood, whichever release it has; and other releases' packages come."""

from pathlib import Path

import pytest

from lab import LabError
from lab.apt import download, mirror, mirror_of_debootstrap
from lab.bare import pip_environment
from lab.packages import is_static, is_there
from lab.registries import wanted
from lab.sources import debian_mirror, parse_lines, parse_stanzas

AT = "http://mirror.example/debian"
DEBIAN_12 = f"""\
# what an installer writes
#deb cdrom:[Debian GNU/Linux 12]/ bookworm main

deb {AT}/ bookworm main non-free-firmware
deb-src {AT} bookworm main
deb http://mirror.example/debian-security bookworm-security main
"""
DEBIAN_13 = f"""\
Types: deb deb-src
URIs: {AT}/
Suites: trixie trixie-updates
Components: main non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

Types: deb
URIs: http://mirror.example/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp
"""
FOLDED = f"""\
# the first one that answers
Types: deb
URIs:
 {AT}
 http://second.example/debian
Suites: sid
Components: main
"""
OFF = """\
Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: sid
Components: main
"""
UBUNTU_24 = """\
## See the sources.list(5) manual page for further settings.
Types: deb
URIs: http://mirror.example/ubuntu/
Suites: noble noble-updates noble-backports
Components: main universe restricted multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
"""
OTHERS = """\
deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc] https://packages.example/linux/debian bookworm stable
deb [signed-by=/usr/share/keyrings/vpn.gpg] https://vpn.example/stable/debian bookworm main
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sources.list", DEBIAN_12),
        ("sources.list", f"deb [ arch=amd64 signed-by=/usr/share/keyrings/debian-archive-x.gpg ] {AT} bookworm main\n"),
        ("sources.list.d/debian.sources", DEBIAN_13),
        ("sources.list.d/debian.sources", FOLDED),
    ],
)
def test_the_mirror_is_the_machines_own(name: str, text: str, tmp_path: Path) -> None:
    """Both forms of apt's sources are read, beside sources of others; no mirror is named in this repository."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/a-docker.list").write_text(OTHERS)
    (tmp_path / "sources.list.d/off.sources").write_text(OFF)
    (tmp_path / "sources.list.d/a-old.list").write_text("deb http://other.example/apt bookworm main\n")
    (tmp_path / name).write_text(text)
    assert mirror(tmp_path) == AT
    assert mirror(tmp_path, "http://named.example/debian/") == "http://named.example/debian"


def test_a_machine_that_is_no_debian_has_no_such_mirror() -> None:
    """Ubuntu's archive is not Debian's, nor is a source of somebody else for Debian."""
    assert debian_mirror(parse_stanzas(UBUNTU_24)) is None
    assert debian_mirror(parse_lines(OTHERS)) is None


def test_a_machine_that_is_no_debian_asks_debootstrap(tmp_path: Path) -> None:
    """Ubuntu's own sources name no Debian mirror; its debootstrap does."""
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/debootstrap").write_text(f'DEF_MIRROR="{AT}"\n')
    assert mirror_of_debootstrap(tmp_path) == AT


def test_a_list_of_mirrors_is_followed(tmp_path: Path) -> None:
    """Cloud images name a file of their own, in which mirrors are."""
    (tmp_path / "mirrors").write_text(f"# the nearest first\n{AT}/\tpriority:1\nhttp://second.example/debian\n")
    sources = parse_lines(f"deb mirror+file:{tmp_path}/mirrors bookworm main\n")
    assert debian_mirror(sources) == AT


def test_what_the_machine_has_installed_decides_nothing(tmp_path: Path) -> None:
    """A package of another release comes though this machine has a version of its own: libc6 is on every one."""
    assert [each.name.split("_")[0] for each in download("bullseye", ["libc6"], tmp_path / "old")] == ["libc6"]
    assert [each.name.split("_")[0] for each in download("sid", ["libc6"], tmp_path / "new")] == ["libc6"]
    assert "2.31" in next((tmp_path / "old").glob("*.deb")).name


def test_a_suite_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The error says what was asked, and how another mirror is named."""
    with pytest.raises(LabError, match=r"suite nonesuch .* MACVLAN_GLOBAL_DEBIAN_MIRROR"):
        download("nonesuch", ["libc6"], tmp_path / "none")


def test_a_command_is_found_where_either_release_has_it(tmp_path: Path) -> None:
    """Releases moved commands between the folders of users and of administrators."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/ip").touch()
    assert is_there("/usr/sbin/ip", tmp_path)
    assert not is_there("/usr/sbin/ip6", tmp_path)


def test_a_program_that_wants_libraries_is_told_from_one_that_does_not() -> None:
    """An image holds one program, and no library."""
    assert is_static(Path("/usr/bin/busybox"))
    assert not is_static(Path("/usr/bin/env"))
    assert not is_static(Path("/nowhere/busybox"))


def test_requests_to_the_proxy() -> None:
    """A tunnel is for host and port; a plain request is sent on as the last of its connection."""
    assert wanted(b"CONNECT index.example:443 HTTP/1.1\r\n\r\n") == (("index.example", 443), b"")
    head = b"GET http://mirror.example:8080/a?b HTTP/1.1\r\nHost: x\r\nProxy-Connection: y\r\nConnection: z\r\n\r\n"
    sent = b"GET /a?b HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n"
    assert wanted(head) == (("mirror.example", 8080), sent)
    with pytest.raises(ValueError, match="https://x/"):
        wanted(b"GET https://x/ HTTP/1.1\r\n\r\n")


def test_pips_settings_are_passed_on(tmp_path: Path) -> None:
    """Files that they name are named where a system sees them; a variable wins over a file; the rest stays as it is."""
    index, bundle = tmp_path / "packages/simple", tmp_path / "ca.crt"
    index.mkdir(parents=True)
    bundle.touch()
    env, outside = pip_environment(
        f":env:.cert='{bundle}'\nglobal.cert='/elsewhere.crt'\nglobal.extra-index-url='file://{index} https://u:p@x/'\n"
    )
    assert env == {
        "PIP_CERT": f"/run/outside{bundle}",
        "PIP_EXTRA_INDEX_URL": f"file:///run/outside{index} https://u:p@x/",
    }
    assert outside == sorted([str(bundle), str(index.parent)])
