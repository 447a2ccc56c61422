"""axe-core, the engine of accessibility checks: as the npm registry has it, version 4.14.1, MPL-2.0, unchanged."""

import hashlib
from pathlib import Path
from typing import Any

from playwright.async_api import Page

SCRIPT = Path(__file__).parent / "axe-core" / "axe.min.js"
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


async def violations(page: Page) -> list[str]:
    """Violations of WCAG 2.2 AA and of good practice in what is shown: rule, element and reason.

    The script is evaluated by the debugger, which the page's content security policy does not concern.
    """
    script = SCRIPT.read_bytes()
    assert hashlib.sha256(script).hexdigest() == SHA256
    await page.evaluate(script.decode())
    found: dict[str, Any] = await page.evaluate("rules => axe.run({runOnly: rules})", RULES)
    return [
        f"{each['id']}: {node['html'][:120]}: {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]
