"""Error that stops the demo."""


class DemoError(Exception):
    """It cannot go on. The text is one line: what is wrong, and what to do next."""
