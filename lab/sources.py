"""Reading apt's own description of where packages come from, in both of its forms (sources.list(5)).

Nothing here asks the network. The mirror of Debian's archive that a machine uses is told from the other sources that
machines have (Docker's, a database's, security updates) by suite, component and key.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_RELEASES = ("bullseye", "bookworm", "trixie", "forky", "duke", "sid")
_CLASSES = ("oldoldstable", "oldstable", "stable", "testing", "unstable")
_SUITES = frozenset(
    name + suffix for name in (*_RELEASES, *_CLASSES) for suffix in ("", "-updates", "-backports", "-proposed-updates")
)
_KEYS = "debian-archive"
_LIST = "mirror+file:"
"""A source whose real addresses are lines of a file of the machine (apt-transport-mirror(1)): cloud images have it."""


@dataclass(frozen=True)
class Source:
    """One line of a `.list`, or one stanza of a `.sources`, that brings packages to install."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    keys: str = ""
    """Value of Signed-By: a file, fingerprints or a whole key; empty if apt's own keys are meant."""

    @property
    def is_debian(self) -> bool:
        """Whether this is Debian's own archive, where other releases than this one are beside it."""
        named = "main" in self.components and bool(_SUITES.intersection(self.suites))
        return named and (not self.keys or _KEYS in self.keys)


def read_sources(folder: Path) -> list[Source]:
    """The sources that are switched on below `folder` (/etc/apt), the main file's first."""
    found: list[Source] = []
    for file in [folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))]:
        if not file.is_file():
            continue
        text = file.read_text(errors="replace")
        if file.suffix == ".sources":
            found += parse_stanzas(text)
        elif file.suffix == ".list":
            found += parse_lines(text)
    return found


def parse_lines(text: str) -> list[Source]:
    """The `deb` lines of a file in one-line style."""
    return [source for line in text.splitlines() if (source := _parse_line(line.partition("#")[0])) is not None]


def _parse_line(line: str) -> Source | None:
    found = re.match(r"\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<rest>\S+\s+\S.*)", line)
    if found is None:
        return None
    options = dict(each.partition("=")[::2] for each in (found["options"] or "").split())
    uri, suite, *components = found["rest"].split()
    return Source((uri,), (suite,), tuple(components), options.get("signed-by", ""))


def parse_stanzas(text: str) -> list[Source]:
    """The stanzas of a file in deb822 style that are switched on and bring binary packages."""
    stanzas = map(_fields, re.split(r"\n[ \t]*\n", text))
    return [
        Source(
            tuple(fields.get("uris", "").split()),
            tuple(fields.get("suites", "").split()),
            tuple(fields.get("components", "").split()),
            fields.get("signed-by", ""),
        )
        for fields in stanzas
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in {"no", "false", "0"}
    ]


def _fields(stanza: str) -> dict[str, str]:
    """Names, in small letters, and values; a value goes on in lines that begin with a space."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[name] = f"{fields.get(name, '')} {line.strip()}"
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def debian_mirror(sources: Iterable[Source]) -> str | None:
    """The address of the first mirror of Debian's archive, without a slash at its end; None if there is none."""
    return next(_mirrors(sources), None)


def _mirrors(sources: Iterable[Source]) -> Iterator[str]:
    # a source without a key of its own may be anybody's, from times when apt had one ring of keys for all
    for source in sorted(sources, key=lambda each: not any("/debian" in uri for uri in each.uris)):
        if source.is_debian:
            for uri in source.uris:
                if uri.startswith(_LIST):
                    yield from _listed(Path("/" + uri.removeprefix(_LIST).lstrip("/")))
                elif not uri.startswith("cdrom:"):
                    yield uri.rstrip("/")


def _listed(file: Path) -> list[str]:
    """The addresses in a list of mirrors: the first word of each line."""
    lines = file.read_text().splitlines() if file.is_file() else []
    words = [line.partition("#")[0].split() for line in lines]
    return [each[0].rstrip("/") for each in words if each]
