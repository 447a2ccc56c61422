"""axe-core, the engine of accessibility checks, as the package axe-playwright-python brings it."""

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


async def violations(page: Page) -> list[str]:
    """Violations of WCAG 2.2 AA and of good practice in what is shown: rule, element and reason.

    The script is evaluated by the debugger, which the page's content security policy does not concern.
    """
    found = await Axe().run(page, options={"runOnly": RULES})
    return [
        f"{each['id']}: {node['html'][:120]}: {node['failureSummary']}"
        for each in found.response["violations"]
        for node in each["nodes"]
    ]
