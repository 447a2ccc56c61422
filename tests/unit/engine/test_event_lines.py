"""Events of the engine come as lines of any length: a long one costs no other, and not the stream."""

import json
from collections.abc import AsyncIterator

import pytest

from macvlan_global.engine.docker import LONGEST_EVENT, event_lines
from macvlan_global.engine.inspected import event_of_beginning
from macvlan_global.engine.ports import ContainerEvent

ID = "ab" * 32


async def _pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def _lines(data: bytes, size: int) -> list[tuple[bytes, bool]]:
    return [each async for each in event_lines(_pieces(data, size))]


def _event(labels: int, action: str = "start") -> bytes:
    attributes = {"a": "x" * labels, "name": "web"}
    seen = {"status": action, "id": ID, "from": "alpine", "Type": "container", "Action": action}
    return json.dumps({**seen, "Actor": {"ID": ID, "Attributes": attributes}}, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
async def test_lines_are_whole_whatever_the_pieces_are(size: int) -> None:
    """Empty lines are none, and a last one without an end is one."""
    assert await _lines(b"one\n\ntwo\r\n three", size) == [(b"one", False), (b"two\r", False), (b" three", False)]


@pytest.mark.parametrize("length", [LONGEST_EVENT, LONGEST_EVENT + 1, 3_000_000])
async def test_of_a_long_line_the_beginning_is_kept(length: int) -> None:
    """The lines before and behind it are whole."""
    found = await _lines(b"first\n" + b"x" * length + b"\nlast\n", 65536)
    assert found == [(b"first", False), (b"x" * LONGEST_EVENT, True), (b"last", False)]


@pytest.mark.parametrize(
    ("labels", "action", "event"),
    [
        (1_000_000, "start", ContainerEvent("start", ID, "")),
        (1_000_000, "die", ContainerEvent("die", ID, "")),
        (1_000_000, "pause", None),
    ],
)
async def test_a_container_with_a_megabyte_of_labels_is_told_of(
    labels: int, action: str, event: ContainerEvent | None
) -> None:
    """What happened and to whom is at the beginning of the line."""
    [(line, cut)] = await _lines(_event(labels, action), 65536)
    assert cut
    assert event_of_beginning(line) == event


@pytest.mark.parametrize(
    "line", [b"", b"x" * 2000, b" " * 2000 + _event(0), b'{"Type":"container","Action":"start","Actor":{"ID":"no id"']
)
def test_another_beginning_is_no_event(line: bytes) -> None:
    """It is passed over."""
    assert event_of_beginning(line) is None
