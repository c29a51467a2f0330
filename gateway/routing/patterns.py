"""The grammar of routes.

    [METHOD,...] [host]/path [-> upstream[:/path]]

A pattern's segments are literals, `{name}` (one segment, which may be empty, as RFC 3986 has it) and a last `**` (the
rest, also nothing). Literals are kept as they are compared: percent-encoded unreserved characters are decoded (RFC
3986, section 2.3), once. What a target is, says `upstreams.targets`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes

from gateway.answers.targets import Answer, Folder, parse_own
from gateway.http.paths import has_dot_piece, normalized
from gateway.http.queries import masked_target
from gateway.http.values import OWN
from gateway.upstreams.targets import Target, TargetError, Template, parse_target

_METHOD = re.compile(r"[A-Z][A-Z-]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*")
_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*")


class PatternError(ValueError):
    """A route line that does not parse; the text says what was expected."""


# -- patterns -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern. `segments` hold literals as matched, None for a `{name}`; `rest` says it ends in `/**`."""

    text: str
    methods: frozenset[str]
    host: str
    segments: tuple[str | None, ...]
    rest: bool
    params: tuple[str, ...]

    @property
    def path(self) -> str:
        """The path as it was written: `/users/{id}/**`."""
        return self.text[self.text.index("/") :]

    @property
    def allowed(self) -> frozenset[str]:
        """The methods it answers, GET bringing HEAD; empty means every one."""
        return self.methods | {"HEAD"} if "GET" in self.methods else self.methods

    def or_get(self) -> "Pattern":
        """The pattern of a view that only reads: where it names no method, GET."""
        return self if self.methods else replace(self, methods=frozenset({"GET"}), text=f"GET {self.text}")

    def regex(self) -> str:
        """The pattern for Django's own resolver, which matches decoded text without the first slash."""
        names = iter(self.params)
        parts = [
            f"(?P<{next(names)}>[^/]*)"
            if part is None
            else re.escape(unquote_to_bytes(part).decode("utf-8", "replace"))
            for part in self.segments
        ]
        if not self.rest:
            return "^" + "/".join(parts) + r"\Z"
        return "^" + "/".join(parts) + ("(?:/.*)?" if parts else ".*") + r"\Z"


def parse_pattern(text: str) -> Pattern:
    """`[METHOD,...] [host]/path` -> Pattern; raises PatternError."""
    words = text.split()
    if not words or len(words) > 2:
        raise PatternError("expected [METHOD,...] [host]/path, like 'GET /users/{id}' or '/users/**'")
    methods = _parse_methods(words[0]) if len(words) == 2 else frozenset()
    host, slash, path = words[-1].partition("/")
    if not slash:
        raise PatternError(f"the path must begin with a slash: '/{masked_target(host)}' perhaps")
    if host and not _HOST.fullmatch(host):
        raise PatternError(f"'{masked_target(host)}' is not a host name (no port, no scheme, no wildcard)")
    segments, rest, params = _parse_path(path)
    return Pattern(" ".join(words), methods, host.lower(), segments, rest, params)


def _parse_methods(text: str) -> frozenset[str]:
    methods = text.split(",")
    for method in methods:
        if not _METHOD.fullmatch(method):
            raise PatternError(
                f"'{masked_target(method or text)}' is not a method; methods are upper case with commas: 'GET,HEAD'"
            )
    return frozenset(methods)


def _parse_path(path: str) -> tuple[tuple[str | None, ...], bool, tuple[str, ...]]:
    segments: list[str | None] = []
    params: list[str] = []
    parts = path.split("/")
    rest = parts[-1] == "**"
    for part in parts[:-1] if rest else parts:
        if part.startswith("{") and part.endswith("}"):
            params.append(_parse_name(part[1:-1], params))
            segments.append(None)
        elif _LITERAL.fullmatch(part) and "*" not in part:
            segments.append(normalized(part))
        else:
            raise PatternError(_segment_advice(part))
    if has_dot_piece("".join(f"/{segment or 'x'}" for segment in segments)):
        raise PatternError("a '.' or '..' segment never matches: such paths are refused")
    return tuple(segments), rest, tuple(params)


def _parse_name(name: str, taken: Sequence[str]) -> str:
    if not _NAME.fullmatch(name):
        raise PatternError(f"'{{{name}}}' is not a parameter; names are like {{id}}, {{user_id}} or {{userName}}")
    if name in taken:
        raise PatternError(f"'{{{name}}}' stands twice")
    return name


def _segment_advice(part: str) -> str:
    shown = masked_target(part)
    if "**" in part:
        return f"'**' stands alone and last, as in '/users/**'; not in '{shown}'"
    if "{" in part or "}" in part:
        return f"a parameter is a whole segment, as in '/users/{{id}}'; not in '{shown}'"
    if part == "*":
        return "'*' is no wildcard; write '{name}' for one segment, '**' for the rest"
    if "*" in part:
        return f"'*' is not a wildcard in '{shown}'; write '{{name}}' for one segment, '**' for the rest"
    return f"'{shown}' holds characters that must be percent-encoded in a path"


# -- whole lines ----------------------------------------------------------------------------------------------------
def parse_line(text: str) -> tuple[Pattern, Target | Answer | Folder | None]:
    """A whole route line; the target's names must be the pattern's. Raises PatternError."""
    left, arrow, right = text.partition("->")
    pattern = parse_pattern(left)
    if not arrow:
        return pattern, None
    try:
        target = parse_own(right) or parse_target(right)
    except TargetError as error:
        raise PatternError(str(error)) from None
    if isinstance(target, Folder):
        if target.rest != pattern.rest:
            raise PatternError("a folder's path and the pattern both end in '/**', or neither does")
        if pattern.params:
            raise PatternError("a folder is asked for by '/**' alone; the pattern has a parameter")
        return pattern.or_get(), target
    check_template(pattern, target.template)
    return pattern, target


def check_names(pattern: Pattern, target: Target) -> None:
    """Raises PatternError when the target asks for what the pattern does not give."""
    check_template(pattern, target.template)


def check_template(pattern: Pattern, template: Template | None) -> None:
    """Raises PatternError when a template asks for what the pattern does not give."""
    if template is None:
        return
    for reference in template.references:
        name = reference.owner
        if name not in pattern.params and name not in OWN:
            known = ", ".join(f"{{{name}}}" for name in pattern.params) or "none"
            raise PatternError(f"'{{{name}}}' is not in the pattern (its parameters: {known})")
    if template.rest and not pattern.rest:
        raise PatternError("the target ends in '**', but the pattern does not")


def clash(patterns: Sequence[Pattern]) -> list[tuple[int, int]]:
    """Pairs of indices of equal routes: same host, same path but for parameter names, a method in common."""
    seen: dict[tuple[str, tuple[str | None, ...], bool, str], int] = {}
    pairs: list[tuple[int, int]] = []
    for index, pattern in enumerate(patterns):
        for method in sorted(pattern.methods) or [""]:
            first = seen.setdefault((pattern.host, pattern.segments, pattern.rest, method), index)
            if first != index and (first, index) not in pairs:
                pairs.append((first, index))
    return pairs
