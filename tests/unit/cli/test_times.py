"""Times and amounts in words."""

import pytest

from macvlan_global.cli.times import ago, amount, duration

DAY = 86400


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "less than a second"),
        (0.9, "less than a second"),
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (3 * 3600 - 1, "2 hours"),
        (2 * DAY, "2 days"),
        (14 * DAY, "2 weeks"),
        (61 * DAY, "2 months"),
        (800 * DAY, "2 years"),
    ],
)
def test_a_duration_is_in_the_largest_unit_that_fits_twice(seconds: float, words: str) -> None:
    """Rounded down; what lies in the future is now."""
    assert duration(seconds) == words
    assert ago(seconds) == f"{words} ago"


@pytest.mark.parametrize(("count", "words"), [(0, "0"), (254, "254"), (2**24 - 2, "2^24"), (2**64 - 1, "2^64")])
def test_amounts_of_addresses_can_be_read(count: int, words: str) -> None:
    """A /8 has 2^24 of them, less two that are never handed out; a /64 less one."""
    assert amount(count) == words
