"""What Prometheus makes of a driver: its metrics, the alert rules, and each query of the dashboard.

One driver of a cluster, on a host with a store of one member and no engine, and Debian's Prometheus beside it.
"""

import http.client
import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import EtcdCluster, Host
from lab.driver import Driver
from lab.packages import ensure_prometheus
from lab.process import run, tail, wait_until
from lab.speed import patience
from macvlan_global.metrics.description import DESCRIPTIONS
from tests.cli.plugin import Plugin

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
DASHBOARD = MONITORING / "macvlan-global.dashboard.json"
DRIVER, PROMETHEUS = "127.0.0.1:9477", "127.0.0.1:9090"
LAN = "1a" * 32
CONFIG = """
global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}
rule_files: [RULES]
scrape_configs: [{job_name: macvlan-global, static_configs: [{targets: ["DRIVER"]}]}]
"""


@dataclass(frozen=True)
class Watched:
    """A host with a driver, and a Prometheus that scrapes it."""

    host: Host

    def get(self, address: str, path: str) -> str:
        """The body of an answer on the host's loopback."""
        with self.host.in_network():
            connection = http.client.HTTPConnection(address, timeout=patience(10))
            try:
                connection.request("GET", path)
                return connection.getresponse().read().decode()
            finally:
                connection.close()

    def ask(self, path: str, **fields: str) -> Any:
        """An answer of Prometheus' API."""
        answer = json.loads(self.get(PROMETHEUS, f"/api/v1/{path}?{urllib.parse.urlencode(fields)}"))
        assert answer["status"] == "success", (fields, answer)
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        """The series that an expression gives now."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """The driver has a network with two subnets, and a container on it; it was scraped some times."""
    programs = ensure_prometheus()
    with Host("watched") as host, EtcdCluster(on=[(host, "127.0.0.1")]) as store:
        host.run(["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "peer1"])
        for each in ("eth1", "peer1"):
            host.run(["ip", "link", "set", each, "up"])
        driver = Driver(host, "--store", store.url, "--metrics", DRIVER)
        driver.start()
        plugin = Plugin(host)
        plugin.create_network(LAN, {"10.65.0.0/24": "10.65.0.1", "fd65::/64": "fd65::1"}, parent="eth1")
        plugin.create_endpoint(LAN, "3c" * 32, "10.65.0.0/24", "10.65.0.9")
        (host.run_folder / "prometheus.yml").write_text(
            CONFIG.replace("RULES", str(MONITORING / "macvlan-global.rules.yml")).replace("DRIVER", DRIVER)
        )
        files = ["--config.file=/run/prometheus.yml", "--storage.tsdb.path=/run/prometheus"]
        log = host.folder / "prometheus.log"
        host.popen(
            [str(programs / "prometheus"), *files, f"--web.listen-address={PROMETHEUS}"],
            log=log,
        )
        made = Watched(host)
        wait_until(lambda: _scrapes(made) >= 3, "some scrapes", seconds=30, every=0.2, explain=lambda: tail(log))
        yield made
        driver.stop()


def _scrapes(watched: Watched) -> int:
    try:
        found = watched.query("count_over_time(macvlan_global_build_info[5m])")
    except (OSError, http.client.HTTPException, AssertionError, json.JSONDecodeError):  # it starts
        return 0
    return int(found[0]["value"][1]) if found else 0


STARTS = "Starts of the driver"
"""An annotation: it has a series at a start only."""


def _queries() -> list[tuple[str, str, str]]:
    """Each query of the dashboard, with the title of its panel, and its legend."""
    board = json.loads(DASHBOARD.read_text())
    targets = [(panel["title"], each) for panel in board["panels"] for each in panel.get("targets", ())]
    found = [(title, each["expr"], each["legendFormat"]) for title, each in targets]
    return found + [(each["name"], each["expr"], each["textFormat"]) for each in board["annotations"]["list"]]


def test_promtool_has_nothing_to_say(watched: Watched) -> None:
    """`promtool check metrics` of a scrape: names, units, help."""
    done = run([str(ensure_prometheus() / "promtool"), "check", "metrics"], stdin=watched.get(DRIVER, "/metrics"))
    assert (done.stdout, done.stderr) == ("", "")


def test_the_alert_rules_are_right() -> None:
    """`promtool test rules`: each alert comes when it is to, and no earlier; and each has a test."""
    promtool = str(ensure_prometheus() / "promtool")
    run([promtool, "check", "rules", str(MONITORING / "macvlan-global.rules.yml")])
    run([promtool, "test", "rules", str(MONITORING / "macvlan-global.rules.test.yml")])
    rules, tests = ((MONITORING / f"macvlan-global.{each}.yml").read_text() for each in ("rules", "rules.test"))
    names = set(re.findall(r"- alert: (\w+)", rules))
    fired = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", tests))
    silent = set(re.findall(r"alertname: (\w+)\n +exp_alerts: \[\]", tests))
    assert names == fired == silent


def test_prometheus_takes_every_metric(watched: Watched) -> None:
    """It has the ones that are described, each with the kind that it is described with, and no other one of ours."""
    told = {
        name: each[0]["type"] for name, each in watched.ask("metadata").items() if name.startswith("macvlan_global_")
    }
    assert told == {each.full_name: each.kind for each in DESCRIPTIONS}


def test_each_query_of_the_dashboard_has_an_answer(watched: Watched) -> None:
    """A series at least, of a driver that does little; and each label in a legend is there."""
    # a scrape that a busy machine answers too late ends all series until the next one
    wait_until(
        lambda: _unanswered(watched) == [STARTS],
        "an answer to each query",
        every=1,
        explain=lambda: str(_unanswered(watched)),
    )


def _unanswered(watched: Watched) -> list[str]:
    """Titles of queries without a series, or with one that lacks a label of its legend."""
    wrong = []
    for title, query, legend in _queries():
        found = watched.query(query.replace("$instance", ".*").replace("$__rate_interval", "1m"))
        labels = set(re.findall(r"{{(\w+)}}", legend))
        if "vector(0)" not in query and not (found and all(labels <= each["metric"].keys() for each in found)):
            wrong.append(title)
    return wrong


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    """No query names another one, and the rules do not either."""
    known = {each.full_name for each in DESCRIPTIONS}
    texts = [query for _, query, _ in _queries()] + [(MONITORING / "macvlan-global.rules.yml").read_text()]
    named = {name for text in texts for name in re.findall(r"\bmacvlan_global_\w+", text)}
    assert {re.sub(r"_(bucket|sum|count)$", "", each) for each in named} <= known


def test_a_quiet_driver_alarms_nobody(watched: Watched) -> None:
    """The rules are loaded, and none fires."""
    assert len(watched.ask("rules")["groups"][0]["rules"]) == 7
    assert [each["labels"] for each in watched.ask("alerts")["alerts"] if each["state"] == "firing"] == []
