"""The files that docs/compose.md shows, as they stand there."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "compose.md"
_BLOCK = re.compile(r"^```yaml\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"^(?:name: |# stack )(?P<name>\w+)\n")


def compose_files() -> dict[str, str]:
    """Each file by the name of its project, or of its stack, which its first line has. Parts of files have none."""
    blocks = [found["text"] for found in _BLOCK.finditer(PAGE.read_text())]
    return {found["name"]: text for text in blocks if (found := _NAME.match(text))}
