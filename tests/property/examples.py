"""Numbers of examples: the full one in `make test`, a share of it in `make unit`."""

from hypothesis import settings

FULL = 100


def examples(full: int) -> int:
    """The number of examples under the profile in use, of `full` under the profile that draws all; at least one."""
    return max(1, full * settings().max_examples // FULL)
