"""`python -m bench [--quick] [--write] [NAME …]`: run the measurements, all or some, and print the table.

`python -m bench attach --profile` shows where the time of an attach goes instead.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable

from bench import (
    across_hosts,
    allocations,
    attach,
    attach_profile,
    cluster_allocations,
    conflict_watch,
    dns,
    docker_burst,
    docker_connect,
    docker_run,
    fill,
    growth,
    growth_simulated,
    host_access,
    page,
    report,
    startup,
    sticky,
    watch,
)
from bench.rounds import Row
from lab import reap_leftovers
from lab.paths import ROOT

DOCUMENT = ROOT / "docs" / "benchmarks.md"
MEASUREMENTS: dict[str, Callable[..., list[Row]]] = {
    "docker-run": docker_run.measure,
    "docker-connect": docker_connect.measure,
    "docker-burst": docker_burst.measure,
    "attach": attach.measure,
    "allocations": allocations.measure,
    "fill": fill.measure,
    "sticky": sticky.measure,
    "startup": startup.measure,
    "dns": dns.measure,
    "conflict-watch": conflict_watch.measure,
    "host-access": host_access.measure,
    "page": page.measure,
    "cluster-allocations": cluster_allocations.measure,
    "across-hosts": across_hosts.measure,
    "watch": watch.measure,
    "growth": growth.measure,
    "growth-simulated": growth_simulated.measure,
}


def main() -> int:
    """Measure; 0 even if a goal is missed: a figure is no test."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *MEASUREMENTS], metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--quick", action="store_true", help="a few rounds: shows that it works, and measures nothing")
    parser.add_argument("--write", action="store_true", help=f"put the rows into {DOCUMENT.relative_to(ROOT)}")
    parser.add_argument("--profile", action="store_true", help="with attach: where the time goes, part by part")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: network namespaces are root's; use `sudo make bench`", file=sys.stderr)
        return 1
    reap_leftovers()
    if arguments.profile:
        attach_profile.show(quick=arguments.quick)
        return 0
    load, rows = os.getloadavg()[0], []
    for name in arguments.names or MEASUREMENTS:
        begun = time.monotonic()
        rows += MEASUREMENTS[name](quick=arguments.quick)
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    report.show(rows)
    if arguments.write:
        report.write(rows, DOCUMENT, load, whole=not arguments.names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
