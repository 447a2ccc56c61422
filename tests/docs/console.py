"""Console blocks of the documents: what they hold, and whether what a command printed is what the page shows. Pure.

A block is fenced as `console`. A line that begins with `$ ` (or with `# `, if the block does) is a command, continued
by a backslash at its end; the lines below it are what it prints. `<!-- not run: REASON -->` on the line before the
fence keeps a block from being run. `<!-- needs: 8021q dummy -->` anywhere in a page says which links its commands make.

What differs from run to run counts as equal: ids, MACs, times, interface indexes. A line that holds only `...` stands
for any lines, and `...` within a line for any text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

FENCE = "```"
PROMPTS = ("$ ", "# ")
ANY = "..."

_NOT_RUN = re.compile(r"<!--\s*not run:\s*(?P<reason>.+?)\s*-->")
_NEEDS = re.compile(r"<!--\s*needs:\s*(?P<modules>[\w ]+?)\s*-->")
_VARYING = (
    (re.compile(r"\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b"), "<mac>"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "<id>"),
    (re.compile(r"\b\d+(\.\d+)?(/\d+\.\d+)* ?ms\b"), "<time>"),
    (re.compile(r"^\d+: "), "<index>: "),
    (re.compile(r"@if\d+"), "@if<index>"),
    (re.compile(r"link-netns(id)? \S+"), "<namespace>"),
    (re.compile(r"\bfe80::[0-9a-f:]+\b"), "<link-local>"),
)
_SAYS_FAILURE = re.compile(r"error|refused|100% packet loss|can't|cannot", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Command:
    """One command and the lines that the page says it prints. `first` and `stop` are lines of the page, from 0."""

    text: str
    shown: tuple[str, ...]
    first: int
    stop: int

    @property
    def may_fail(self) -> bool:
        """Whether the page shows a failure, which a command may then end with."""
        return any(_SAYS_FAILURE.search(line) for line in self.shown)


@dataclass(frozen=True, slots=True)
class Block:
    """A console block; `not_run` is the reason why it is not run, "" if it is."""

    commands: tuple[Command, ...]
    line: int
    not_run: str


@dataclass(frozen=True, slots=True)
class Page:
    """The console blocks of a document, and the kernel modules that they need."""

    blocks: tuple[Block, ...]
    needs: tuple[str, ...]

    @property
    def commands(self) -> tuple[Command, ...]:
        """Every command that is run, in order."""
        return tuple(command for block in self.blocks if not block.not_run for command in block.commands)


def parse(text: str) -> Page:
    """Read a page.

    Raises:
        ValueError: a block without a command, output before the first command, or a fence that is never closed.
    """
    lines = text.splitlines()
    blocks = []
    at = 0
    while at < len(lines):
        if lines[at].strip() != FENCE + "console":
            at += 1
            continue
        stop = _end(lines, at)
        mark = _NOT_RUN.search(lines[at - 1]) if at else None
        blocks.append(Block(_commands(lines, at + 1, stop), at + 1, mark["reason"] if mark else ""))
        at = stop + 1
    needs = [module for found in _NEEDS.finditer(text) for module in found["modules"].split()]
    return Page(tuple(blocks), tuple(dict.fromkeys(needs)))


def _end(lines: Sequence[str], start: int) -> int:
    for at in range(start + 1, len(lines)):
        if lines[at].strip() == FENCE:
            return at
    raise ValueError(f"the block at line {start + 1} is never closed")


def _commands(lines: Sequence[str], first: int, stop: int) -> tuple[Command, ...]:
    prompt = lines[first][:2]
    if first == stop or prompt not in PROMPTS:
        raise ValueError(f"the block at line {first} does not begin with a command")
    commands = []
    at = first
    while at < stop:
        begin = at
        text = lines[at].removeprefix(prompt)
        while text.endswith("\\"):
            at += 1
            text = text[:-1] + lines[at].strip()
        at += 1
        output = at
        while at < stop and not lines[at].startswith(prompt):
            at += 1
        commands.append(Command(text, tuple(lines[output:at]), begin, at))
    return tuple(commands)


def matches(shown: Sequence[str], printed: str) -> bool:
    """Whether what a command printed is what the page shows, but for what differs from run to run."""
    expression = "".join(_expression(line) for line in shown)
    return re.fullmatch(expression, "".join(shape(line) + "\n" for line in _lines(printed))) is not None


def shape(line: str) -> str:
    """A line with a placeholder for each thing that differs from run to run."""
    for pattern, placeholder in _VARYING:
        line = pattern.sub(placeholder, line)
    return re.sub(r" +", " ", line).rstrip()


def rewritten(text: str, printed: Sequence[tuple[Command, str]]) -> str:
    """The page with what was printed below each command whose output on the page no longer matches."""
    lines = text.splitlines()
    for command, output in reversed(printed):
        if not matches(command.shown, output):
            output_at = command.stop - len(command.shown)
            lines[output_at : command.stop] = [line.rstrip() for line in _lines(output)]
    return "\n".join(lines) + "\n"


def _lines(printed: str) -> list[str]:
    return printed.rstrip().expandtabs().splitlines()


def _expression(line: str) -> str:
    if line.strip() == ANY:
        return r"(?:.*\n)*"
    return ".*".join(re.escape(shape(part) if part.strip() else part) for part in line.rstrip().split(ANY)) + "\n"
