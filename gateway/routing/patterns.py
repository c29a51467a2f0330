"""The grammar of routes.

    [METHOD,...] [host]/path ... [-> upstream[:/path]]

A path's segments are literals, captures and a last `**` (the rest, also nothing). `{name}` matches a segment, which may
be empty (RFC 3986); `{name:int}` one of a kind; `{file}.css` the text beside its literals. One label of a host may be a
capture too. Literals are kept as they are compared: percent-encoded unreserved characters are decoded (RFC 3986,
section 2.3), once. Several paths are one route. Targets are defined in `upstreams.targets`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes

from gateway.answers.targets import Answer, Folder, parse_own
from gateway.http.paths import has_dot_piece, normalized
from gateway.http.queries import masked_target
from gateway.http.values import OWN
from gateway.routing.conditions import ALWAYS, When
from gateway.routing.segments import KINDS, Capture, Segment
from gateway.upstreams.targets import Target, TargetError, Template, parse_target

_METHOD = re.compile(r"[A-Z][A-Z-]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?")
_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*")
_CAPTURE = re.compile(r"([^{}]*)\{([^{}]*)\}([^{}]*)")

ANY_LABEL = "{}"  # in a host, the label that is a capture
_EXPECTED = "expected [METHOD,...] [host]/path, like 'GET /users/{id}' or '/users/**'"


class PatternError(ValueError):
    """A route line that does not parse; the text says what was expected."""


# -- patterns -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern: one path of a route, with the `others` of the same route behind the first one.

    `text` is all of it as it was written, `path` this path alone. `host` is in lower case, with ANY_LABEL for a
    capture; with `rest` the path ends in `/**`; `params` are the names of the captures, that of the host first. With
    `ignores_case` literals are compared without the case of ASCII. `when` must hold of a request.
    """

    text: str
    methods: frozenset[str]
    host: str
    path: str
    segments: tuple[Segment, ...]
    rest: bool
    params: tuple[str, ...]
    ignores_case: bool = False
    when: When = ALWAYS
    others: "tuple[Pattern, ...]" = ()

    @property
    def paths(self) -> "tuple[Pattern, ...]":
        """All paths of the route, this one first."""
        return (self, *self.others)

    @property
    def template(self) -> str:
        """All paths of the route as they were written."""
        return " ".join(one.path for one in self.paths)

    @property
    def shared_params(self) -> tuple[str, ...]:
        """The parameters that every path of the route has."""
        return tuple(name for name in self.params if all(name in other.params for other in self.others))

    @property
    def allowed(self) -> frozenset[str]:
        """The methods that it answers, with HEAD where GET is one; empty means every method."""
        return self.methods | {"HEAD"} if "GET" in self.methods else self.methods

    def or_get(self) -> "Pattern":
        """The pattern of a view that only reads: where it names no method, GET."""
        if self.methods:
            return self
        return replace(
            self,
            methods=frozenset({"GET"}),
            text=f"GET {self.text}",
            others=tuple(other.or_get() for other in self.others),
        )

    def under(self, *, ignores_case: bool, when: When) -> "Pattern":
        """The pattern with these options of its route, for all of its paths."""
        if (ignores_case, when) == (self.ignores_case, self.when):
            return self
        others = tuple(other.under(ignores_case=ignores_case, when=when) for other in self.others)
        return replace(self, ignores_case=ignores_case, when=when, others=others)

    def regex(self) -> str:
        """The path for Django's own resolver, which matches decoded text without the first slash."""
        names = iter(self.params[1:] if ANY_LABEL in self.host else self.params)
        parts = [self._regex_of(segment, names) for segment in self.segments]
        if not self.rest:
            return "^" + "/".join(parts) + r"\Z"
        return "^" + "/".join(parts) + ("(?:/.*)?" if parts else ".*") + r"\Z"

    def _regex_of(self, segment: Segment, names: Iterator[str]) -> str:
        if isinstance(segment, str):
            return self._literal(segment)
        value = KINDS[segment.kind].pattern if segment.kind else "[^/]*"
        return f"{self._literal(segment.before)}(?P<{next(names)}>{value}){self._literal(segment.after)}"

    def _literal(self, text: str) -> str:
        decoded = unquote_to_bytes(text).decode("utf-8", "replace")
        if not self.ignores_case:
            return re.escape(decoded)
        # Not `(?i:...)`, which folds more than ASCII, and which Django cannot reverse.
        return "".join(
            f"[{char}{char.swapcase()}]" if char.isascii() and char.isalpha() else re.escape(char) for char in decoded
        )


def parse_pattern(text: str) -> Pattern:
    """`[METHOD,...] [host]/path ...` -> Pattern; raises PatternError."""
    words = text.split()
    if not words:
        raise PatternError(_EXPECTED)
    whole, methods = " ".join(words), frozenset[str]()
    if len(words) > 1 and "/" not in words[0]:
        methods = _parse_methods(words.pop(0))
    first, *others = [_parse_path(word, whole, methods) for word in words]
    return replace(first, others=tuple(others))


def _parse_methods(text: str) -> frozenset[str]:
    methods = text.split(",")
    for method in methods:
        if not _METHOD.fullmatch(method):
            raise PatternError(
                f"'{masked_target(method or text)}' is not a method; methods are upper case with commas: 'GET,HEAD'"
            )
    return frozenset(methods)


