"""Names on a host with a real engine: our resolver first in /etc/resolv.conf, and containers that ask Docker's.

The resolver runs over names in memory here (tests/e2e/resolver.py); who puts names there is another test's matter.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lab import ENGINES, Host
from lab.paths import ROOT
from lab.process import tail, wait_until
from tests.e2e.resolved import LINK, start_resolved
from tests.e2e.resolver import FOREIGN_ADDRESS, OTHER, OURS

pytestmark = pytest.mark.by_turns

PLAIN = f"# by hand\nnameserver {OTHER}"


@pytest.fixture(scope="module", params=ENGINES)
def _running(request: pytest.FixtureRequest) -> Iterator[Host]:
    with Host("names") as host:
        log = host.folder / "resolver.log"
        command = [sys.executable, "-m", "tests.e2e.resolver", OURS]
        host.popen(command, log=log, env={"PYTHONPATH": str(ROOT)})
        wait_until(
            lambda: _dns(host, "status")["resolver"] == "answers", "resolver", explain=lambda: tail(log), every=0.2
        )
        host.start_engine(request.param)
        host.docker("network", "create", "--subnet=10.9.0.0/24", "bridged")
        yield host


@pytest.fixture
def host(_running: Host) -> Iterator[Host]:
    """A host with resolver, engine and a bridge network; /etc/resolv.conf names another server."""
    _running.run(["sh", "-c", "rm -f /etc/resolv.conf; cat > /etc/resolv.conf"], stdin=PLAIN)
    _running.docker("run", "-d", "--init", "--network=bridged", "--name=cc", "alpine", "sleep", "600")
    yield _running
    _running.docker("rm", "-f", "cc")


def _dns(host: Host, *arguments: str) -> Any:
    return json.loads(host.run([sys.executable, "-m", "macvlan_global", "dns", *arguments, "--json"]).stdout)


def _looked_up(host: Host, name: str, kind: str = "a") -> set[str]:
    """What a container is answered by Docker's resolver: addresses or names; empty for "no such name"."""
    done = host.run(["docker", "exec", "cc", "nslookup", f"-type={kind}", name], check=False)
    lines = [line for line in done.stdout.splitlines() if not line.startswith(("Server:", "Address:\t"))]
    words = [line.split() for line in lines]
    return {line[-1] for line in words if line[:1] == ["Address:"] or "=" in line}


def _read(host: Host) -> str:
    return host.run(["cat", "/etc/resolv.conf"]).stdout


def _names_are_there(host: Host) -> None:
    assert _looked_up(host, "web") == {"10.65.0.9"}
    assert _looked_up(host, "SHOP.lan") == {"10.65.0.9"}
    assert _looked_up(host, "web.lan", "aaaa") == {"fd65::9"}
    assert _looked_up(host, "db.lan", "aaaa") == set()
    assert _looked_up(host, "9.0.65.10.in-addr.arpa", "ptr") == {"web.lan"}
    assert _looked_up(host, "_80._tcp.shop", "srv") == {f"{'c' * 12}.lan"}
    assert _looked_up(host, "elsewhere.example") == {FOREIGN_ADDRESS}
    assert _looked_up(host, "nowhere.example") == set()


def test_containers_find_names_through_dockers_resolver(host: Host) -> None:
    """Names of the table and foreign ones, once the container was restarted; the engine was not. And back again."""
    assert _looked_up(host, "web") == set()
    preview = _dns(host, "install", "--dry-run")
    assert (preview["changed"], _read(host)) == (True, PLAIN)
    assert _dns(host, "install")["diff"] == preview["diff"]
    assert _dns(host, "status")["nameservers"] == [OURS, OTHER]
    assert _looked_up(host, "web") == set(), "a container keeps the servers of its start"
    host.docker("restart", "-t1", "cc")
    _names_are_there(host)
    host.run(["getent", "hosts", "web.lan"])
    _dns(host, "remove")
    assert _read(host) == PLAIN
    host.docker("restart", "-t1", "cc")
    assert _looked_up(host, "web") == set()
    assert _looked_up(host, "elsewhere.example") == {FOREIGN_ADDRESS}


def test_the_same_beside_systemd_resolved(host: Host) -> None:
    """Its link becomes a file that names our resolver and then systemd-resolved; then the link comes back."""
    start_resolved(host, OTHER)
    host.docker("restart", "-t1", "cc")
    wait_until(lambda: _looked_up(host, "elsewhere.example") == {FOREIGN_ADDRESS}, "answer of systemd-resolved")
    assert _looked_up(host, "web") == set()
    _dns(host, "install")
    assert _dns(host, "status")["nameservers"] == [OURS, "127.0.0.53"]
    host.docker("restart", "-t1", "cc")
    _names_are_there(host)
    assert _dns(host, "remove")["link"] == LINK
    assert host.run(["readlink", "/etc/resolv.conf"]).stdout.strip() == LINK


def test_a_resolver_that_is_away_is_passed_over(host: Host) -> None:
    """Foreign names go on at once to the next server, and `status` tells."""
    _dns(host, "install")
    host.run(["sed", "-i", f"s/{OURS}/127.0.0.154/", "/etc/resolv.conf"])
    host.docker("restart", "-t1", "cc")
    assert _looked_up(host, "elsewhere.example") == {FOREIGN_ADDRESS}
    assert _dns(host, "status")["warnings"] == [
        f"127.0.0.154 is installed, and the resolver is on {OURS}; run install again"
    ]
