"""The commands and the configuration as values, read from where `--help` and the parser have them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import typer.main

from macvlan_global.cli.app import app
from macvlan_global.cli.main import PROGRAM
from macvlan_global.config import FLAGS, Config, StoreAccessConfig

_BLOCK = "\b"
"""A paragraph that begins with this line has lines that stay as they are, in texts of help."""
_EXAMPLE = "Example:"


@dataclass(frozen=True)
class Flag:
    """An option or an argument as `--help` shows it: `shown` with its metavar, and its description."""

    shown: str
    text: str
    is_option: bool


@dataclass(frozen=True)
class Key:
    """A key of the configuration file. `default` is TOML; "" where the file has no line for it."""

    name: str
    text: str
    default: str


@dataclass(frozen=True)
class Command:
    """A command, by the words that call it. `paragraphs` follow its `summary`; `examples` are command lines."""

    words: tuple[str, ...]
    usage: str
    summary: str
    paragraphs: tuple[str, ...]
    examples: tuple[str, ...]
    flags: tuple[Flag, ...]
    commands: tuple["Command", ...]

    def tree(self) -> Iterator["Command"]:
        """This command and all below it."""
        yield self
        for each in self.commands:
            yield from each.tree()


@dataclass(frozen=True)
class Source:
    """All that is documented: the program with its commands, keys of the configuration, those of `[store_access]`."""

    program: Command
    keys: tuple[Key, ...]
    store_access: tuple[str, ...]


def source() -> Source:
    """The reference as it is; keys in the order of the help of `serve`."""
    defaults = msgspec.to_builtins(Config())
    return Source(
        program=_command(typer.main.get_command(app), (PROGRAM,), None),
        keys=tuple(Key(name, text, _toml(defaults[name])) for name, text in FLAGS.items()),
        store_access=StoreAccessConfig.__struct_fields__,
    )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else f'"{value}"'


def _command(found: Any, words: tuple[str, ...], parent: Any) -> Command:
    context = found.context_class(found, info_name=words[-1], parent=parent)
    summary, *paragraphs = (" ".join(each.split()) for each in (found.help or "").split("\n\n"))
    return Command(
        words=words,
        usage=" ".join([*words, *found.collect_usage_pieces(context)]),
        summary=summary,
        paragraphs=tuple(paragraphs),
        examples=_examples(found.epilog or ""),
        flags=tuple(_flags(found, context)),
        commands=tuple(_command(each, (*words, name), context) for name, each in _commands(found)),
    )


def _commands(found: Any) -> list[tuple[str, Any]]:
    return [*getattr(found, "commands", {}).items()]


def _flags(found: Any, context: Any) -> Iterator[Flag]:
    for each in found.get_params(context):
        record = each.get_help_record(context)
        if record is not None:  # hidden
            shown, text = record
            yield Flag(shown, " ".join(text.split()), each.param_type_name == "option")


def _examples(epilog: str) -> tuple[str, ...]:
    lines = [line.strip() for line in epilog.splitlines()]
    return tuple(line for line in lines if line not in {"", _BLOCK, _EXAMPLE})
