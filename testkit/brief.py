"""The size of walks: `make unit`, which is run after every change, sees a part of each; `make test` sees all."""

import os

BRIEF = os.environ.get("MACVLAN_GLOBAL_TESTS_BRIEF") == "1"
STRIDE = 12 if BRIEF else 1
"""Of steps that fail in turn, `make unit` takes each twelfth, and `make test` each."""
SHARE = 4 if BRIEF else 1
"""Of errors and answers that are alike, `make unit` takes each fourth, and `make test` each."""
