"""The grammar of limits: `N/DURATION [burst N] ... [by KEY[+KEY]]`, and names of limits.

`by` closes the group of limits before it: `60/1m 1000/1h by client 5000/1m by all` are two groups; without it a group
is `by client`. All limits of one value apply together.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway import units
from gateway.limits.gcra import Rate

CLIENT, IDENTITY, HOST, ROUTE, ALL = "client", "identity", "host", "route", "all"
_WORDS = (CLIENT, IDENTITY, HOST, ROUTE, ALL)
_NAMED = ("header", "cookie", "query")
PATH = "path"

_RATE = re.compile(r"([0-9]{1,9})/(\S+)")
_NAME = re.compile(units.NAME_PATTERN)
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
# RFC 9110, section 5.6.2: the names of cookies (RFC 6265, section 4.1.1).
_TOKEN = re.compile(units.TCHARS)
_FASTEST_A_S = 100_000  # beyond that the clock itself is too coarse
RESERVED = frozenset(("burst", "by", "file", "on_failure"))  # names that no limit may have
EXPECTED = "expected limits such as 100/1m, 100/1m burst 20 by client, or the name of one; `-` is none"


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One part of a key: `client`, or a `kind` with a name, such as `header` and `x-tenant`."""

    kind: str
    name: str = ""

    def __str__(self) -> str:
        if self.kind == PATH:
            return f"{{{self.name}}}"
        return f"{self.kind}:{self.name}" if self.name else self.kind


Key = tuple[KeyPart, ...]
BY_CLIENT: Key = (KeyPart(CLIENT),)


@dataclass(frozen=True, slots=True)
class Group:
    """Rates that apply together to each value of one key."""

    rates: tuple[Rate, ...]
    key: Key = BY_CLIENT

    def __str__(self) -> str:
        return f"{' '.join(map(text_of_rate, self.rates))} by {text_of_key(self.key)}"


Limits = tuple["Group | str", ...]  # groups that are written out, and names of limits


def window_text(seconds: float) -> str:
    """A window as people write it: `1m`, `90s`, `24h`."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{int(seconds) // length}{unit}"
    return units.format_duration(seconds)


def text_of_rate(rate: Rate) -> str:
    """`100/1m`, `100/1m burst 20`."""
    burst = "" if rate.burst == rate.units else f" burst {rate.burst}"
    return f"{rate.units}/{window_text(rate.window_s)}{burst}"


def text_of_key(key: Key) -> str:
    """`client+header:x-tenant`."""
    return "+".join(map(str, key))


def text_of(limits: Limits) -> str:
    """Limits as the environment would write them; `-` for none."""
    return " ".join(map(str, limits)) or "-"


def limits(text: str) -> Limits:
    """A value of RATE_LIMIT: limits, names of limits, or `-`, which is (). Raises ValueError."""
    if text.strip() == "-":
        return ()
    return tuple(_parsed(units.items(text)))


def groups(text: str) -> tuple[Group, ...]:
    """The value of a named limit: limits, but no name of another. Raises ValueError."""
    found = []
    for item in _parsed(units.items(text)):
        if isinstance(item, str):
            raise ValueError("expected limits such as 100/1m burst 20 by client; a limit is not made of other limits")
        found.append(item)
    return tuple(found)


def _parsed(words: tuple[str, ...]) -> Iterator[Group | str]:
    rates: list[Rate] = []
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if word == "by":
            if not rates:
                raise ValueError("`by` closes the limits before it, and there are none: 100/1m by client")
            yield Group(tuple(rates), key(waiting.pop() if waiting else ""))
            rates = []
        elif word == "burst":
            raise ValueError("`burst` follows a limit: 100/1m burst 20")
        elif match := _RATE.fullmatch(word):
            burst = None
            if waiting and waiting[-1] == "burst":
                waiting.pop()
                burst = waiting.pop() if waiting else ""
            rates.append(_rate(match[1], match[2], burst))
        elif _NAME.fullmatch(word) and word not in RESERVED:
            if rates:
                yield Group(tuple(rates))
                rates = []
            yield word
        else:
            raise ValueError(EXPECTED)
    if rates:
        yield Group(tuple(rates))


# How others write the time that a limit is for.
_UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
}


def _rate(count: str, window: str, burst: str | None) -> Rate:
    try:
        window_s = units.positive_duration(window)
    except ValueError as error:
        if (unit := _UNITS.get(window.lower())) is not None:
            raise ValueError(f"a limit is written as NUMBER/DURATION; write {count}/1{unit}") from None
        raise ValueError(f"a limit is written as NUMBER/DURATION, such as 100/1m: {error}") from None
    found = Rate(int(count), window_s, _count(count if burst is None else burst))
    if found.units < 1 or found.units / window_s > _FASTEST_A_S:
        raise ValueError(f"expected a limit of at least 1 and at most {_FASTEST_A_S} a second, such as 100/1m")
    return found


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise ValueError("expected how many may come at once, at least 1: 100/1m burst 20")
    return int(text)


def key(text: str) -> Key:
    """`client`, `header:x-tenant`, `client+{id}`. Raises ValueError."""
    parts = tuple(_key_part(part) for part in text.split("+"))
    if len(set(parts)) < len(parts):
        raise ValueError("the same key stands twice after `by`")
    return parts


def _key_part(text: str) -> KeyPart:
    kind, colon, name = text.partition(":")
    if kind in _WORDS and not colon:
        return KeyPart(kind)
    if kind in _NAMED and colon:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"expected a name after {kind}: as in {kind}:x-tenant")
        return KeyPart(kind, name.lower() if kind == "header" else name)
    if match := _PARAMETER.fullmatch(text):
        return KeyPart(PATH, match[1])
    raise ValueError(
        "expected by client, identity, header:NAME, cookie:NAME, query:NAME, host, {parameter} of the path, route or "
        "all; several are joined by +"
    )


def name(text: str) -> str:
    """The name of a limit, in lower case. Raises ValueError."""
    if not _NAME.fullmatch(text) or text in RESERVED:
        raise ValueError(f"a limit cannot be called {text}")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLimit:
    """A limit of the environment that routes share by its name. `on_failure` None: as GATEWAY_RATE_LIMIT_ON_FAILURE."""

    name: str
    groups: tuple[Group, ...]
    on_failure: str | None = None
    variable: str = field(default="", compare=False)
