"""The commands, put together."""

import typer

from macvlan_global.cli import (
    cmd_addresses,
    cmd_conflicts,
    cmd_dns,
    cmd_doctor,
    cmd_hosts,
    cmd_install,
    cmd_networks,
    cmd_page,
    cmd_parents,
    cmd_repair,
    cmd_serve,
    cmd_status,
    cmd_version,
)
from macvlan_global.cli.options import example

WRONG_USAGE = 2

app = typer.Typer(
    name="macvlan-global",
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
    cmd_conflicts,
    cmd_parents,
    cmd_hosts,
    cmd_repair,
    cmd_doctor,
    cmd_page,
    cmd_dns,
    cmd_install,
    cmd_version,
):
    command.add_to(app)


class Failed(Exception):
    """A call that ends with `code`, and with `message` unless that is ""."""

    def __init__(self, message: str, code: int) -> None:
        """Keep both."""
        super().__init__(message)
        self.message = message
        self.code = code


def run(program: str, arguments: list[str]) -> int:
    """Run a command line; its exit code.

    Raises:
        Failed: the call was wrong, or was stopped.
        BrokenPipeError: the reader of the output has gone.
        MacvlanGlobalError: what the command raised.
    """
    try:
        # called without a word it shows its help, as `docker` does
        return app(arguments or ["--help"], standalone_mode=False, prog_name=program) or 0
    except typer.TyperException as error:
        raise Failed(_usage(error), error.exit_code) from error
    except typer.Abort as error:
        raise Failed("", 130) from error
    except SystemExit as ended:
        # typer ends the process with 1 where the reader has gone; `main` decides on that
        if isinstance(ended.__context__, BrokenPipeError):
            raise ended.__context__ from None
        raise


def _usage(error: typer.TyperException) -> str:
    """The message of a wrong call, and where the right one is described."""
    message = error.format_message()
    context = getattr(error, "ctx", None)
    if error.exit_code != WRONG_USAGE or context is None:
        return message
    return f"{message.rstrip('.?')}{'?' if message.endswith('?') else ''}; see `{context.command_path} --help`"
