"""The real driver, but for one thing: it can be told to die by SIGKILL right before its Nth change.

A change is a write to the store or to the kernel. The file named by the first argument holds the number of changes
that are still allowed; while it is absent, nothing happens. The other arguments are those of `serve`'s configuration,
as `key=value`.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from macvlan_global.cli.logs import set_up_logging
from macvlan_global.config import load_config
from macvlan_global.daemon import Daemon, serve
from macvlan_global.kernel.netlink import NetlinkKernel
from macvlan_global.store.open import open_store

CHANGES = {
    "create",
    "replace",
    "delete",
    "add_vlan",
    "add_dummy",
    "add_macvlan",
    "set_up",
    "set_down",
    "add_in_sandbox",
    "delete_in_sandbox",
    "flush_addresses",
}


class DiesAt:
    """Passes every call on to the real thing, and ends the process before the change that is not allowed any more."""

    def __init__(self, real: object, allowance: Path) -> None:
        """`allowance` is the file with the number."""
        self._real = real
        self._allowance = allowance

    def __getattr__(self, name: str) -> Any:
        """The real method, behind the check."""
        if name in CHANGES:
            self._count(name)
        return getattr(self._real, name)

    def _count(self, name: str) -> None:
        try:
            left = int(self._allowance.read_text())
        except FileNotFoundError:
            return
        if left == 0:
            print(f"dying before {type(self._real).__name__}.{name}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        self._allowance.write_text(str(left - 1))


def main() -> None:
    """Serve."""
    allowance = Path(sys.argv[1])
    flags = {key: value for key, _, value in (each.partition("=") for each in sys.argv[2:])}
    config = load_config(None, {}, flags)
    set_up_logging("debug", "text")
    kernel: Any = DiesAt(NetlinkKernel(), allowance)

    def open_dying(url: str, state_dir: Path) -> Any:
        return DiesAt(open_store(url, state_dir), allowance)

    asyncio.run(serve(Daemon(config, kernel=kernel, open_store=open_dying)))


if __name__ == "__main__":
    main()
