"""Text of anybody for a terminal or a log: names and keys of a shared store may hold whatever somebody wrote there."""


def printable(text: str) -> str:
    """The text with control characters escaped as Python writes them: a terminal would obey them, and a line break
    would be one line more."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
