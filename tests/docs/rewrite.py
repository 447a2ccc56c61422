"""Run the console blocks of pages and write down what the commands print now.

    .venv/bin/python -m tests.docs.rewrite README.md docs/first-network.md

Only output that no longer matches is replaced. Read the difference before you commit it: a page that changed may be a
driver that broke. Pages that need VLAN or dummy links are run where the kernel has them.
"""

import sys
from pathlib import Path

from tests.docs.console import parse, rewritten
from tests.docs.session import host_of_the_pages, say


def main(names: list[str]) -> None:
    """Rewrite these pages."""
    with host_of_the_pages() as site:
        for name in names:
            page = Path(name)
            text = page.read_text()
            printed = [(command, say(site, command.text)[1]) for command in parse(text).commands]
            target = Path(f"/mnt/out/{page.name}") if Path("/mnt/out").is_dir() else page
            target.write_text(rewritten(text, printed))
            site.clean()


if __name__ == "__main__":
    main(sys.argv[1:])
