"""The corpora of others, read from folders that somebody has unpacked by hand; none of their files is here.

    pip download gunicorn --no-binary :all: --no-deps && tar xzf gunicorn-*.tar.gz
    pip download aiohttp --no-binary :all: --no-deps && tar xzf aiohttp-*.tar.gz      # holds llhttp too
    pip download h11 --no-binary :all: --no-deps && tar xzf h11-*.tar.gz
    python -m tests.door --corpus gunicorn-* --corpus aiohttp-* --corpus h11-*

Only the bytes are taken. What to expect of them our strict reader says: what a parser's own tests call valid is often a
dialect of its own. Many of these requests have no Host, and would all be refused for that alone: each of them is tried
once as it is and once with a Host. Raw bytes are looked for in three forms: gunicorn's `.http` files, the fenced blocks
of llhttp's `.md` files, and bytes literals of Python tests that begin like a request.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from .corpus import Case, judged
from .strict import Fault, read_all

_BEGINS = re.compile(rb"[\r\n]*[A-Za-z]+ [^\r\n]{1,200} ?HTTP/[0-9]")
_FENCED = re.compile(r"^```http\n(.*?)^```", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|([rntf]))")
_LETTERS = {"r": "\r", "n": "\n", "t": "\t", "f": "\f"}
_MAX_BYTES = 1 << 20


def load(folder: Path) -> list[Case]:
    """All requests that are found below a folder, each once; its name is the corpus."""
    folder = folder.resolve()
    corpus = folder.parent.name if folder.name == "tests" else folder.name
    found: dict[bytes, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in _READERS and path.is_file() and "test" in str(path.relative_to(folder.parent)):
            for name, raw in _READERS[path.suffix](path):
                if 0 < len(raw) < _MAX_BYTES:
                    found.setdefault(raw, f"{path.name}: {name}")
    for raw, name in list(found.items()):
        with_host = _with_host(raw)
        if with_host is not None:
            found.setdefault(with_host, f"{name}, with Host")
    return [judged(name, raw, corpus, corpus) for raw, name in found.items()]


def _with_host(raw: bytes) -> bytes | None:
    """The same with a Host in each request that lacks one; None where none does, or where it cannot be told."""
    parts = []
    missing = False
    for request in read_all(raw):
        part = request.raw
        if Fault.HOST_MISSING in request.faults:
            missing = True
            end = part.find(b"\n", len(part) - len(part.lstrip(b"\r\n"))) + 1
            part = part[:end] + b"Host: a.example\r\n" + part[end:]
        parts.append(part)
    rest = raw[sum(len(request.raw) for request in read_all(raw)) :]
    return b"".join(parts) + rest if missing else None


def _gunicorn(path: Path) -> Iterator[tuple[str, bytes]]:
    """Line ends and other odd bytes are written as escapes; the line ends of the file itself mean nothing."""
    text = path.read_bytes().replace(b"\n", b"").decode("latin-1").replace("\\0", "\\x00")
    yield path.parent.name, _unescaped(text)


def _llhttp(path: Path) -> Iterator[tuple[str, bytes]]:
    """Line ends are CRLF, the last one does not count; a backslash at the end of a line joins it to the next one."""
    if "request" not in str(path):
        return
    text = path.read_text(encoding="utf-8")
    for match in _FENCED.finditer(text):
        headings = _HEADING.findall(text[: match.start()])
        block = re.sub(r"\\\n", "", match[1].removesuffix("\n")).replace("\n", "\r\n")
        yield headings[-1] if headings else "", _unescaped(block)


def _python(path: Path) -> Iterator[tuple[str, bytes]]:
    """Bytes literals, and sums of them, that begin like a request."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    inner: set[int] = set()
    for node in ast.walk(tree):
        if id(node) in inner or not isinstance(node, ast.expr):
            continue
        value = _constant(node)
        if value is not None:
            inner.update(id(child) for child in ast.walk(node))
            if _BEGINS.match(value):
                yield f"line {node.lineno}", value


def _constant(node: ast.expr) -> bytes | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
        return node.value
    if isinstance(node, ast.BinOp):
        left, right = _constant(node.left), _constant(node.right)
        if isinstance(node.op, ast.Add) and left is not None and right is not None:
            return left + right
        times = node.right.value if isinstance(node.right, ast.Constant) else None
        if (
            isinstance(node.op, ast.Mult)
            and left is not None
            and isinstance(times, int)
            and times * len(left) < _MAX_BYTES
        ):
            return left * times
    return None


def _unescaped(text: str) -> bytes:
    plain = _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else _LETTERS[match[2]], text)
    return plain.encode("latin-1" if all(ord(character) < 256 for character in plain) else "utf-8")


_READERS = {".http": _gunicorn, ".md": _llhttp, ".py": _python}
