"""Two shapes that were bugs cannot be written: a loop with a rule of its own, and a change that ignores a lost race."""

import ast
from collections import Counter

from tests.docs.imports import modules, tree

COMPARE_AND_SWAP = {
    "cluster.fence": 1,  # it is a store itself
    "ipam.addresses": 2,  # to reserve and to claim: who loses has not got the address
    "ipam.pools": 4,
    "ipam.remembered_names": 1,
    "store.notify": 1,  # it is a store itself
    "store.table": 4,
}
"""Modules that may call `replace` of a table or a store, and how often."""


def test_a_record_is_changed_with_update_and_nothing_else() -> None:
    """`replace` may lose a race: only those use it to whom that is an answer, and all others `Table.update`."""
    found = Counter[str]()
    for name, path in modules().items():
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Await) or not isinstance(node.value, ast.Call):
                continue  # `str.replace` and `Path.replace` are not awaited
            called = node.value.func
            if isinstance(called, ast.Attribute) and called.attr == "replace":
                found[name.removeprefix("macvlan_global.")] += 1
    assert dict(found) == COMPARE_AND_SWAP


BROAD = {"Exception", "BaseException", "MacvlanGlobalError"}


def _catches_all(loop: ast.While) -> bool:
    caught = [handler.type for node in ast.walk(loop) if isinstance(node, ast.Try) for handler in node.handlers]
    return any(kind is None or bool(BROAD & set(ast.unparse(kind).strip("()").split(", "))) for kind in caught)


def test_no_loop_without_an_end_has_a_rule_of_its_own() -> None:
    """A loop that goes on after any failure is a `forever`, which logs it and slows down."""
    found = {
        f"{name}:{node.lineno}"
        for name, path in modules().items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.While) and ast.unparse(node.test) == "True" and _catches_all(node)
    }
    assert {each.partition(":")[0] for each in found} == {"macvlan_global.tasks"}
