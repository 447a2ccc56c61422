"""The suite's browser, before its first test."""

import pytest

from lab.errors import LabError
from lab.packages import ensure_chromium


@pytest.fixture(scope="session", autouse=True)
def _browser() -> None:
    """Have it, or fail with one line that says what to do."""
    try:
        ensure_chromium()
    except LabError as missing:
        pytest.fail(str(missing), pytrace=False)
