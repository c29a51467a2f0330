"""An option is one row, from which its parsing, its error messages, its mask and its line in the docs come.

Each room declares its own rows, in a module `options`; `config.table` adds them up.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gateway import units

# A name in the environment. The ending `_FILE` marks the variant that reads a file, so no name has it.
_NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")


class Refused(ValueError):
    """A name or value that cannot be taken as it is; `hint` is the nearest valid name, or empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Unit:
    """How a value is written: its word in the docs, its parser, the suffix of its attribute, its mask.

    `has_dash`: a lone `-` is a value of its own, and does not remove what the level above gives.
    """

    label: str
    parse: Callable[[str], object]
    suffix: str = ""
    mask: Callable[[str], str] = units.mask_user_info
    has_dash: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """One row. `families` are words; a name that ends in `*` is open, the empty name is the family's own variable."""

    families: str
    name: str
    unit: Unit
    default: str
    example: str
    sentence: str
    as_attribute: str = ""
    has_values: bool = False  # values of the request may stand in braces
    members: str = ""  # a pattern for the `*`, where that is no name
    by_member: Callable[[str, str], object] | None = None  # parses a member's text, where that depends on the member

    @property
    def attribute(self) -> str:
        """What the records call the value: `timeout_s`, `max_body_bytes`."""
        return self.as_attribute or self.name.lower() + self.unit.suffix

    @property
    def is_open(self) -> bool:
        """Whether its name ends in `*`, as `HEADER_*` does: each of its members counts by itself."""
        return self.name.endswith("*")

    @property
    def has_levels(self) -> bool:
        """Whether it may be given at more than one level, so that `-` removes what the level above gives."""
        return len({"gateway", "upstream", "route"} & set(self.families.split())) > 1


# Options of a route that may also be given for an upstream, and plain for all: `GATEWAY_TIMEOUT`.
LEVELS = "gateway upstream route"


# -- levels -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Level:
    """The options of one level (plain variables, an upstream's or a route's), or of several of them `together`.

    `values` are parsed, by attribute; None where a lone `-` removes what the level above gives. `members` are those of
    open options, by attribute and member. `variables` name where each was given, by attribute and member (or '').
    """

    values: Mapping[str, Any] = field(default_factory=dict, repr=False)  # some are secrets
    members: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    variables: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def get(self, attribute: str, default: Any = None) -> Any:
        """The value, or the default where there is none or it was removed."""
        value = self.values.get(attribute)
        return default if value is None else value

    def variable(self, attribute: str, member: str = "") -> str:
        """The variable that gives the value, without `_FILE`; empty where none does."""
        return self.variables.get((attribute, member), "")

    def flat(self) -> dict[str, Any]:
        """Values by attribute, those of open options as pairs of member and value."""
        return {**self.values, **{name: tuple(members.items()) for name, members in self.members.items()}}


NO_LEVEL = Level()


def without_plain_fields(level: Level, plain: Level) -> Level:
    """The level without the fields that plain variables set on answers, since those are set on all answers."""
    fields = level.members.get("response_headers", {})
    own = {
        name: value
        for name, value in fields.items()
        if level.variable("response_headers", name) != plain.variable("response_headers", name)
    }
    return Level(level.values, {**level.members, "response_headers": own} if fields else level.members, level.variables)


def together(*levels: Level) -> Level:
    """The options that apply where these levels are combined, the nearest first: the nearest that has a value wins."""
    values: dict[str, Any] = {}
    members: dict[str, dict[str, Any]] = {}
    variables: dict[tuple[str, str], str] = {}
    for level in reversed(levels):
        values.update(level.values)
        for attribute, own in level.members.items():
            members.setdefault(attribute, {}).update(own)
        variables.update(level.variables)
    return Level(values, members, variables)


# -- units --------------------------------------------------------------------------------------------------------


def one_of(words: str) -> Unit:
    """One of the words, which are separated by bars: `json|console`."""
    return Unit(words, partial(units.choice, words=words.split("|")))


def either(words: str, yes: str) -> Unit:
    """Two words, of which `yes` is True."""
    return Unit(words, lambda text: units.choice(text, words.split("|")) == yes)


def list_of(label: str, parse: Callable[[str], object]) -> Unit:
    """Items between commas or white space, each parsed."""
    return Unit(label, partial(units.items_of, parse=parse))


def matching(label: str, pattern: str, expected: str) -> Unit:
    """A text that matches the whole pattern; `expected` describes it in words."""
    return Unit(label, partial(units.matching, pattern=pattern, expected=expected))


DURATION = Unit("duration", units.duration, "_s")
TIMEOUT = Unit("duration", units.positive_duration, "_s")
SIZE = Unit("size", units.size, "_bytes")
SOME_SIZE = Unit("size", units.positive_size, "_bytes")
COUNT = Unit("number", units.whole)
POSITIVE = Unit("number", partial(units.whole, least=1))
ON = either("on|off", "on")
NAMES = list_of("list of names", units.name)
ORIGINS = Unit("list of origins", units.origins)
FIELD = Unit("header value", units.field_change, mask=units.mask_all, has_dash=True)
FUNCTION = Unit("dotted path", units.function_path)


