"""Shell completion of what only the running driver knows."""

import os

from macvlan_global.config import load_config
from macvlan_global.errors import MacvlanGlobalError

PATIENCE_SECONDS = 1.0
"""A key press must not hang on an engine or a driver that is busy."""


def complete_network(incomplete: str) -> list[str]:
    """Names of networks that begin with what was typed; none if the driver does not answer, or not soon."""
    # imported here: only a key press needs it
    from macvlan_global.admin.client import AdminClient  # noqa: PLC0415

    try:
        driver = AdminClient(load_config(None, os.environ, {}).admin_socket_here(), timeout=PATIENCE_SECONDS)
        return sorted(each.name for each in driver.networks() if each.name.startswith(incomplete))
    except MacvlanGlobalError:
        return []
