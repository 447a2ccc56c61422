"""An engine that an operator stops, and for which systemd listens: nobody connects.

systemctl is played by a script; in tests/cli/test_install.py it is the real one.
"""

from pathlib import Path

import pytest

from macvlan_global.engine.socket_activation import reason_not_to_wake


class Stage:
    """A host that runs systemd, with an engine that runs."""

    def __init__(self, root: Path) -> None:
        """Its service and its socket are active."""
        self.root = root
        self.systemctl = root / "systemctl"
        self.pid_file = root / "run/docker.pid"
        (root / "run/systemd/system").mkdir(parents=True)
        self.pid_file.touch()
        self.say("active", "active")

    def say(self, *states: str) -> None:
        """What systemctl answers; an empty line is between two units."""
        self.systemctl.write_text("#!/bin/sh\nprintf '%s' '" + "\n\n".join(states) + "'\n")
        self.systemctl.chmod(0o755)

    def reason(self) -> str:
        """The reason now."""
        return reason_not_to_wake(self.root, str(self.systemctl))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """An engine that runs."""
    return Stage(tmp_path)


@pytest.mark.parametrize("state", ["active", "activating", "reloading"])
def test_an_engine_that_runs_or_starts_is_asked(stage: Stage, state: str) -> None:
    """Also one whose pid file is elsewhere (`pidfile` in daemon.json)."""
    stage.say(state, "active")
    assert stage.reason() == ""
    stage.pid_file.unlink()
    assert stage.reason() == ""


def test_an_engine_that_is_asked_to_end_is_not_woken(stage: Stage) -> None:
    """Its pid file is there until its last container has ended."""
    stage.say("deactivating", "active")
    assert stage.reason() == "docker.service is stopping"
    stage.pid_file.unlink()
    stage.say("inactive", "active")
    assert stage.reason() == "docker.service is stopped"


@pytest.mark.parametrize("listening", ["inactive", "failed"])
def test_without_a_socket_of_systemd_nothing_is_woken(stage: Stage, listening: str) -> None:
    """dockerd listens itself, as Docker's snap or one that was started by hand does; or nobody does."""
    stage.pid_file.unlink()
    stage.say("inactive", listening)
    assert stage.reason() == ""


def test_an_engine_of_another_service_is_asked(stage: Stage) -> None:
    """It has the usual pid file, whatever its service is called."""
    stage.say("inactive", "active")
    assert stage.reason() == ""


@pytest.mark.parametrize("answer", ["", "active", "a b c", None])
def test_where_systemd_does_not_tell_the_pid_file_decides(stage: Stage, answer: str | None) -> None:
    """A managed plugin has no systemctl, and no way to systemd."""
    if answer is None:
        stage.systemctl.unlink()
    else:
        stage.say(answer)
    assert stage.reason() == ""
    stage.pid_file.unlink()
    assert stage.reason() == "there is no /run/docker.pid"


def test_without_systemd_nobody_listens_for_an_engine(stage: Stage) -> None:
    """A connection is refused at once then."""
    stage.pid_file.unlink()
    (stage.root / "run/systemd/system").rmdir()
    assert stage.reason() == ""
