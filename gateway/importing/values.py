"""Values in the notation of other gateways -> in that of the environment, and paths with parameters."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from urllib.parse import quote, urlsplit

from gateway.routing.conditions import parse_when

_GO_DURATION = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ns|us|µs|ms|h|m|s))+")
_GO_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|h|m|s)")
_GO_MS = {
    "ns": Fraction(1, 10**6),
    "us": Fraction(1, 1000),
    "µs": Fraction(1, 1000),
    "ms": Fraction(1),
    "s": Fraction(1000),
    "m": Fraction(60_000),
    "h": Fraction(3_600_000),
}
_SIZE = re.compile(r"([0-9]{1,12})\s*([kmg]?)(?:i?b)?", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
_BESIDE = re.compile(r"([^{}*]*)\{([^{}*:]+)\}([^{}*]*)")
_HEX = ("[0-9a-fA-F]", "[a-fA-F0-9]", "[0-9A-Fa-f]", "[A-Fa-f0-9]")
# Expressions that are equal to a kind of segments. An `int` has no leading zeros, and at most 19 digits.
KINDS = {
    **dict.fromkeys((r"\d+", "[0-9]+"), "int"),
    **dict.fromkeys((r"\w+", "[a-zA-Z0-9_]+", "[A-Za-z0-9_]+", "[0-9a-zA-Z_]+", "[0-9A-Za-z_]+"), "word"),
    **{f"{digit}+": "hex" for digit in _HEX},
    **{"-".join(f"{digit}{{{count}}}" for count in (8, 4, 4, 4, 12)): "uuid" for digit in _HEX},
}
INT = "{..:int} has no leading zeros, and at most 19 digits"
_PARAMETER = re.compile(r"[^a-z0-9_]+")


def duration(milliseconds: int | Fraction) -> str:
    """`1500` -> `1500ms`, `2000` -> `2s`; rounded up to a millisecond."""
    whole = -(-Fraction(milliseconds) // 1)
    if whole and whole % 60_000 == 0:
        return f"{whole // 60_000}m"
    return f"{whole // 1000}s" if whole % 1000 == 0 else f"{whole}ms"


def number(text: str) -> Fraction | None:
    """A number in digits, perhaps with a point; None for anything else."""
    return Fraction(text) if _NUMBER.fullmatch(text) else None


def go_duration(text: str) -> str:
    """`1m30s`, `500ms`, `2s` as Go writes them. Raises ValueError."""
    text = text.strip()
    if not _GO_DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration")
    return duration(sum((Fraction(number) * _GO_MS[unit] for number, unit in _GO_PART.findall(text)), Fraction()))


def size(text: str) -> str:
    """`10m`, `64k`, `5MB`, `1024` -> `10MiB`, `64KiB`, `5MiB`, `1KiB`. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    count = int(match[1]) * {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}[match[2].lower()]
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return f"{count}B"


def base_url(text: str) -> str:
    """A base URL, `http://` before it where there is no scheme; without a slash at its end. Raises ValueError."""
    text = text.strip().rstrip("/")
    url = text if "://" in text else f"http://{text}"
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{text!r} is no http or https URL")
    return url


def host_hint(url: str) -> str:
    """A short name for a service, from the first label of its host: `http://users.prod:80` -> `users`."""
    host = urlsplit(url).hostname or "x"
    if host.replace(".", "").isdigit() or ":" in host:
        return host
    label = host.partition(".")[0]
    return label.rstrip("0123456789").rstrip("-_") or label


def literal(text: str) -> str:
    """A value of a request header as a text that holds no values of the request: braces are doubled."""
    return text.replace("{", "{{").replace("}", "}}")


def service_name(stem: str) -> str:
    """`GATEWAY_UPSTREAM_USERS` -> `users`, as targets name it."""
    return stem.removeprefix("GATEWAY_UPSTREAM_").lower()


