"""What the simulation came to is said at the end of a run, passed or failed."""

import pytest

SUMMARIES = pytest.StashKey[list[str]]()


@pytest.fixture
def summaries(request: pytest.FixtureRequest) -> list[str]:
    """Lines for the end of the run."""
    return request.config.stash.setdefault(SUMMARIES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write them, however quiet the run is."""
    if lines := terminalreporter.config.stash.get(SUMMARIES, []):
        terminalreporter.section("simulation")
        for line in lines:
            terminalreporter.write_line(line)
