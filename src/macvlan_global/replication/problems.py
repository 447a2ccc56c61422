"""Problems with networks of the cluster on this host, for the operator, and for the admission check of containers.

Apart from the replicator, which reports them: the driver asks for them, and exists before it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NetworkProblem:
    """A problem with one network of this host, for the operator. `id` is the engine's, "" if it has none.

    With `blocks`, no further containers can be started on it: only as many as the `room` may be on it, so that those it
    had may be started again.
    """

    name: str
    id: str
    reason: str
    next_step: str
    blocks: bool = False
    room: int = 0

    @property
    def text(self) -> str:
        """Reason and next step, in one line."""
        return f"{self.reason}; {self.next_step}"


class NetworkProblems:
    """The present problems, one for each network's name at most."""

    def __init__(self) -> None:
        """There is none."""
        self._by_name: dict[str, NetworkProblem] = {}
        self._notes: dict[str, NetworkProblem] = {}
        self.on_change: Callable[[], None] = lambda: None
        """Called when `all` may have changed."""

    def __contains__(self, name: str) -> bool:
        """Whether the network of this name has a problem."""
        return name in self._by_name

    def all(self) -> list[NetworkProblem]:
        """All problems and notes, in the order of the networks' names."""
        return [each[name] for name in sorted({*self._by_name, *self._notes}) for each in self._both if name in each]

    def note(self, problem: NetworkProblem) -> None:
        """Keep a decision about a network in view, until the network goes or the driver ends."""
        self._notes[problem.name] = problem
        self.on_change()

    def forget(self, name: str) -> None:
        """The network of this name is gone, and with it the note about it."""
        if self._notes.pop(name, None):
            self.on_change()

    @property
    def _both(self) -> tuple[dict[str, NetworkProblem], ...]:
        return self._by_name, self._notes

    def add(self, problem: NetworkProblem) -> None:
        """Report a problem, in place of an earlier one with this network; it is logged if it is new."""
        before, self._by_name[problem.name] = self._by_name.get(problem.name), problem
        if before != problem:
            log.warning("%s", problem.text)
            self.on_change()

    def clear(self, name: str, reason: str) -> None:
        """The network has no problem, or none any more, which is logged with the reason."""
        if self._by_name.pop(name, None):
            log.info("network %s: the problem is gone, %s", name, reason)
            self.on_change()

    def admission(self, network_id: str) -> tuple[str, int]:
        """Admission check of a network (the engine's id): the reason why no further container may start on it, "" if
        any may, and the number of containers that may be on it all the same."""
        for problem in self._by_name.values():
            if problem.blocks and problem.id == network_id:
                return problem.text, problem.room
        return "", 0
