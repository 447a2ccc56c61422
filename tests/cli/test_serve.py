"""How `serve` starts, and how it refuses to."""

import os
import re
import signal
import socket
import sqlite3
import sys
from pathlib import Path

import pytest

from lab import Host
from lab.driver import Driver
from lab.process import Completed, wait_until
from lab.speed import patience
from macvlan_global.cli.start import plain_flags
from macvlan_global.config import FLAGS
from tests.cli.plugin import Plugin

PROGRAM = (sys.executable, "-m", "macvlan_global")
ACTIVATE = str(Path(__file__).with_name("activate.py"))
ACTIVATE_REQUEST = b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def refused(host: Host, *flags: str) -> Completed:
    """A start with a state folder and sockets of its own that must fail, with one line on stderr."""
    own = ("--state-dir", "/run/refused", "--socket", "/run/refused.sock", "--admin-socket", "/run/refused-admin.sock")
    done = host.run([*PROGRAM, "serve", *own, *flags], check=False, timeout=20)
    assert done.returncode == 1
    assert done.stdout == ""
    return done


def whole_answer(connection: socket.socket) -> bytes:
    """All that comes until the driver closes the connection."""
    connection.settimeout(patience(20))
    answer = b""
    while more := connection.recv(65536):
        answer += more
    return answer


def test_an_unknown_key_in_the_configuration_is_named(host: Host) -> None:
    """The nearest known key is offered."""
    host.run(["sh", "-c", "echo 'state_dri = \"/x\"' > /run/typo.toml"])
    said = refused(host, "--config", "/run/typo.toml").stderr
    assert said == "macvlan-global: unknown key 'state_dri' in /run/typo.toml; did you mean 'state_dir'?\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--log-level", "loud"), "log_level = 'loud' (--log-level) is invalid"),
        (("--metrics", "here"), "metrics = 'here' is not HOST:PORT; use for example 127.0.0.1:9477"),
        (("--store", "oracle://x"), "--store 'oracle' is not a kind of store; use sqlite"),
        (("--docker-host", "ssh://x"), "--docker-host 'ssh://x' is neither unix:///path nor tcp://host:port"),
        (("--config", "/run/none.toml"), "the configuration file /run/none.toml cannot be read"),
    ],
)
def test_wrong_values_are_named_with_right_ones(host: Host, flags: tuple[str, ...], said: str) -> None:
    """One line says which value, where it came from, and what would do."""
    done = refused(host, *flags)
    assert done.stderr.splitlines()[-1].startswith(f"macvlan-global: {said}")


def test_a_damaged_state_file_stops_the_start_and_stays(host: Host) -> None:
    """The message says what to do, and the file is left byte for byte."""
    host.run(["sh", "-c", "mkdir -p /run/refused; head -c 9000 /dev/urandom > /run/refused/state.db"])
    state = host.run_folder / "refused/state.db"
    before = state.read_bytes()
    said = refused(host).stderr.splitlines()[-1]
    assert said.startswith("macvlan-global: the state file /run/refused/state.db is damaged")
    assert "Put back a copy, or move it away and start again" in said
    assert state.read_bytes() == before
    state.unlink()


def test_a_state_file_of_a_newer_version_stops_the_start_and_stays(host: Host) -> None:
    """It is not downgraded; the message names both versions."""
    folder = host.run_folder / "refused"
    folder.mkdir(exist_ok=True)
    with sqlite3.connect(folder / "state.db") as connection:
        connection.execute("PRAGMA application_id = 0x6D67736C")
        connection.execute("PRAGMA user_version = 99")
        connection.execute("CREATE TABLE of_the_future (x)")
    connection.close()
    said = refused(host).stderr.splitlines()[-1]
    assert "has version 99" in said
    assert "Start the newer macvlan-global that wrote it" in said
    (folder / "state.db").unlink()


def test_a_second_driver_on_the_same_state_is_refused(driver: Driver, host: Host) -> None:
    """The first one goes on."""
    done = refused(host, "--state-dir", "/var/lib/macvlan-global")
    assert "another macvlan-global uses the state folder /var/lib/macvlan-global; stop it first" in done.stderr
    assert driver.ask("status")["pid"] == driver.pid


def test_a_second_driver_on_the_same_socket_is_refused(driver: Driver, host: Host) -> None:
    """The engine can talk to one only, and the first one keeps the socket."""
    done = refused(host, "--socket", "/run/docker/plugins/macvlan-global.sock")
    assert "macvlan-global.sock is served by another process; stop it first" in done.stderr
    assert Plugin(host).call("Plugin.Activate") == {"Implements": ["NetworkDriver", "IpamDriver"]}
    assert driver.running


