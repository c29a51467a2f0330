"""The file of another gateway as a tree of values with their places, and with marks for those that were read.

A parser reads members by `get`, `text`, `items`; members that it has not read by the end are reported, so that no key
of a file is dropped silently. JSON may hold comments and trailing commas, as in the configuration of .NET.
"""

import re
from collections.abc import Iterator
from typing import Final

MAX_BYTES: Final = 8 * 2**20
MAX_VALUES: Final = 500_000  # aliases of YAML can make a small file large
MAX_DEPTH: Final = 100

Scalar = str | int | float | bool | None


class SourceError(ValueError):
    """A file that cannot be read; the text says where and why."""


class Node:
    """A value with its place: its line, and its path in the file, as `endpoints[3].method`."""

    __slots__ = ("_used", "line", "path", "value")

    def __init__(self, value: "Scalar | list[Node] | dict[str, Node]", line: int, path: str = "") -> None:
        self.value = value
        self.line = line
        self.path = path
        self._used = False

    def __repr__(self) -> str:
        return f"<Node {self.path} {self.plain()!r}>"

    def get(self, *names: str) -> "Node | None":
        """The member with that name, or further down by several names; None where there is none."""
        found: Node | None = self
        for name in names:
            if found is None or not isinstance(found.value, dict):
                return None
            found._used = True
            found = found.value.get(name)
        if found is not None:
            found._used = True
        return found

    def text(self, *names: str, default: str = "") -> str:
        """A scalar member as text; the default where it is missing or no scalar."""
        found = self.get(*names)
        return default if found is None else found.scalar(default)

    def scalar(self, default: str = "") -> str:
        """This value as text; the default for a list, an object or null."""
        self._used = True
        if self.value is None or isinstance(self.value, (list, dict)):
            return default
        return str(self.value).lower() if isinstance(self.value, bool) else str(self.value)

    def is_true(self, *names: str, default: bool = False) -> bool:
        """Whether a member is true; the default where it is missing."""
        return self.text(*names, default=str(default)).lower() in {"true", "on", "yes", "1"}

    def items(self, *names: str) -> "list[Node]":
        """The items of a list member; a single value counts as a list of one, a missing one as an empty list."""
        found = self.get(*names)
        if found is None or found.value is None:
            return []
        found._used = True
        return found.value if isinstance(found.value, list) else [found]

    def texts(self, *names: str) -> list[str]:
        """The items of a list member as texts."""
        return [item.scalar() for item in self.items(*names)]

    def members(self, *names: str) -> "dict[str, Node]":
        """The members of an object; none for anything else."""
        found = self.get(*names)
        if found is None:
            return {}
        found._used = True
        return found.value if isinstance(found.value, dict) else {}

    def take(self) -> None:
        """Mark this value and all within it as read."""
        self._used = True
        for child in self._children():
            child.take()

    def skip(self, *names: str) -> None:
        """Mark members as read, since they mean nothing here."""
        for name in names:
            found = self.get(name)
            if found is not None:
                found.take()

    def plain(self) -> object:
        """The value as a Python object; marks nothing as read."""
        if isinstance(self.value, dict):
            return {name: child.plain() for name, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def unused(self) -> "Iterator[Node]":
        """The values that were not read; an object that was not read at all counts once, without its members."""
        if not self._used:
            yield self
            return
        for child in self._children():
            yield from child.unused()

    def _children(self) -> "list[Node]":
        if isinstance(self.value, dict):
            return list(self.value.values())
        return self.value if isinstance(self.value, list) else []


def member_path(path: str, name: str | int) -> str:
    """The path of a member or item below another path."""
    if isinstance(name, int):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name


# -- JSON ---------------------------------------------------------------------------------------------------------

_LEXEME = re.compile(
    r"""(?P<space>[ \t\r\n\ufeff]+|//[^\n]*|/\*.*?\*/)
    |(?P<mark>[{}\[\]:,])
    |(?P<string>"(?:[^"\\\x00-\x1f]|\\.)*")
    |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<word>true|false|null)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|(["\\/bfnrt]))')
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None}


def read_json(text: str) -> Node:
    """A JSON document as nodes. Raises SourceError."""
    return _Json(text).document()


class _Json:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._kind, self._lexeme = "", ""
        self._next()

    def document(self) -> Node:
        node = self._value("", 0)
        if self._kind:
            raise self._error("the end of the document")
        return node

    def _next(self) -> None:
        while self._at < len(self._text):
            match = _LEXEME.match(self._text, self._at)
            if match is None:
                shown = self._text[self._at : self._at + 20].split("\n")[0]
                raise SourceError(f"line {self._line}: this is not JSON, at {shown!r}")
            self._at = match.end()
            self._kind, self._lexeme = match.lastgroup or "", match[0]
            if self._kind != "space":
                return
            self._line += self._lexeme.count("\n")
        self._kind, self._lexeme = "", ""

    def _error(self, wanted: str) -> SourceError:
        return SourceError(
            f"line {self._line}: expected {wanted}, found {self._lexeme[:40] or 'the end of the file'!r}"
        )

    def _value(self, path: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise SourceError(f"line {self._line}: nested more than {MAX_DEPTH} deep")
        line, kind, lexeme = self._line, self._kind, self._lexeme
        if lexeme == "{":
            return self._object(line, path, depth)
        if lexeme == "[":
            return self._list(line, path, depth)
        if kind not in {"string", "number", "word"}:
            raise self._error("a value")
        self._next()
        if kind == "string":
            return Node(_unescaped(lexeme[1:-1]), line, path)
        if kind == "word":
            return Node(_WORDS[lexeme], line, path)
        if len(lexeme) > 30:  # kept as text: no number here is so large
            return Node(lexeme, line, path)
        return Node(float(lexeme) if set(lexeme) & set(".eE") else int(lexeme), line, path)

    def _object(self, line: int, path: str, depth: int) -> Node:
        members: dict[str, Node] = {}
        self._next()
        while self._lexeme != "}":
            if self._kind != "string":
                raise self._error("a name in quotes")
            name = _unescaped(self._lexeme[1:-1])
            self._next()
            self._expect(":")
            members[name] = self._value(member_path(path, name), depth + 1)
            self._separate("}")
        self._next()
        return Node(members, line, path)

    def _list(self, line: int, path: str, depth: int) -> Node:
        items: list[Node] = []
        self._next()
        while self._lexeme != "]":
            items.append(self._value(member_path(path, len(items)), depth + 1))
            self._separate("]")
        self._next()
        return Node(items, line, path)

    def _expect(self, mark: str) -> None:
        if self._kind != "mark" or self._lexeme != mark:
            raise self._error(f"'{mark}'")
        self._next()

    def _separate(self, end: str) -> None:
        if self._lexeme != end or self._kind != "mark":
            self._expect(",")


def _unescaped(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        return chr(int(match[1], 16)) if match[1] else _ESCAPES[match[2]]

    joined = _ESCAPE.sub(one, text)
    # Two escapes of a surrogate pair are one character.
    return joined.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
