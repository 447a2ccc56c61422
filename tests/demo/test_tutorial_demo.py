"""The tutorial of two hosts, typed literally, from a store that is not there yet to the second store."""

from tests.demo.tutorial import PAGE, follow, hosts_of_the_tutorial, typed
from tests.docs.console import matches


def test_the_tutorial_as_it_is_typed() -> None:
    """Each command of docs/two-hosts.md prints what the page shows below it, on Consul and then on etcd."""
    commands = typed(PAGE.read_text())
    assert {each.host for each in commands} == {"host1", "host2"}
    with hosts_of_the_tutorial() as hosts:
        for each, code, printed in follow(hosts, commands):
            shown = "\n".join(each.command.shown)
            where = f"line {each.command.first + 1}: {each.host}$ {each.command.text}"
            assert matches(each.command.shown, printed), f"{where}\n--- the page shows\n{shown}\n--- printed\n{printed}"
            assert code == 0 or each.command.may_fail, f"{where} ended with exit code {code}"