def test_systemd_hands_over_the_socket_and_is_told_when_the_driver_is_ready() -> None:
    """An inherited listening socket is served, READY=1 arrives and STOPPING=1, and the socket's file is left alone."""
    with Host("activated") as host:
        (host.run_folder / "docker/plugins").mkdir(parents=True)
        command = [sys.executable, ACTIVATE, "/run/docker/plugins/macvlan-global.sock", *PROGRAM, "serve"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(str(host.run_folder / "notify"))
            notified.settimeout(patience(20))
            process = host.popen(command, log=host.folder / "log", env={"NOTIFY_SOCKET": "/run/notify"})
            assert notified.recv(100) == b"READY=1"
            assert Plugin(host).call("Plugin.Activate") == {"Implements": ["NetworkDriver", "IpamDriver"]}
            process.send_signal(signal.SIGTERM)
            assert notified.recv(100) == b"STOPPING=1"
        assert process.wait(20) == 0
        assert (host.run_folder / "docker/plugins/macvlan-global.sock").is_socket()
        assert not (host.run_folder / "macvlan-global/admin.sock").exists()


def test_a_request_that_came_before_the_driver_is_answered(host: Host) -> None:
    """With socket activation an engine may ask first: its request waits in the socket until the driver serves."""
    folder = host.run_folder / "early"
    folder.mkdir()
    os.mkfifo(folder / "gate")
    flags = ("--state-dir", "/run/early/state", "--admin-socket", "/run/early/admin.sock")
    gated = ("sh", "-c", 'read line < /run/early/gate; exec "$@"', "gated", *PROGRAM, "serve", *flags)
    process = host.popen([sys.executable, ACTIVATE, "/run/early/plugin.sock", *gated], log=host.folder / "early.log")
    with socket.socket(socket.AF_UNIX) as early:
        wait_until(lambda: early.connect_ex(str(folder / "plugin.sock")) == 0, "socket that listens")
        early.sendall(ACTIVATE_REQUEST)
        (folder / "gate").write_text("go\n")
        answer = whole_answer(early)
    process.terminate()
    assert b'{"Implements":["NetworkDriver","IpamDriver"]}' in answer
    assert process.wait(20) == 0


def test_the_socket_is_there_before_the_driver(host: Host) -> None:
    """A request that comes while the driver starts, here while it asks the engine, waits and is answered."""
    folder = host.run_folder / "starting"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as engine, socket.socket(socket.AF_UNIX) as early:
        engine.bind(str(folder / "docker.sock"))
        engine.listen()
        engine.settimeout(patience(20))
        flags = ("--state-dir=/run/starting/state", "--socket=/run/starting/plugin.sock")
        sockets = ("--admin-socket=/run/starting/admin.sock", "--docker-host=unix:///run/starting/docker.sock")
        process = host.popen([*PROGRAM, "serve", *flags, *sockets], log=host.folder / "starting.log")
        asked, _ = engine.accept()
        with asked:
            assert (folder / "plugin.sock").stat().st_mode & 0o777 == 0o600
            early.connect(str(folder / "plugin.sock"))
            early.sendall(
                b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        early.settimeout(patience(20))
        answer = b""
        while more := early.recv(65536):
            answer += more
    process.terminate()
    assert b'{"Implements":["NetworkDriver","IpamDriver"]}' in answer
    assert process.wait(20) == 0


def test_a_driver_that_is_ended_while_it_loads_leaves_no_socket(host: Host) -> None:
    """From its first moment on the socket goes with the driver."""
    folder = host.run_folder / "loading"
    flags = (
        "--state-dir=/run/loading/state",
        "--socket=/run/loading/plugin.sock",
        "--admin-socket=/run/loading/a.sock",
    )
    process = host.popen([*PROGRAM, "serve", *flags], log=host.folder / "loading.log")
    wait_until((folder / "plugin.sock").exists, "socket of a driver that loads")
    process.terminate()
    assert process.wait(20) == 0
    assert not (folder / "plugin.sock").exists()


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["serve"], {}),
        (["serve", "--log-level", "debug", "--store=memory:"], {"log_level": "debug", "store": "memory:"}),
        (["serve", "--config", "/x", "--metrics="], {"config": "/x", "metrics": ""}),
        (["serve", "--help"], None),
        (["serve", "--log-level"], None),
        (["serve", "--log-levle", "debug"], None),
        (["serve", "more"], None),
        (["status"], None),
        ([], None),
    ],
)
def test_plain_flags_are_read_without_a_parser(arguments: list[str], values: dict[str, str] | None) -> None:
    """Whatever is not exactly flags with values is left to the parser and its texts."""
    assert plain_flags(arguments) == values


def test_the_parser_and_the_short_way_have_the_same_flags(host: Host) -> None:
    """Help lists each key of the configuration that is described, and what it lists is read without a parser."""
    shown = re.findall(r"^  (--[a-z-]+) <", host.run([*PROGRAM, "serve", "--help"]).stdout, re.MULTILINE)
    keys = ["config", *FLAGS]
    assert shown == [f"--{key.replace('_', '-')}" for key in keys]
    assert plain_flags(["serve", *(f"{flag}={flag}" for flag in shown)]) == dict(zip(keys, shown, strict=True))


def test_a_driver_loads_neither_parser_nor_tables(host: Host) -> None:
    """Neither typer nor rich nor pydantic is in a driver that a service started."""
    own = ("--state-dir=/run/loads", "--socket=/run/loads.sock", "--store=x:")
    done = host.run([sys.executable, "-X", "importtime", "-m", "macvlan_global", "serve", *own], check=False)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "aiohttp" in loaded
    assert loaded.isdisjoint({"typer", "rich", "pydantic"})
