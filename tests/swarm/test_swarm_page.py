"""The page about swarms, typed literally on two nodes of a swarm that is there."""

import pytest

from tests.demo.tutorial import check
from tests.swarm.page import PAGE, PROGRAMS, nodes_of_the_page


@pytest.mark.usefixtures("_built")
def test_the_page_as_it_is_typed() -> None:
    """Each command of docs/swarm.md prints what the page shows below it."""
    with nodes_of_the_page() as nodes:
        check(nodes, PAGE, PROGRAMS)
