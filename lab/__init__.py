"""Real Docker Engines, wires and kernels for tests, `make run` and benchmarks.

The lab makes simulated machines on the one that it runs on. A `Host` has a
network and a mount namespace of its own and may run a Docker Engine; a `Wire`
joins hosts as a switch would; `EtcdCluster` and `ConsulCluster` are the stores
that hosts share; `guest_run` boots a user-mode kernel for what the running
kernel lacks.

Rules of the place:

1. Everything that the lab makes carries the process id of its maker, so that
   `reap_leftovers` can tell what a dead run left behind.
2. The machine's own network is never touched: wires live in namespaces.
3. Nothing waits by sleeping for a guessed time: a condition is polled, with a
   deadline (`lab.process.wait_until`).
4. What takes long to make is kept under `build/lab/`, made once, atomically.

It needs root and a Debian to take packages from.
"""

from lab.consul import ConsulCluster
from lab.errors import CommandError, DockerError, LabError
from lab.etcd import EtcdCluster
from lab.guest import GuestResult, guest_run, in_guest, kernel_has, make_disk
from lab.hosts import Host
from lab.image import image_archive, import_image
from lab.leftovers import reap_leftovers
from lab.packages import ENGINES, Engine, engine, ensure_engines, ensure_stores, ensure_system_packages
from lab.proxy import TcpProxy
from lab.wire import Wire

__all__ = [
    "ENGINES",
    "CommandError",
    "ConsulCluster",
    "DockerError",
    "Engine",
    "EtcdCluster",
    "GuestResult",
    "Host",
    "LabError",
    "TcpProxy",
    "Wire",
    "engine",
    "ensure_engines",
    "ensure_stores",
    "ensure_system_packages",
    "guest_run",
    "image_archive",
    "import_image",
    "in_guest",
    "kernel_has",
    "make_disk",
    "reap_leftovers",
]
