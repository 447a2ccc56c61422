"""What an engine's own limit ended begins again; what it refused does not."""

from collections.abc import Iterator

import pytest

from lab import DockerError
from lab.again import TRIES, again, name_of, notes, ran_out

LATE = "Error response from daemon: attaching to network failed, make sure your network options are correct and check \
manager logs: context deadline exceeded"
REFUSED = "Error response from daemon: address 10.65.0.11 is in use"
RUN = ("run", "-d", "--network=lan", "--name=c1", "alpine")


@pytest.fixture(autouse=True)
def _nothing_told() -> Iterator[None]:
    """What is tried here was no swarm's fault."""
    before = list(notes)
    yield
    notes[:] = before


class Engine:
    """One that says these things, one after the other, and then works."""

    def __init__(self, *said: str) -> None:
        """Nothing was asked yet."""
        self._said = list(said)
        self.cleared = 0

    def call(self) -> str:
        """As docker."""
        if self._said:
            raise DockerError(["docker", *RUN], 1, "", self._said.pop(0))
        return "id"

    def clear(self) -> None:
        """As `docker rm -f`."""
        self.cleared += 1


def test_an_engine_without_time_is_asked_again() -> None:
    """The container that was made goes before; each time is told."""
    engine, before = Engine(LATE, LATE), len(notes)
    assert again(engine.call, RUN, engine.clear, where="node1") == "id"
    assert engine.cleared == 2
    assert len(notes) == before + 2
    assert "node1: `docker run -d" in notes[-1]
    assert f"try 3 of {TRIES}" in notes[-1]


def test_a_refusal_is_a_refusal() -> None:
    """At once, also after a try that had no time."""
    for engine, cleared in ((Engine(REFUSED), 0), (Engine(LATE, REFUSED), 1)):
        with pytest.raises(DockerError, match="in use"):
            again(engine.call, RUN, engine.clear, where="node1")
        assert engine.cleared == cleared


def test_an_engine_that_never_has_time_is_not_asked_for_ever() -> None:
    """The last word is the engine's."""
    engine = Engine(*[LATE] * TRIES)
    with pytest.raises(DockerError, match="deadline"):
        again(engine.call, RUN, engine.clear, where="node1")
    assert engine.cleared == TRIES - 1


def test_a_plugin_has_more_tries_for_its_socket() -> None:
    """The engine's limit is short, and no option makes it longer."""
    late = "dial unix /run/docker/plugins/1/macvlan-global.sock: connect: no such file or directory"
    engine = Engine(*[late] * (TRIES + 1))
    assert again(engine.call, ["plugin", "enable", "macvlan-global"], engine.clear, where="node1") == "id"


def test_limits_are_told_from_mistakes() -> None:
    """A plugin whose socket is not there yet had no time; where something else has no socket, that is a mistake."""
    absent = "dial unix /run/docker/plugins/0a/macvlan-global.sock: connect: no such file or directory"
    assert ran_out(("plugin", "enable", "x"), absent)
    assert not ran_out(("run", "alpine"), absent)
    assert ran_out(("swarm", "join"), "Timeout was reached before node joined. The attempt will continue")
    assert not ran_out(RUN, REFUSED)


def test_the_name_of_a_container() -> None:
    """Only what makes a container names one."""
    assert name_of(RUN) == "c1"
    assert name_of(("run", "alpine")) == ""
    assert name_of(("service", "create", "--name=web")) == ""
