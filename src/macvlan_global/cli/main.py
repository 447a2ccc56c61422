"""The command `macvlan-global`: its subcommands, and how errors reach the operator.

Exit codes: 0 done, 1 an error (or `doctor` found one), 2 wrong usage, 130 stopped with Ctrl-C. An error is one line
on stderr that begins with `macvlan-global:` and says what to do next.
"""

import os
import sys

import typer

from macvlan_global.cli import (
    cmd_addresses,
    cmd_doctor,
    cmd_install,
    cmd_networks,
    cmd_parents,
    cmd_repair,
    cmd_serve,
    cmd_status,
    cmd_version,
)
from macvlan_global.cli.options import example
from macvlan_global.errors import MacvlanGlobalError

PROGRAM = "macvlan-global"
WRONG_USAGE = 2

app = typer.Typer(
    name=PROGRAM,
    help="One macvlan network across all your Docker hosts.",
    epilog=example("macvlan-global doctor", "macvlan-global networks"),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    cmd_serve,
    cmd_status,
    cmd_networks,
    cmd_addresses,
    cmd_parents,
    cmd_repair,
    cmd_doctor,
    cmd_install,
    cmd_version,
):
    command.add_to(app)


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        # called without a word it shows its help, as `docker` does
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False, prog_name=PROGRAM))
    except MacvlanGlobalError as error:
        _fail(str(error), 1)
    except typer.TyperException as error:
        _fail(_usage(error), error.exit_code)
    except typer.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # the reader (head, say) has gone; Python must not fail again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _fail(message: str, code: int) -> None:
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _usage(error: typer.TyperException) -> str:
    """The message of a wrong call, and where the right one is described."""
    message = error.format_message()
    context = getattr(error, "ctx", None)
    if error.exit_code != WRONG_USAGE or context is None:
        return message
    return f"{message.rstrip('.?')}{'?' if message.endswith('?') else ''}; see `{context.command_path} --help`"
