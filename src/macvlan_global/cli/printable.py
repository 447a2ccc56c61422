"""Text of anybody for a terminal or a log: names and keys of a shared store may hold whatever somebody wrote there."""


def printable(text: str) -> str:
    """The text with control characters escaped as Python writes them: a terminal would obey them, and a line break
    would be one line more. Bytes that were not UTF-8, and stand in it as lone surrogates (PEP 383), are escaped as the
    bytes that they were: no output takes a surrogate."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) & 0xFF:02x}"
    return character.encode("unicode_escape").decode()
