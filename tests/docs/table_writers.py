"""The writers of each table of the store: as the code has them, as `Tables` says it, and as ARCHITECTURE.md does."""

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator

from tests.docs.imports import PACKAGE, SOURCE, modules

WRITES = {"create", "create_with", "put", "update", "change", "replace", "delete", "drop"}
ROW = re.compile(r"^\| `(?P<table>\w+)` \| [^|]* \| [^|]* \| (?P<writers>[^|]*) \|", re.MULTILINE)
WRITERS = re.compile(r"Writers: (?P<writers>[\w., ]+?)\.?$")
Writers = dict[str, set[str]]


def _tables_class() -> ast.FunctionDef:
    tree = ast.parse((SOURCE / PACKAGE / "store" / "table.py").read_text())
    tables = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Tables")
    return next(node for node in tables.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")


def _records() -> dict[str, str]:
    """Tables by the names of their records."""
    found = {}
    for node in _tables_class().body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            (target,), record = node.targets, node.value.args[2]
            assert isinstance(target, ast.Attribute) and isinstance(record, ast.Name)
            found[record.id] = target.attr
    return found


def writers_by_docstring() -> Writers:
    """What stands behind "Writers:" in the docstring of each table."""
    found, table = {}, ""
    for node in _tables_class().body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            table = node.targets[0].attr
        elif table and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            said = WRITERS.search(" ".join(str(node.value.value).split()))
            assert said, f"the docstring of {table} says no writers"
            found[table], table = {each.strip() for each in said["writers"].split(",")}, ""
    return found


def writers_by_architecture() -> Writers:
    """The section of ARCHITECTURE.md."""
    text = (SOURCE.parent / "ARCHITECTURE.md").read_text()
    section = text[text.index("## Tables and their writers") :].partition("\n## ")[0]
    return {row["table"]: {_module(each) for each in row["writers"].split(",")} for row in ROW.finditer(section)}


def _module(path: str) -> str:
    return path.strip().strip("`").removesuffix(".py").replace("/", ".")


@functools.cache
def writers_by_code() -> Writers:
    """Every module that calls a method which writes, by the table that it calls it of."""
    records = _records()
    found: Writers = defaultdict(set)
    trees = {name: ast.parse(path.read_text()) for name, path in modules().items()}
    names = {name: _names(tree, records) for name, tree in trees.items()}
    for name, tree in trees.items():
        # a class may write a table that a base class, of another module of its room, has as an attribute
        room = name.rpartition(".")[0]
        beside = [each for each in _imported(tree) if each in trees and each.rpartition(".")[0] == room]
        known = {key: table for each in beside for key, table in names[each].items() if key.startswith("self.")}
        if name != f"{PACKAGE}.store.table":
            for table in _written(tree, records, known | names[name]):
                found[table].add(name.removeprefix(PACKAGE + "."))
    return dict(found)


def _imported(tree: ast.Module) -> set[str]:
    return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}


def _written(tree: ast.Module, records: dict[str, str], known: dict[str, str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WRITES:
            table = _table(node.func.value, records, known)
            if table:
                yield table


def _names(tree: ast.Module, records: dict[str, str]) -> dict[str, str]:
    """Names and attributes of a module that stand for one table: parameters of its type, and what they are put into."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation and (table := _table_of_type(node.annotation, records)):
            known[node.arg] = table
    for _ in range(2):  # an attribute may be given on to a name
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and (table := _table(node.value, records, known)):
                known |= {ast.unparse(target): table for target in node.targets}
    return known


def _table_of_type(annotation: ast.expr, records: dict[str, str]) -> str:
    found = re.fullmatch(r"Table\[(\w+)\]", ast.unparse(annotation).strip("'\""))
    return records.get(found[1], "") if found else ""


def _table(value: ast.expr, records: dict[str, str], known: dict[str, str]) -> str:
    """The table that an expression is; "" if it is none."""
    text = ast.unparse(value)
    if text in known:
        return known[text]
    owner, _, attribute = text.rpartition(".")
    return attribute if attribute in records.values() and owner.endswith("tables") else ""
