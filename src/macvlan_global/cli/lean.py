"""Loading the driver's libraries in less time. Called by `serve`, and by nothing else.

Containers wait for the driver when a machine starts, and it is loaded anew by each socket activation, so the time
from exec to the first answer counts. Two things are left out that loading the libraries would do (measured with
`python -X importtime`; the figures are in docs/install.md):

* `import aiohttp` reads all certificates of the machine, twice. Unix sockets need none.
* The garbage collector looks again and again through what is loaded and stays.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


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
