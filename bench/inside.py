"""Runs a function of this package on a host of the lab: what is timed there does not pay for entering the host."""

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

from lab import Host
from lab.paths import ROOT


def call(host: Host, function: Callable[..., Any], **arguments: Any) -> Any:
    """Call a module's function on the host, in a process of its own; its answer.

    Arguments and answer must be what JSON can carry.

    Raises:
        CommandError: it raised; with its traceback.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    command = [sys.executable, "-m", "bench.inside", name, json.dumps(arguments)]
    done = host.run(command, env={"PYTHONPATH": str(ROOT)}, timeout=300)
    return json.loads(done.stdout.splitlines()[-1])


def _main() -> None:
    module, _, name = sys.argv[1].partition(":")
    print(json.dumps(getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    _main()
