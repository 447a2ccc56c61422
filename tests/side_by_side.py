"""Tests in several processes that share one collection: `pytest -p tests.side_by_side --processes 2 tests/unit`.

Half of the processor time of a short run goes into importing and collecting, and pytest-xdist does that again in each
of its processes. Here the tests are collected once; then the process forks, and each child takes a few tests at a time
from a pipe, until that is empty. What they report is sent to the parent, which counts and prints it as if it had run
the tests itself. Collecting must start no thread: none would be in the children.
"""

import gc
import os
import signal
import struct
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

import pytest

AT_A_TIME = 16
"""Tests that a process takes in one go: those of one file mostly stay together, and the last end nearly at once."""
_NUMBER = struct.Struct("=I")
_Work = tuple[list[list[pytest.Item]], int]
"""All lots, and the pipe with the numbers of those that nobody has taken."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The number of processes; below 2, pytest runs as ever."""
    parser.addoption("--processes", type=int, default=0, help="run tests in so many processes, collected once")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run all tests in children; None if this is for pytest itself.

    Raises:
        pytest.Session.Failed, pytest.Session.Interrupted: the run ends early
    """
    count = session.config.getoption("processes")
    if count < 2 or session.testsfailed or session.config.option.collectonly or len(session.items) <= AT_A_TIME:
        return None
    lots = _lots(session.items)
    numbers = _numbers(len(lots))
    children = [_fork(session, (lots, numbers), number) for number in range(count)]
    try:
        _report(session, {each.reports: each for each in children})
    finally:
        os.close(numbers)
        for each in children:
            each.end()
    return True


def _lots(items: list[pytest.Item]) -> list[list[pytest.Item]]:
    """What a process takes in one go: some tests in the order in which they were collected, or all that are marked."""
    together = [each for each in items if each.get_closest_marker("together")]
    others = [each for each in items if not each.get_closest_marker("together")]
    return [together, *(others[first : first + AT_A_TIME] for first in range(0, len(others), AT_A_TIME))]


def _numbers(count: int) -> int:
    """A pipe that holds the number of each lot: whoever reads one has that lot to himself."""
    reading, writing = os.pipe()
    os.write(writing, b"".join(map(_NUMBER.pack, range(count))))  # 64 KiB fit: more than 200,000 tests
    os.close(writing)
    return reading


@dataclass
class _Child:
    """A process that runs tests. `last` is the test that it reported last."""

    pid: int
    reports: Connection
    last: str = "none"

    def end(self) -> int:
        """Wait for its end, which is made if it is still there because the run ends early; its status."""
        if self.pid == 0:
            return 0
        if not self.reports.closed:
            os.kill(self.pid, signal.SIGTERM)
            self.reports.close()
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fork(session: pytest.Session, work: _Work, number: int) -> _Child:
    """Begin a child, which never comes back from here."""
    parent, child = Pipe(duplex=False)
    base = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    _plugin(session.config, "terminalreporter").flush()  # what is in a buffer would be printed twice
    gc.collect()
    gc.freeze()  # what was collected is there until the end: it need not be searched for garbage again and again
    gc.set_threshold(50_000, 20, 100)  # tests are short, and so is the life of what they leave
    pid = os.fork()
    if pid:
        child.close()
        return _Child(pid, parent)
    code = 1
    try:
        parent.close()
        _run(session, work, child, base / f"process-{number}")
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is: the parent has its code, and nothing of his may run here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _plugin(config: pytest.Config, name: str) -> Any:
    """A plugin of pytest's own, which is always there."""
    return config.pluginmanager.get_plugin(name)


def _run(session: pytest.Session, work: _Work, reports: Connection, folder: Path) -> None:
    """In a child: run lots of tests, and send what is to be counted. None at the end says that all is well."""
    config = session.config
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.register(_Sender(config, reports))
    capture = _plugin(config, "capturemanager")
    capture.stop_global_capturing()  # its file is the parent's, and that of the other children
    capture.start_global_capturing()
    capture.suspend_global_capture()
    folder.mkdir()
    config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
    for item, following in pairwise(_tests(*work)):
        assert item is not None
        config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    reports.send(None)


def _tests(lots: list[list[pytest.Item]], numbers: int) -> Iterator[pytest.Item | None]:
    """Take lots until there are none; then None, as pytest tells the last test that nobody needs its fixtures."""
    while number := os.read(numbers, _NUMBER.size):
        yield from lots[_NUMBER.unpack(number)[0]]
    yield None


class _Sender:
    """In a child, in the place of the terminal: sends reports. Of what went well one for each test is enough."""

    def __init__(self, config: pytest.Config, reports: Connection) -> None:
        self._config = config
        self._reports = reports
        self._all = bool(config.option.durations)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send it."""
        if self._all or report.when == "call" or not report.passed:
            self._reports.send(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))


def _report(session: pytest.Session, children: dict[Connection, _Child]) -> None:
    """Tell pytest of all reports of children, until each said that it is through."""
    config = session.config
    while children:
        for reports in wait(list(children)):
            assert isinstance(reports, Connection)
            try:
                sent = reports.recv()
            except EOFError:
                child = children.pop(reports)
                reports.close()
                text = f"a process ended with {child.end()}; the last test that it reported was {child.last}"
                raise session.Interrupted(text) from None
            if sent is None:
                children.pop(reports).reports.close()
                continue
            report = config.hook.pytest_report_from_serializable(config=config, data=sent)
            children[reports].last = report.nodeid
            config.hook.pytest_runtest_logreport(report=report)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
