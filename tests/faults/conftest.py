"""What these runs came to is shown at the end of the log, although they pass."""

from collections.abc import Callable

import pytest

_LINES = pytest.StashKey[list[str]]()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Have a line shown at the end."""
    return request.config.stash.setdefault(_LINES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what was told."""
    if lines := config.stash.get(_LINES, []):
        terminalreporter.section("history of runs with faults")
        for line in lines:
            terminalreporter.write_line(line)
