"""Durations and amounts in words."""

_UNITS = (
    ("year", 365 * 86400),
    ("month", 30 * 86400),
    ("week", 7 * 86400),
    ("day", 86400),
    ("hour", 3600),
    ("minute", 60),
)


def duration(seconds: float) -> str:
    """A length of time in its largest unit of which there are at least two: "90 seconds", "3 hours"."""
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}s"
    whole = max(0, int(seconds))
    return "less than a second" if whole == 0 else f"{whole} second{'' if whole == 1 else 's'}"


def ago(seconds: float) -> str:
    """A time in the past, in words. A clock that was set back gives no negative times."""
    return f"{duration(seconds)} ago"


def amount(count: int) -> str:
    """A number of addresses: as it is while it can be read, else as a power of two."""
    return str(count) if count < 10_000_000 else f"2^{(count + 2).bit_length() - 1}"
