"""WHEN: conditions on a request's fields that must hold for a route to take it.

    header.x-version=2 cookie.beta       all of them hold
    !cookie.beta header.x-version=2|3    `!` before one: it does not; `|` between values: one of them

A condition is about the first value of a field, a cookie or a parameter of the query. Without `=` it requires that
there is one, even an empty one. Values are compared as they are; case matters.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from gateway.http.carried import values_in
from gateway.http.headers import Pair, is_claim

_KINDS = ("header", "cookie", "query")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`~-]+")
_PARAMETER = re.compile(r"[A-Za-z0-9$@._~:\[\]-]+")


class Condition(NamedTuple):
    """One condition: `values` are the accepted ones, sorted; empty where any value will do."""

    kind: str
    name: str
    values: tuple[str, ...] = ()
    is_negated: bool = False

    def __str__(self) -> str:
        wanted = f"={'|'.join(self.values)}" if self.values else ""
        return f"{'!' if self.is_negated else ''}{self.kind}.{self.name}{wanted}"


When: TypeAlias = frozenset[Condition]
Holds: TypeAlias = Callable[[When], bool]
ALWAYS: When = frozenset()


def parse_when(text: str) -> When:
    """`header.x-version=2 !cookie.beta` -> conditions. Raises ValueError."""
    found = frozenset(_condition(word) for word in text.split())
    if not found:
        raise ValueError("expected conditions, such as header.x-version=2 or !cookie.beta")
    if not may_hold(found):
        raise ValueError("these conditions can never hold together")
    return found


def _condition(word: str) -> Condition:
    negated, text = word.startswith("!"), word.removeprefix("!")
    field, equals, values = text.partition("=")
    kind, dot, name = field.partition(".")
    if kind not in _KINDS or not dot:
        raise ValueError(f"{word!r} is no condition; they begin with header.<name>, cookie.<name> or query.<name>")
    if not (_PARAMETER if kind == "query" else _NAME).fullmatch(name):
        raise ValueError(f"{word!r}: {name!r} is no name of a {'parameter' if kind == 'query' else kind}")
    if equals and not all(values.split("|")):
        raise ValueError(f"{word!r} compares with nothing; {'!' * (not negated)}{field} asks whether there is one")
    if not values.isascii() or not values.isprintable():
        raise ValueError(f"{word!r}: only ASCII can be compared with")
    wanted = tuple(sorted(set(values.split("|")))) if equals else ()
    return Condition(kind, name.lower() if kind == "header" else name, wanted, negated)


def text_of(when: Iterable[Condition]) -> str:
    """Conditions as they are written, in a fixed order."""
    return " ".join(sorted(map(str, when)))


def first_value(condition: Condition, pairs: Sequence[Pair], query: bytes, *, trusted: bool) -> bytes | None:
    """The value that a condition is about; None where there is none, or only a claim of an untrusted peer."""
    name = condition.name.encode("ascii")
    if condition.kind == "header" and not trusted and is_claim(name):
        return None
    return next(values_in(condition.kind, name, pairs, query), None)


def hold(when: When, pairs: Sequence[Pair], query: bytes, *, trusted: bool) -> bool:
    """Whether all of them hold; `pairs` are the fields of a request, with `trusted` the claims of its peer count."""
    for one in when:
        value = first_value(one, pairs, query, trusted=trusted)
        holds = value is not None and (not one.values or value.decode("latin-1") in one.values)
        if holds == one.is_negated:
            return False
    return True


def fields_of(when: Iterable[Condition]) -> frozenset[str]:
    """The names that Vary must list for a choice by these conditions, in lower case."""
    return frozenset("cookie" if one.kind == "cookie" else one.name for one in when if one.kind != "query")


def words_of(when: Iterable[Condition]) -> tuple[tuple[str, ...], ...]:
    """The values that they depend on beyond the URL, in the words of `http.values`."""
    return tuple(sorted({(one.kind, *one.name.split(".")) for one in when if one.kind != "query"}))


# -- two of them --------------------------------------------------------------------------------------------------


def may_hold(when: When) -> bool:
    """Whether a request could meet all of them."""
    return all(_may_hold([one for one in when if one[:2] == field]) for field in {one[:2] for one in when})


def _may_hold(conditions: Sequence[Condition]) -> bool:
    """As `may_hold`, for conditions on one field."""
    wanted = [one for one in conditions if not one.is_negated]
    unwanted = [one for one in conditions if one.is_negated]
    if not wanted:
        return True  # a request without that field
    if any(not one.values for one in unwanted):
        return False
    lists = [set(one.values) for one in wanted if one.values]
    left = set.intersection(*lists) if lists else None
    return left is None or bool(left - {value for one in unwanted for value in one.values})
