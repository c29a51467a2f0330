"""Text that a terminal shows without acting on it.

Characters that are not printable (controls of C0 and C1, DEL, marks that change the direction of writing, line
separators) are shown as in a Python literal: `\\x1b`, `\\u202e`.
"""

import re

# Characters that JSON's own escapes leave as they are: DEL, C1, line separators, marks of direction.
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """One line."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def plain_lines(text: str, indent: str = "") -> str:
    """Lines, such as a traceback: their ends stay, and all of them begin with `indent`."""
    return "\n".join(indent + plain(line) for line in text.split("\n"))


def plain_json(line: bytes) -> bytes:
    """A line of JSON in UTF-8, the same value without characters that a terminal would act on."""
    if line.isascii() and b"\x7f" not in line:
        return line
    text = line.decode("utf-8", "surrogatepass")
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8", "surrogatepass")


def aligned(table: list[list[str]], indent: str = "  ") -> str:
    """Rows of words as columns, whatever the words hold."""
    if not table:
        return ""
    table = [[plain(word) for word in row] for row in table]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(
        (indent + "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True))).rstrip()
        for row in table
    )
