"""nginx's syntax: directives with words, and blocks of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.importing.source import MAX_DEPTH, MAX_VALUES, Node, SourceError, member_path

_LEXEME = re.compile(
    r"""(?P<space>[ \t\r\n]+|\#[^\n]*)
    |(?P<mark>[{};])
    |(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<word>(?:\\.|\$\{[^}\s]*\}|[^\s{};"'\\])(?:\\.|\$\{[^}\s]*\}|[^\s{};\\])*)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(slots=True)
class Directive:
    """`name words;` or `name words { children }`; `node` notes whether it was read."""

    name: str
    words: list[str]
    node: Node
    children: list["Directive"] = field(default_factory=list)

    def all(self, name: str) -> list["Directive"]:
        """The directives of a name in this block, which count as read."""
        found = [child for child in self.children if child.name == name]
        for child in found:
            child.node.scalar()
        return found

    def first(self, name: str) -> "Directive | None":
        return next(iter(self.all(name)), None)

    def skip(self, names: frozenset[str]) -> None:
        """Mark directives as read, with all within them: they mean nothing here."""
        for child in self.children:
            if child.name in names:
                child.node.take()

    @property
    def value(self) -> str:
        return self.words[0] if self.words else ""


def read_nginx(text: str) -> Directive:
    """A file as one block without a name. Raises SourceError."""
    lexemes = list(_lexemes(text))
    reader = _Reader(lexemes)
    children = reader.block("", 0)
    root = Node([child.node for child in children], 1)
    root.scalar()
    return Directive("", [], root, children)


def _lexemes(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind, text and line of each lexeme."""
    at, line = 0, 1
    while at < len(text):
        match = _LEXEME.match(text, at)
        if match is None:
            raise SourceError(f"line {line}: this is not nginx's syntax, at {text[at : at + 20].splitlines()[0]!r}")
        kind, lexeme = match.lastgroup or "", match[0]
        if kind != "space":
            yield kind, re.sub(r"\\(.)", r"\1", lexeme[1:-1]) if kind == "quoted" else lexeme, line
        line += lexeme.count("\n")
        at = match.end()


class _Reader:
    def __init__(self, lexemes: list[tuple[str, str, int]]) -> None:
        if len(lexemes) > MAX_VALUES:
            raise SourceError(f"more than {MAX_VALUES} words")
        self._lexemes = lexemes
        self._at = 0

    def block(self, path: str, depth: int) -> list[Directive]:
        """The directives up to the end of a block, or of the file."""
        if depth > MAX_DEPTH:
            raise SourceError(f"nested more than {MAX_DEPTH} deep")
        found: list[Directive] = []
        while self._at < len(self._lexemes):
            kind, lexeme, line = self._lexemes[self._at]
            if kind == "mark":
                if lexeme == "}" and depth:
                    self._at += 1
                    return found
                raise SourceError(f"line {line}: {lexeme!r} where a directive should begin")
            found.append(self._directive(path, depth))
        if depth:
            raise SourceError(f"{path} does not end: a }} is missing")
        return found

    def _directive(self, path: str, depth: int) -> Directive:
        words, line = [], self._lexemes[self._at][2]
        while self._at < len(self._lexemes):
            kind, lexeme, _ = self._lexemes[self._at]
            self._at += 1
            if kind != "mark":
                words.append(lexeme)
                continue
            if lexeme == "}":
                break
            name, rest = words[0], words[1:]
            if lexeme == ";":
                return Directive(name, rest, Node(" ".join(rest), line, member_path(path, name)))
            place = member_path(path, " ".join(words))
            children = self.block(place, depth + 1)
            return Directive(name, rest, Node([child.node for child in children], line, place), children)
        raise SourceError(f"line {line}: {words[0]} does not end in ; or a block")