def _parse_path(word: str, text: str, methods: frozenset[str]) -> Pattern:
    """`[host]/path` -> its Pattern."""
    written, slash, path = word.partition("/")
    if not slash and written in {">", "=>", "-->", "-"}:
        raise PatternError(f"the arrow before a target is written '->', not '{written}'")
    if not slash:
        raise PatternError(f"the path must begin with a slash: '/{masked_target(written)}' perhaps")
    params: list[str] = []
    host = _parse_host(written, params)
    segments: list[Segment] = []
    parts = path.split("/")
    rest = parts[-1] == "**"
    for part in parts[:-1] if rest else parts:
        if (match := _CAPTURE.fullmatch(part)) is not None and all(map(_is_literal, match.group(1, 3))):
            name, colon, kind = match[2].partition(":")
            params.append(_parse_name(name, params))
            if colon and kind not in KINDS:
                raise PatternError(f"'{{{match[2]}}}': a kind is one of {', '.join(KINDS)}")
            segments.append(Capture(normalized(match[1]), normalized(match[3]), kind))
        elif _is_literal(part):
            segments.append(normalized(part))
        else:
            raise PatternError(_segment_advice(part))
    shown = [segment if isinstance(segment, str) else f"{segment.before}x{segment.after}" for segment in segments]
    if has_dot_piece("".join(f"/{segment or 'x'}" for segment in shown)):
        raise PatternError("a '.' or '..' segment never matches: such paths are refused")
    return Pattern(text, methods, host, slash + path, tuple(segments), rest, tuple(params))


def _is_literal(text: str) -> bool:
    return _LITERAL.fullmatch(text) is not None and "*" not in text


def _parse_host(text: str, params: list[str]) -> str:
    """A host in lower case, ANY_LABEL for a label that is a capture; its name goes to `params`."""
    labels = text.split(".") if text else []
    for number, label in enumerate(labels):
        if label.startswith("{") and label.endswith("}"):
            if params:
                raise PatternError("one label of a host can be a value, as in '{tenant}.example.com'")
            params.append(_parse_name(label[1:-1], params))
            labels[number] = ANY_LABEL
        elif "{" in label or "}" in label:
            raise PatternError(f"a value in a host is a whole label, as in '{{tenant}}.example.com'; not in '{label}'")
        elif not _LABEL.fullmatch(label):
            raise PatternError(f"'{masked_target(text)}' is not a host name (no port, no scheme, no wildcard)")
    if params and len(labels) == 1:
        raise PatternError(f"the path must begin with a slash: '/{text}' perhaps; a host has more labels than a value")
    if params and labels[-1].isdigit():
        raise PatternError("an address has no labels: a value stands in a name, as in '{tenant}.example.com'")
    return ".".join(labels).lower()


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
    if part.count("{") > 1:
        return f"one value to a segment, as in '/v{{n}}/{{id}}:stop'; not '{shown}'"
    if part.count("{") != part.count("}"):
        return f"a brace without its partner in '{shown}'"
    if part == "*":
        return "'*' is no wildcard; write '{name}' for one segment, '**' for the rest"
    if "*" in part:
        return f"'*' is not a wildcard in '{shown}'; write '{{name}}' for one segment, '**' for the rest"
    if name := angle_name(part):
        return f"a value is written in braces: '{{{name}}}', not '{shown}'"
    return f"'{shown}' holds characters that must be percent-encoded in a path"


def angle_name(part: str) -> str:
    """The value that Django and Flask would see in a segment: `id` in `<id>`, `id:int` in `<int:id>`; empty if none."""
    match = _IN_ANGLES.fullmatch(part)
    if match is None:
        return ""
    kind = {"str": "", "string": "", "slug": ""}.get(match[1] or "", match[1] or "")
    return f"{match[2]}:{kind}" if kind in KINDS else str(match[2])


_IN_ANGLES = re.compile(r"<(?:([a-z]+):)?([A-Za-z_]\w*)>", re.ASCII)


# -- whole lines ----------------------------------------------------------------------------------------------------
def parse_line(text: str) -> tuple[Pattern, Target | Answer | Folder | None]:
    """A whole route line; the names in the target must be parameters of the pattern. Raises PatternError."""
    left, arrow, right = text.partition("->")
    if not arrow and "=>" in text:
        raise PatternError("the arrow of a route is ->, not =>")
    pattern = parse_pattern(left)
    if not arrow:
        return pattern, None
    try:
        target = parse_own(right) or parse_target(right)
    except TargetError as error:
        raise PatternError(str(error)) from None
    if isinstance(target, Folder):
        if any(target.rest != path.rest for path in pattern.paths):
            raise PatternError("a folder's path and the pattern both end in '/**', or neither does")
        if any(path.params for path in pattern.paths):
            raise PatternError("a folder is asked for by '/**' alone; the pattern has a parameter")
        return pattern.or_get(), target
    check_template(pattern, target.template)
    return pattern, target


def check_names(pattern: Pattern, target: Target) -> None:
    """Raises PatternError if the target uses a name that the pattern does not give."""
    check_template(pattern, target.template)


def check_template(pattern: Pattern, template: Template | None) -> None:
    """Raises PatternError if a template uses a name that the pattern does not give."""
    if template is None:
        return
    given = pattern.shared_params
    for reference in template.references:
        name = reference.owner
        if name not in given and name not in OWN:
            known = ", ".join(f"{{{name}}}" for name in given) or "none"
            where = "every path of the pattern (parameters of all" if pattern.others else "the pattern (its parameters"
            raise PatternError(f"'{{{name}}}' is not in {where}: {known})")
    if template.rest and not all(path.rest for path in pattern.paths):
        what = "a path of the pattern" if pattern.others else "the pattern"
        raise PatternError(f"the target ends in '**', but {what} does not")
