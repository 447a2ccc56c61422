"""The dashboard's file, as Grafana reads it: a classic dashboard of schema 38, Grafana 10 and later.

Grafana itself is in no archive that tests may ask. It refuses little when it imports a file, and shows a wrong one
wrongly; so this says of each part that it is one that Grafana knows. tests/cli/test_monitoring.py runs the queries.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

DASHBOARD = Path(__file__).parents[2] / "monitoring" / "macvlan-global.dashboard.json"
COLUMNS = 24
"""Width of Grafana's grid."""
UNITS = {"short", "percentunit", "reqps", "ops", "s", "bytes"}
"""Ids of units that the dashboard uses, each of Grafana's list (grafana-data/src/valueFormats/categories.ts)."""
KINDS = {"row", "stat", "bargauge", "table", "timeseries"}
TRANSFORMATIONS = {
    "organize",
    "merge",
    "labelsToFields",
    "sortBy",
    "filterFieldsByName",
    "joinByField",
    "renameByRegex",
}
REDUCERS = {"lastNotNull", "last", "max", "mean", "min", "sum"}
BUILT_IN = {"__rate_interval", "__interval", "__range", "__all"}
Board = dict[str, Any]


@pytest.fixture
def board() -> Board:
    """The file, read anew for each test."""
    loaded: Board = json.loads(DASHBOARD.read_text())
    return loaded


def wrong(board: Board) -> list[str]:
    """Everything about a dashboard that Grafana would not take, or would show otherwise than it is meant."""
    return [*_wrong_head(board), *_wrong_grid(board["panels"]), *_wrong_panels(board), *_wrong_variables(board)]


def _wrong_head(board: Board) -> Iterator[str]:
    if board.get("schemaVersion") != 38:
        yield "schemaVersion is not 38"
    if board.get("id") is not None:
        yield "id is that of one Grafana: it must be absent"
    if "__inputs" in board:
        yield "__inputs ask for a data source at the import, though a variable chooses it"
    if not re.fullmatch(r"[\w-]{1,40}", board.get("uid", "")):
        yield "uid is not up to 40 letters"


def _wrong_grid(panels: list[Board]) -> Iterator[str]:
    ids = [each.get("id") for each in panels]
    if len(set(ids)) < len(ids) or not all(isinstance(each, int) and each > 0 for each in ids):
        yield "ids of panels are not unique numbers from 1"
    for each in panels:
        at = each["gridPos"]
        if min(at["x"], at["y"]) < 0 or min(at["w"], at["h"]) < 1 or at["x"] + at["w"] > COLUMNS:
            yield f"{each['title']} is beside the grid"
    for one, two in combinations(panels, 2):
        if _overlap(one["gridPos"], two["gridPos"]):
            yield f"{one['title']} and {two['title']} overlap"
    order = [(each["gridPos"]["y"], each["gridPos"]["x"]) for each in panels]
    if order != sorted(order):
        yield "panels do not stand in the order in which they are seen, so a row would fold others than its own"


def _overlap(one: Mapping[str, int], two: Mapping[str, int]) -> bool:
    beside = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
    below = one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]
    return not (beside or below)


def _wrong_panels(board: Board) -> Iterator[str]:
    for each in board["panels"]:
        title = each.get("title")
        if each["type"] not in KINDS or not title:
            yield f"{title} is of no kind that is known"
        if each["type"] == "row":
            if each.get("collapsed") is not False or each.get("panels") != []:
                yield f"{title}: an open row has no panels within it"
            continue
        if each["fieldConfig"]["defaults"].get("unit") not in UNITS:
            yield f"{title} has no unit of Grafana's"
        if {one["id"] for one in each.get("transformations", ())} - TRANSFORMATIONS:
            yield f"{title} has a transformation that Grafana has not"
        if set(each.get("options", {}).get("reduceOptions", {}).get("calcs", ())) - REDUCERS:
            yield f"{title} has a calculation that Grafana has not"
        names = [one.get("refId") for one in each["targets"]]
        if not names or len(set(names)) < len(names) or not all(re.fullmatch("[A-Z]", one or "") for one in names):
            yield f"{title}: refIds are not letters, each once"
        if each["type"] == "table" and any(one.get("format") != "table" for one in each["targets"]):
            yield f"{title}: a table asks for tables"


def _wrong_variables(board: Board) -> Iterator[str]:
    variables = board["templating"]["list"]
    known: set[str] = set()
    for each in variables:  # one is asked for with those that stand before it
        if _named(each) - known - BUILT_IN:
            yield f"variable {each['name']} uses one that is not before it"
        known.add(each["name"])
    kinds = {each["name"]: (each["type"], each["query"]) for each in variables}
    annotations = board["annotations"]["list"]
    for each in [*board["panels"], *annotations]:
        if each.get("type") == "row":
            continue
        name = each.get("title") or each["name"]
        for one in [each, *each.get("targets", ())]:
            source = one.get("datasource", {})
            variable = source.get("uid", "").removeprefix("${").removesuffix("}")
            if kinds.get(variable) != ("datasource", source.get("type")) or source["type"] != "prometheus":
                yield f"{name} has a data source that no variable chooses"
        if _named(each) - known - BUILT_IN:
            yield f"{name} uses a variable that is not defined"


def _named(part: Board) -> set[str]:
    """Names of the variables in any text of a part."""
    return set(re.findall(r"\$\{?(\w+)", json.dumps(part)))


def test_grafana_knows_every_part(board: Board) -> None:
    """Head, grid, panels, units, data sources and variables are such as Grafana reads."""
    assert wrong(board) == []


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (["schemaVersion"], 3, "schemaVersion is not 38"),
        (["panels", 2, "id"], 2, "ids of panels are not unique numbers from 1"),
        (["panels", 2, "gridPos", "x"], 1, "Drivers and Containers overlap"),
        (["panels", 8, "gridPos", "w"], 9, "Repair problems is beside the grid"),
        (["panels", 1, "fieldConfig", "defaults", "unit"], "seconds", "Drivers has no unit of Grafana's"),
        (
            ["panels", 1, "targets", 0, "datasource", "uid"],
            "${ds}",
            "Drivers has a data source that no variable chooses",
        ),
        (["panels", 1, "targets", 0, "expr"], "up{job=~'$job'}", "Drivers uses a variable that is not defined"),
        (["panels", 1, "type"], "graphs", "Drivers is of no kind that is known"),
        (["panels", 0, "collapsed"], True, "Now: an open row has no panels within it"),
        (["templating", "list", 1, "name"], "hosts", "Drivers uses a variable that is not defined"),
    ],
)
def test_what_grafana_does_not_know_is_found(board: Board, path: list[Any], value: object, complaint: str) -> None:
    """Each rule has its breach."""
    part: Any = board
    for each in path[:-1]:
        part = part[each]
    part[path[-1]] = value
    assert complaint in wrong(board)
