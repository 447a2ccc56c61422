"""The benchmarks run. What they measure is no matter of a test: figures depend on the machine and its neighbours."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import (
    across_hosts,
    allocations,
    attach,
    cluster_allocations,
    conflict_watch,
    dns,
    docker_burst,
    docker_connect,
    docker_run,
    fill,
    growth,
    growth_simulated,
    host_access,
    page,
    report,
    startup,
    sticky,
    watch,
)
from bench.rounds import Row, Spread, take_turns
from lab.paths import ROOT
from lab.speed import patience


def test_every_row_comes_out() -> None:
    """A quick run of everything ends with one table that has every measurement's rows, in order."""
    command = [sys.executable, "-m", "bench", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=patience(600), check=False)
    assert done.returncode == 0, done.stderr
    # a cell may be broken over lines: what is left of it must stand in the table's first column
    cells = (line.split("│")[1].strip() for line in done.stdout.splitlines() if line.startswith("│"))
    shown = " ".join(filter(None, cells))  # a line on which only another cell goes on has nothing here
    parts = (
        *(docker_run, docker_connect, docker_burst, attach, allocations, fill, sticky, startup, dns, conflict_watch),
        *(host_access, page, cluster_allocations, across_hosts, watch, growth, growth_simulated),
    )
    assert shown == " ".join(title for part in parts for title in part.TITLES)


def test_a_profile_of_an_attach_has_all_parts() -> None:
    """Of both attach modes, in memory and on a disk, where commits are waited for."""
    command = [sys.executable, "-m", "bench", "attach", "--profile", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=patience(300), check=False)
    assert done.returncode == 0, done.stderr
    tables = done.stdout.split("the engine's wait")[1:]
    assert len(tables) == 4
    for table in tables:
        parts = {line.split("│")[1].strip(): line.split("│")[2:] for line in table.splitlines() if line.count("│") > 4}
        assert {"handlers", "store", "kernel", "netlink", "namespace visits", "hops", "turns"} <= parts.keys()
        assert float(parts["handlers"][0]) == 3
    assert ["commit" in each for each in tables] == [False, False, True, True]


def test_sides_take_turns() -> None:
    """Who begins changes with each round, and what the warm-up measured is not kept."""
    order: list[str] = []

    def side(name: str) -> dict[str, float]:
        order.append(name)
        return {"turn": float(len(order))}

    samples = take_turns({"a": lambda: side("a"), "b": lambda: side("b")}, 2, warm_up=1)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert samples == {"a": {"turn": [4.0, 5.0]}, "b": {"turn": [3.0, 6.0]}}


def test_spread_and_goal() -> None:
    """Ratios are taken round by round; a goal is held against their median, or against ours without a yardstick."""
    row = Row("x", "ms", [1.0, 2.0, 9.0], [2.0, 2.0, 2.0], "y", goal=1.0)
    assert row.ratio() == Spread(1.0, 0.6, 3.8)
    assert row.met() is True
    assert Row("x", "s", [0.4], goal=0.3).met() is False
    assert Row("x", "/s", [4.0], [2.0], "y", goal=1.0, sense="at least").met() is True
    assert Row("x", "s", [0.4]).met() is None
    assert Row("x", "s", [1.0, 2.0], [0.0, 1.0], "y", goal=1.0).ratio() == Spread(2.0, 2.0, 2.0)
    assert Row("x", "s", [1.0], [0.0], "y", goal=1.0).met() is None


def test_the_table_goes_between_its_markers(tmp_path: Path) -> None:
    """What is around the markers stays, and a second writing replaces the first."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for name in ("first", "second"):
        report.write([Row(name, "ms", [0.001], [0.002], "yardstick", goal=0.9)], page, 2.0)
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n| what |")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "| second | 1 ms | 2 ms | yardstick | 0.50 (0.50-0.50) | <= 0.9 | yes |" in text
    assert "load average before the run 2.0, so figures are noisy." in text
    assert "first" not in text
    assert "old" not in text


def test_some_rows_are_measured_again(tmp_path: Path) -> None:
    """They take the place of those of before; the others stay, and so does the order."""
    page = tmp_path / "page.md"
    page.write_text(f"{report.BEGIN}\n{report.END}\n")
    rows = [Row(name, "s", [1.0]) for name in ("first", "second", "third")]
    report.write(rows, page, 0.0)
    report.write([Row("second", "s", [2.0]), Row("fourth", "s", [4.0])], page, 0.0, whole=False)
    table = [line.split(" | ")[:2] for line in page.read_text().splitlines() if line.startswith("| ")][2:]
    assert table == [["| first", "1 s"], ["| second", "2 s"], ["| third", "1 s"], ["| fourth", "4 s"]]


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    """There is no guess at where the table belongs."""
    page = tmp_path / "page.md"
    page.write_text("no table here\n")
    with pytest.raises(ValueError, match=r"page\.md has no line"):
        report.write([], page, 0.0)
    assert page.read_text() == "no table here\n"
