"""Unix sockets to serve on."""

import os
import socket
from pathlib import Path

import pytest

from macvlan_global.errors import Unavailable
from macvlan_global.listening import handed_over, listen, plugin_socket, tell_systemd


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """In a folder that is not there yet."""
    return tmp_path / "plugins" / "it.sock"


def test_a_socket_is_for_root_only(path: Path) -> None:
    """From its first moment."""
    with listen(path, what="the plugin socket"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_socket_that_a_dead_process_left_is_replaced(path: Path) -> None:
    """SIGKILL leaves it."""
    listen(path, what="the plugin socket").close()
    with (
        listen(path, what="the plugin socket") as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller,
    ):
        caller.connect(str(path))
        accepted, _ = listener.accept()
        accepted.close()


def test_a_socket_that_somebody_serves_is_left_alone(path: Path) -> None:
    """The error names it."""
    with listen(path, what="the plugin socket") as first:
        with pytest.raises(Unavailable, match="served by another process"):
            listen(path, what="the plugin socket")
        assert first.getsockname() == str(path)
        assert path.is_socket()


def test_a_plugin_socket_goes_with_its_block(path: Path) -> None:
    """Also if that ends in an error."""
    with pytest.raises(LookupError), plugin_socket(path, {}):
        assert path.is_socket()
        raise LookupError
    assert not path.exists()


def test_what_is_no_socket_is_never_removed(path: Path) -> None:
    """A slip in the configuration must not cost a file."""
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(Unavailable, match="no socket"):
        listen(path, what="the plugin socket")
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["x" * 200, "a/" * 60 + "x"])
def test_a_path_too_long_for_a_socket_says_so(tmp_path: Path, name: str) -> None:
    """Unix allows about a hundred characters."""
    with pytest.raises(Unavailable, match="cannot be used"):
        listen(tmp_path / name, what="the plugin socket")


def test_systemd_is_told_if_it_asked(tmp_path: Path) -> None:
    """By a datagram; without NOTIFY_SOCKET nobody is told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        tell_systemd("READY=1", {})
        tell_systemd("STOPPING=1", {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert systemd.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("environment", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}])
def test_a_socket_for_another_process_is_not_taken(environment: dict[str, str]) -> None:
    """Nor is any without the variables of systemd, or with a count of none."""
    assert handed_over(environment) is None
    assert handed_over({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}) is None
