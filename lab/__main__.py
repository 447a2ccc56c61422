"""The lab from a shell: `python -m lab prepare`, `reap`, `guest COMMAND...`."""

import argparse
import sys

from lab import ensure_engines, ensure_stores, ensure_system_packages, guest_run, image_archive, reap_leftovers
from lab.compose import ensure_compose
from lab.packages import ensure_kernel, ensure_prometheus


def main() -> int:
    """Do what the command line says; the exit code of the guest's command, else 0."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("prepare", help="fetch and make what is kept, so that later runs need no network")
    actions.add_parser("reap", help="remove what dead runs left behind")
    guest = actions.add_parser("guest", help="run a command in the guest kernel")
    guest.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.action == "guest":
        return guest_run(arguments.command).returncode
    if arguments.action == "reap":
        print("\n".join(reap_leftovers()))
        return 0
    ensure_system_packages()
    ensure_stores()
    ensure_kernel()
    ensure_compose()
    ensure_prometheus()
    print(f"engines {', '.join(engine.version for engine in ensure_engines())}; image {image_archive().name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
