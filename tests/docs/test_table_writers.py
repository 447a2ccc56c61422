"""Writers of tables: the docstrings of `Tables`, the section of ARCHITECTURE.md, and the code, are one."""

from tests.docs.table_writers import writers_by_architecture, writers_by_code, writers_by_docstring


def test_the_writers_of_a_table_are_those_that_its_docstring_names() -> None:
    """No module writes a table that is not its own to write, and none is named that does not."""
    assert writers_by_docstring() == writers_by_code()


def test_the_architecture_names_the_same() -> None:
    """Each table is in its list, with the same writers."""
    assert writers_by_architecture() == writers_by_code()
