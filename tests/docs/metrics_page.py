"""The page of the metrics, made from their description and from the alert rules.

    .venv/bin/python -m tests.docs.metrics_page

writes docs/metrics.md; a test compares it.
"""

import re
from pathlib import Path

from macvlan_global.metrics.counts import BOUNDS
from macvlan_global.metrics.description import SECTIONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
RULES = ROOT / "monitoring" / "macvlan-global.rules.yml"

HEAD = """# Metrics

<!-- Made by `python -m tests.docs.metrics_page` from src/macvlan_global/metrics/description.py: change that. -->

`metrics = "127.0.0.1:9477"` in the configuration (or `--metrics`) serves Prometheus metrics at `/metrics`. It is off by
default and has no password: keep it on loopback, or in a network of your own, and have Prometheus reach it there.

```yaml
scrape_configs:
  - job_name: macvlan-global
    static_configs:
      - targets: ["127.0.0.1:9477"]
```

A scrape asks no store, and its cost follows the number of the host's networks, not that of containers or addresses. All
is read from memory, but the state of parents, which the kernel tells. Names follow the
[conventions of Prometheus](https://prometheus.io/docs/practices/naming/): seconds and bytes, `_total` for what only
grows, and no label for a container, an address or a MAC. Names do not change in a minor release.

Histograms have the buckets {bounds} seconds.

**In a cluster each host tells of its own view.** Endpoints, links, reservations and requests are those of the host.
Addresses held of a pool are those that the host knows: its own, those it has read, and at least those of all containers
whose names the cluster knows. Take `max by (network, subnet)` over hosts for the pool, and `sum` for endpoints.

"""

ALERTS = """## Alerts and a dashboard

`monitoring/macvlan-global.rules.yml` has alert rules, and `monitoring/macvlan-global.dashboard.json` is a dashboard for
Grafana (Dashboards, New, Import; choose the data source at its top). They find the driver by its metrics, whatever the
job is called. The Debian package has both in `/usr/share/macvlan-global/monitoring`, where `rule_files` of a Prometheus
on that machine can name the rules.

| Alert | After | Meaning |
|---|---|---|
"""

_RULE = re.compile(r"- alert: (?P<name>\w+)\n(?P<body>(?:(?!\n +- alert:).)*)", re.DOTALL)


def page() -> str:
    """The text of docs/metrics.md."""
    parts = [HEAD.format(bounds=", ".join(f"{each:g}" for each in BOUNDS))]
    for section, metrics in SECTIONS.items():
        parts.append(f"## {section}\n\n| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n")
        for each in metrics:
            labels = ", ".join(f"`{label}`" for label in each.labels)
            text = f"{each.text} ({each.only} only)" if each.only else each.text
            parts.append(f"| `{each.full_name}` | {each.kind} | {labels} | {text} |\n")
        parts.append("\n")
    return "".join(parts) + ALERTS + "".join(_alerts())


def _alerts() -> list[str]:
    found = []
    for rule in _RULE.finditer(RULES.read_text()):
        after, about = (re.search(rf"{key}: *(.+)", rule["body"]) for key in ("for", "description"))
        assert about, rule["name"]
        wait, meaning = after[1] if after else "at once", about[1].strip('"')
        found.append(f"| `{rule['name']}` | {wait} | {meaning} |\n")
    return found


if __name__ == "__main__":
    PAGE.write_text(page())
