"""Commands of a user without rights, where the driver runs and its folders are for root only, as a service has them."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lab import Host
from lab.driver import ADMIN_SOCKET, Driver
from lab.process import Completed

AS_NOBODY = (sys.executable, str(Path(__file__).with_name("as_nobody.py")))
CLOSED = ("/run/macvlan-global", "/etc/docker", "/etc/macvlan-global", "/var/lib/macvlan-global")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host whose driver runs; its folders, and those of the engine's and our configuration, have mode 0700."""
    with Host("closed") as made:
        running = Driver(made)
        running.start()
        made.run(["mkdir", "-p", *CLOSED])
        made.run(["chmod", "0700", *CLOSED])
        yield made
        running.stop()


def by_nobody(host: Host, *words: str, env: Mapping[str, str] | None = None) -> Completed:
    """A command line that a user without rights runs, to its end; a trace of Python is none."""
    done = host.run([*AS_NOBODY, *words], check=False, env=env)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture
def readable(host: Host) -> Iterator[None]:
    """The folder of the configuration is open to everybody, as the package has it."""
    host.run(["chmod", "0755", "/etc/macvlan-global"])
    yield
    host.run(["chmod", "0700", "/etc/macvlan-global"])


@pytest.mark.usefixtures("readable")
@pytest.mark.parametrize("words", [["status"], ["networks", "--json"], ["hosts", "remove", "anna"]])
def test_who_may_not_ask_the_driver_is_told_to_use_sudo(host: Host, words: list[str]) -> None:
    """In one line, though neither socket in the closed folder can be looked at."""
    done = by_nobody(host, *words)
    said = f"macvlan-global: the driver's socket /run/{ADMIN_SOCKET} is for root only; use sudo\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


@pytest.mark.usefixtures("readable")
def test_a_key_press_prints_nothing(host: Host) -> None:
    """Names of networks are for those who may ask the driver."""
    pressed = {"_MACVLAN_GLOBAL_COMPLETE": "complete_bash", "COMP_WORDS": "macvlan-global parents l", "COMP_CWORD": "2"}
    done = by_nobody(host, env=pressed)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_a_configuration_that_may_not_be_read_is_told(host: Host) -> None:
    """It is not taken for none: it may name another socket."""
    done = by_nobody(host, "status")
    file = "/etc/macvlan-global/config.toml"
    said = f"macvlan-global: the configuration file {file} cannot be read: Permission denied\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.usefixtures("readable")
def test_doctor_says_what_it_cannot_see(host: Host) -> None:
    """That of the driver is a warning with its remedy, and none of the closed folders stops the rest."""
    done = by_nobody(host, "doctor", "--json")
    found = {each["check"]: each for each in json.loads(done.stdout)["findings"]}
    driver = found["driver"]
    assert (driver["level"], driver["do"]) == ("warning", "use sudo")
    assert "is for root only, so whether it runs cannot be told" in driver["seen"]
    assert found["state"]["seen"] == "/var/lib/macvlan-global/state.db cannot be read: Permission denied"
    assert found["rights"]["do"] == "run it as root"


def test_doctor_with_a_file_that_may_not_be_read(host: Host) -> None:
    """It is a finding, as any mistake in it is."""
    done = by_nobody(host, "doctor", "--config", "/etc/docker/mine.toml")
    assert "the configuration file /etc/docker/mine.toml cannot be read: Permission denied" in done.stdout


@pytest.mark.usefixtures("readable")
def test_a_state_that_may_not_be_read_is_not_purged(host: Host) -> None:
    """Whether networks are in it is not known."""
    done = by_nobody(host, "uninstall", "--purge", "--dry-run")
    said = "/var/lib/macvlan-global/state.db cannot be read: Permission denied; run it as root (sudo)"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"macvlan-global: {said}\n")
