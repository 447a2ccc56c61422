"""The command `macvlan-global`: where it begins, and how errors reach the operator.

Exit codes: 0 done, or the reader of the output has gone; 1 an error (or `doctor` found one), 2 wrong usage, 130 stopped
with Ctrl-C. An error is one line on stderr that begins with `macvlan-global:` and says what to do next.
"""

import errno
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from macvlan_global.cli.printable import printable
from macvlan_global.cli.start import plain_flags, run_driver
from macvlan_global.errors import MacvlanGlobalError

PROGRAM = "macvlan-global"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line (the process's own without `arguments`) and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _escape_what_does_not_fit()
    flags = plain_flags(words)
    try:
        if flags is None:
            sys.exit(_run_command(words))
        config = flags.pop("config", None)
        run_driver(Path(config) if config else None, flags)
    except MacvlanGlobalError as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        _drop_output()  # the reader (head, say) has gone
        sys.exit(0)


def _run_command(words: list[str]) -> int:
    # imported here: a driver that is started as a machine does it needs none of this
    from macvlan_global.cli.app import Failed, run  # noqa: PLC0415

    try:
        code = run(PROGRAM, words)
        if sys.stdout:  # None if the caller closed it
            sys.stdout.flush()  # Python does it at exit too, where nobody answers for what goes wrong
    except Failed as failure:
        _fail(failure.message, failure.code)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}:
            raise
        _drop_output()
        _fail(f"the output cannot be written: {error.strerror}", 1)
    return code


def _escape_what_does_not_fit() -> None:
    """Have characters that the encoding of the output lacks (→ in Latin-1) be written as escapes, and raise nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Have Python not fail again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> NoReturn:
    if message:
        print(f"{PROGRAM}: {printable(' '.join(message.split()))}", file=sys.stderr)
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:  # its reader has gone as well
        _drop_output()
    sys.exit(code)