# -- rows ---------------------------------------------------------------------------------------------------------


def defaults_of(rows: Iterable[Option]) -> dict[str, Any]:
    """The parsed defaults of the rows that have one, by attribute."""
    return {option.attribute: option.unit.parse(option.default) for option in rows if option.default}


def find(rows: Mapping[str, Option], word: str) -> tuple[Option, str] | None:
    """The row that a word names, and the member that the `*` of an open one stands for; None where there is none.

    `rows` are by name. Raises Refused for a member with a name that is not allowed.
    """
    option = rows.get(word)
    if option is not None:
        return option, ""
    for name, row in rows.items():
        stem = name.removesuffix("*")
        if stem != name and word.startswith(stem):
            member = word.removeprefix(stem)
            if not row.members:
                check_name(member, stem.rstrip("_").lower().replace("_", " "))
            elif not re.fullmatch(row.members, member):
                raise Refused(f"{word} is no option; {stem.rstrip('_')} is followed by a status, as in {row.name}")
            return row, member
    return None


def nearest_row(rows: Iterable[str], word: str) -> str:
    """The row's name that `word` was probably meant to be, an open one with its member, or nothing.

    An open one competes only for words that begin nearly as it does: else `READ_TIMEOUT` would become `HEADER_TIMEOUT`.
    """
    names = [name for name in rows if name]
    if own_name(word) in names:
        return own_name(word)
    return nearest(word, [_filled(name, word) for name in names if not name.endswith("*") or _begins_as(name, word)])


def own_name(word: str) -> str:
    """Our name for an option that other programs call by this word; else the word itself."""
    return _OTHER_NAMES.get(word, word)


# The names in other programs, where the spelling would not lead to ours.
_OTHER_NAMES = {
    **dict.fromkeys(("READ_TIMEOUT", "SEND_TIMEOUT", "WRITE_TIMEOUT", "SOCKET_TIMEOUT"), "IDLE_TIMEOUT"),
    **dict.fromkeys(("RETRY", "MAX_RETRIES", "RETRY_COUNT", "ATTEMPTS"), "RETRIES"),
    **dict.fromkeys(("TTL", "CACHE_TTL"), "CACHE"),
    **dict.fromkeys(("BODY_LIMIT", "MAX_BODY_SIZE", "CLIENT_MAX_BODY_SIZE"), "MAX_BODY"),
    **dict.fromkeys(("HEALTHCHECK", "HEALTH_CHECK", "HEALTH_PATH"), "HEALTH"),
    **dict.fromkeys(("RATE", "RATELIMIT", "THROTTLE"), "RATE_LIMIT"),
}
_UNCHECKED = re.compile(r"(TLS_|SSL_|SKIP_|NO_)?(VERIFY|INSECURE)(_TLS|_SSL|_SKIP_VERIFY)?|SSL_NO_VERIFY|TLS_INSECURE")


def refuse_unchecked(word: str) -> None:
    """Raises Refused for the names by which other programs trust any certificate."""
    if _UNCHECKED.fullmatch(word):
        raise Refused("certificates are always checked; name the authority with __CA_FILE", "CA_FILE")


def _begins_as(name: str, word: str) -> bool:
    """Whether a word begins with nearly the letters of an open row: `HAEDER_X_TENANT` with those of `HEADER_*`."""
    stem = name.removesuffix("*").rstrip("_")
    head = "_".join(word.split("_")[: stem.count("_") + 1])
    return difflib.SequenceMatcher(None, stem, head).ratio() >= 0.75


def _filled(name: str, word: str) -> str:
    """`HEADER_*` as it would be for `HAEDER_X_TENANT`: `HEADER_X_TENANT`."""
    tail = word.split("_", name.count("_"))[name.count("_") :]
    return name.replace("*", tail[0] if tail and tail[0] else "X")


def nearest(word: str, names: Iterable[str]) -> str:
    """The name that was probably meant by `word`, or nothing."""
    close = difflib.get_close_matches(word, list(names), n=3, cutoff=0.6)
    swapped = [name for name in close if sorted(name) == sorted(word)]  # letters that changed places: CROS
    return next(iter(swapped or close), "")


def check_name(name: str, family: str) -> None:
    """Raises Refused unless `name`, in upper case, is one that an upstream, a route or a part may have."""
    if name == "FILE" or name.endswith("_FILE"):
        raise Refused("no name is or ends in _FILE, which marks the twin that reads a file")
    if not _NAME.fullmatch(name):
        raise Refused(f"the name of a {family} is upper-case words, digits and single underscores, such as USERS_V2")
