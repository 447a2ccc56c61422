"""A command line as a user without rights runs it: `python as_nobody.py WORD…`, started as root.

The interpreter and its libraries may be where only root can read, as in a checkout below /root. So the command runs
once as root, unheard, which loads what it needs, and then once more with the rights of nobody.
"""

import contextlib
import io
import os
import sys

from macvlan_global.cli.main import main

NOBODY = 65534  # nobody and nogroup, on every distribution

with (
    contextlib.suppress(SystemExit),
    contextlib.redirect_stdout(io.StringIO()),
    contextlib.redirect_stderr(io.StringIO()),
):
    main(sys.argv[1:])
os.setgroups([])
os.setgid(NOBODY)
os.setuid(NOBODY)
main(sys.argv[1:])
