"""The tutorial of two hosts, typed literally, from a store that is not there yet to the second store."""

from tests.demo.tutorial import PAGE, check, hosts_of_the_tutorial


def test_the_tutorial_as_it_is_typed() -> None:
    """Each command of docs/two-hosts.md prints what the page shows below it, on Consul and then on etcd."""
    with hosts_of_the_tutorial() as hosts:
        check(hosts, PAGE)
