"""A cell of a table, apart from what draws it, which is slow to load."""

Cell = str | tuple[str, str]
"""Text, or text and its style (as rich names styles)."""

GOOD, WARN, BAD, DIM = "green", "yellow", "red", "dim"
