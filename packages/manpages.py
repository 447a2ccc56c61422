"""Manual pages in roff, of the same texts as `--help`. Pure."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from packages.reference import Command, Source

SECTION = 8
_ESCAPES = str.maketrans({"\\": "\\e", "'": "\\(aq", "`": "\\(ga", '"': "\\(dq", "…": "..."})
_BOOK = "macvlan-global"
_CODES = (
    ("0", "done"),
    ("1", "an error; its one line on stderr says what would work"),
    ("2", "wrong usage"),
    ("130", "stopped with Ctrl-C"),
)
_FILES = (
    ("/etc/macvlan-global/config.toml", "the configuration, see macvlan-global-config(5)"),
    ("/run/docker/plugins/macvlan-global.sock", "the plugin socket, which the engine calls"),
    ("/run/macvlan-global/admin.sock", "the admin socket, which the commands ask"),
    ("/var/lib/macvlan-global/state.db", "the state of this host"),
)
_UNITS = (
    ("macvlan-global.socket", "listens on the plugin socket from early boot on"),
    ("macvlan-global.service", "the driver; your own settings: systemctl edit macvlan-global"),
)
_OWN_CONFIG = (
    "TOML. No key is needed. Environment variables (MACVLAN_GLOBAL_ and the key in capitals) and flags of "
    "`macvlan-global serve` (the key with dashes) win over the file. With an unknown key or an invalid value the "
    "driver does not start; `macvlan-global doctor` says which. After a change: systemctl restart macvlan-global."
)
_TABLES = (
    ("[parents]", 'names for lists of parents on this host: NAME = "eth0, bond0"'),
    ("[store_access]", "credentials for the cluster store; paths of files, no secrets: "),
    ("[[auto_pools]]", "subnets for networks created without --subnet: base (CIDR) and size (prefix length)"),
)


def pages(source: Source, version: str, epoch: int) -> dict[str, str]:
    """Every page by file name: the program, each command, the configuration. `epoch` is their date (seconds, UTC)."""
    program = source.program
    date = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d")
    made = {}
    for command in (program, *program.commands):
        name = "-".join(command.words)
        body = _program(command) if command is program else _of_command(command)
        made[f"{name}.{SECTION}"] = _page(name, SECTION, date, version, [command.summary, *body])
    name = f"{_BOOK}-config"
    lines = ["configuration of macvlan-global", *_config(source)]
    made[f"{name}.5"] = _page(name, 5, date, version, lines)
    return made


def _page(name: str, section: int, date: str, version: str, lines: Sequence[str]) -> str:
    summary, *body = lines
    head = [f'.TH "{name.upper()}" {section} {date} "{_BOOK} {version}" "{_BOOK}"', ".nh", ".ad l", ".SH NAME"]
    return "\n".join([*head, f"{_text(name)} \\- {_text(summary.rstrip('.'))}", *body]) + "\n"


def _program(command: Command) -> Iterator[str]:
    yield from _synopsis([command])
    yield ".SH DESCRIPTION"
    yield _text(
        "A network driver and an IPAM driver for Docker. Networks are created and used by docker itself; these "
        "commands run the driver and show what it does."
    )
    yield ".SH COMMANDS"
    for each in command.commands:
        yield from _item(" ".join(each.words[1:]), f"{each.summary} See {'-'.join(each.words)}({SECTION}).")
    yield from _flags(command)
    yield ".SH EXIT STATUS"
    for code, meaning in _CODES:
        yield from _item(code, meaning)
    for title, rows in (("FILES", _FILES), ("UNITS", _UNITS)):
        yield f".SH {title}"
        for name, meaning in rows:
            yield from _item(name, meaning)
    yield from _examples(command)
    yield ".SH SEE ALSO"
    yield _text(f"{_BOOK}-config(5), docker(1), docker-network-create(1), ip-link({SECTION})")


def _of_command(command: Command) -> Iterator[str]:
    runs = [each for each in command.tree() if not each.commands or len(each.flags) > 1]
    yield from _synopsis(runs)
    yield ".SH DESCRIPTION"
    yield from _description(command)
    yield from _flags(command)
    for each in command.commands:
        yield f".SH {_text(' '.join(each.words[1:]).upper())}"
        yield from _description(each)
        for flag in each.flags:
            yield from _item(flag.shown, flag.text)
    yield from _examples(command)
    yield ".SH SEE ALSO"
    yield _text(f"{_BOOK}({SECTION}), {_BOOK}-config(5)")


def _config(source: Source) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    yield ".I /etc/macvlan\\-global/config.toml"
    yield ".SH DESCRIPTION"
    yield _text(_OWN_CONFIG)
    yield ".SH KEYS"
    for key in source.keys:
        yield from _item(f"{key.name} = {key.default}", key.text)
    yield ".SH TABLES"
    for name, text in _TABLES:
        more = ", ".join(source.store_access) if name == "[store_access]" else ""
        yield from _item(name, f"{text}{more}")
    yield ".SH SEE ALSO"
    yield _text(f"{_BOOK}({SECTION})")


def _synopsis(commands: Sequence[Command]) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    for each in commands:
        yield f".B {_word(' '.join(each.words))}"
        yield _word(each.usage.removeprefix(" ".join(each.words)).strip())
        yield ".br"


def _description(command: Command) -> Iterator[str]:
    yield _text(command.summary)
    for each in command.paragraphs:
        yield ".PP"
        yield _text(each)


def _flags(command: Command) -> Iterator[str]:
    for title, options in (("ARGUMENTS", False), ("OPTIONS", True)):
        if chosen := [each for each in command.flags if each.is_option is options]:
            yield f".SH {title}"
            for each in chosen:
                yield from _item(each.shown, each.text)


def _examples(command: Command) -> Iterator[str]:
    if lines := [line for each in command.tree() for line in each.examples if command.words[1:] or each is command]:
        yield ".SH EXAMPLES"
        yield ".EX"
        yield from (_word(line) for line in lines)
        yield ".EE"


def _item(tag: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield f".B {_word(tag)}"
    yield _text(text)


def _text(text: str) -> str:
    """Prose: options keep their dashes, which may be copied; a line never begins with a control character."""
    typed = re.compile(rf"(?<!\w)--?(?=\w)|{_BOOK}[-\w]*")
    return _guarded(typed.sub(lambda found: found[0].replace("-", "\\-"), _escaped(text)))


def _word(text: str) -> str:
    """A name or a command line: every dash is the one that is typed."""
    return _guarded(_escaped(text).replace("-", "\\-"))


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


def _guarded(text: str) -> str:
    return "\\&" + text if text.startswith((".", "'")) else text