_GUARD = re.compile(
    r"auth|jwt|oidc|acl|ldap|saml|opa\b|token|api-?_?key|restrict|allow-?_?list|white-?_?list|hmac|mtls|signature",
    re.IGNORECASE,
)


def weighted(urls: Sequence[str], weights: Sequence[str]) -> list[str]:
    """Base URLs with their shares of the requests; without shares if all are equal."""
    if len(set(weights)) < 2 or not all(weight.isdecimal() and len(weight) < 7 for weight in weights):
        return list(urls)
    return [f"{url};weight={int(weight)}" for url, weight in zip(urls, weights, strict=True)]


def looks_like_guard(name: str) -> bool:
    """Whether an unknown plugin, filter or middleware keeps requests out, judged by its name."""
    return _GUARD.search(name) is not None


def condition(kind: str, name: str, values: Sequence[str]) -> str:
    """The condition that a `header`, `cookie` or `query` of that name has one of these values; without values, that it
    exists.

    `header`, `X-Version`, `["2", "3"]` -> `header.x-version=2|3`. Raises ValueError for conditions that WHEN cannot
    express.
    """
    if re.search(r"[\s=|!]", name) or not all(re.fullmatch(r"[^\s|]+", value) for value in values):
        raise ValueError(f"{name}: {', '.join(values)} cannot be a condition")
    text = f"{kind}.{name.lower() if kind == 'header' else name}" + (f"={'|'.join(values)}" if values else "")
    parse_when(text)
    return text


def parameter(name: str) -> str:
    """A parameter's name as patterns write it: lower case, other characters become `_`."""
    name = _PARAMETER.sub("_", name.lower()).strip("_") or "x"
    return f"p{name}" if name[0].isdigit() else name


_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))


def encoded(path: str) -> str:
    """A path without percent-encoding, encoded: `/a b/é` -> `/a%20b/%C3%A9`. In a route a space ends a path."""
    return quote(path, safe=_VISIBLE)


def without_kinds(path: str) -> str:
    """A target's path names parameters alone: `/users/{id:int}` -> `/users/{id}`."""
    return re.sub(r":(?:int|uuid|hex|word)\}", "}", path)


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A path of segments, of which some are parameters, and perhaps the rest after them."""

    segments: tuple[str, ...]
    rest: bool = False

    def __str__(self) -> str:
        parts = [*self.segments, "**"] if self.rest else [*self.segments]
        return "/" + "/".join(parts)


class PathError(ValueError):
    """A path that the route language cannot express; the text says why."""


def path_template(path: str, rest_names: Sequence[str] = ()) -> PathTemplate:
    """`/users/{userId}/*` -> `/users/{userid}/**`. A last `*`, `**`, or parameter of `rest_names` is the rest.

    Raises PathError for a parameter that is not a whole segment, or a pattern.
    """
    segments: list[str] = []
    parts = path.removeprefix("/").split("/")
    rest = False
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        is_value = part.startswith("{") and part.endswith("}") and "{" not in part[1:-1]
        inner = part[1:-1].lstrip("*") if is_value else None
        if is_last and (part in {"*", "**"} or (inner is not None and (part[1] == "*" or inner in rest_names))):
            rest = True
        elif inner is not None:
            name, colon, expression = inner.partition(":")
            if colon and expression not in KINDS:
                raise PathError(f"the pattern of {part} cannot be expressed")
            segments.append(f"{{{parameter(name)}:{KINDS[expression]}}}" if colon else f"{{{parameter(name)}}}")
        elif (beside := _BESIDE.fullmatch(part)) is not None:
            segments.append(f"{encoded(beside[1])}{{{parameter(beside[2])}}}{encoded(beside[3])}")
        elif "{" in part or "}" in part or "*" in part:
            raise PathError(f"{part!r} is no value with a text before or after it")
        else:
            segments.append(encoded(part))
    return PathTemplate(tuple(segments), rest)
