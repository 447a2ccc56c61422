"""Loading the driver's libraries in half the time. Called by `serve`, and by nothing else.

Containers wait for the driver when a machine starts, and it is loaded anew by each socket activation, so the time
from exec to the first answer counts. Three things are left out that loading the libraries would do (measured with
`python -X importtime`; the figures are in docs/install.md):

* `import pyroute2` loads thirty netlink protocols, databases and file servers. We speak rtnetlink.
* `import aiohttp` reads all certificates of the machine, twice. Unix sockets need none.
* The garbage collector looks again and again through what is loaded and stays.
"""

import gc
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_NAMES = {"AsyncIPRoute": "pyroute2.iproute", "IPRoute": "pyroute2.iproute"}


class _LazyPackage(ModuleType):
    """Stands for pyroute2: the names that we use come from where they are defined, and any other loads it whole."""

    def __getattr__(self, name: str) -> object:
        if name in _NAMES:
            return getattr(importlib.import_module(_NAMES[name]), name)
        if name.startswith("__") or self.__spec__ is None or self.__spec__.loader is None:
            raise AttributeError(name)
        if importlib.util.find_spec(f"pyroute2.{name}"):  # a part of it, which the caller's import is about to load
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]  # from here on it is the package itself
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def load_pyroute2_lazily() -> None:
    """From now on `import pyroute2` costs nothing, and names in it cost what they need. Nothing if it is loaded."""
    spec = importlib.util.find_spec("pyroute2") if "pyroute2" not in sys.modules else None
    if spec is None:
        return
    package = _LazyPackage("pyroute2")
    package.__spec__, package.__file__ = spec, spec.origin
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["pyroute2"] = package


@contextmanager
def loading(*, certificates: bool) -> Iterator[None]:
    """Within the block, libraries load quickly; what they leave is not looked through again by the collector.

    `certificates` False keeps OpenSSL from reading the machine's: only for a driver that speaks no TLS at all.
    """
    wanted = {} if certificates else {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
