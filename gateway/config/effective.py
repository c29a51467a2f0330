"""The values in force and where they come from: every option's text as it may be shown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from gateway import units
from gateway.auth.options import OF_KIND, WAY
from gateway.cache import options as cache_options
from gateway.cache.policy import Rule
from gateway.config import table
from gateway.config.environment import Entry
from gateway.config.options import MAX_IN_FLIGHT_OF_HTTP2
from gateway.fanout import options as fan_options
from gateway.fanout.plan import Fan, Part
from gateway.options import FIELD, Option
from gateway.routing.patterns import parse_line
from gateway.upstreams.options import OF_CALL, OF_UPSTREAM, Overrides
from gateway.upstreams.targets import Target

UNSET = "-"


class Row(NamedTuple):
    """A variable, its masked value, and where that comes from, or `default`."""

    variable: str
    value: str
    origin: str


def effective(entries: Sequence[Entry]) -> list[list[Row]]:
    """All values in force, for an environment without problems: the gateway itself, then each upstream, then each
    route.

    Options that an upstream or a route inherits are listed among its own, with the variable that sets them.
    """
    owners: dict[tuple[str, str], list[Entry]] = {("gateway", ""): []}
    for entry in entries:
        owners.setdefault((entry.name.family, entry.name.owner), []).append(entry)
    plain = [entry for entry in owners["gateway", ""] if entry.name.option.has_levels]
    groups = []
    for family, owner in sorted(owners, key=lambda one: (_ORDER[one[0]], one[1])):
        own = owners[family, owner]
        above = [plain] if family in {"upstream", "route"} else []
        if family == "route" and (upstream := _upstream_of(own)):
            above.insert(0, owners.get(("upstream", upstream), []))
        groups.append(_group(family, owner, own, _inherited(family, own, above)))
    return groups


def _upstream_of(entries: Iterable[Entry]) -> str:
    """The upstream that a route leads to, as its variable has it; empty for a route without a target."""
    for entry in entries:
        if not entry.name.option.name and not entry.name.part:
            _, target = parse_line(entry.text.strip())
            return target.upstream.upper() if isinstance(target, Target) else ""
    return ""


def _inherited(family: str, own: Iterable[Entry], above: Iterable[Iterable[Entry]]) -> list[Entry]:
    """The entries of the levels above, the nearest first, that an upstream or route with these own entries inherits."""
    seen = {(entry.name.option.name, entry.name.member) for entry in own if not entry.name.part}
    held = []
    for level in above:
        entries = [entry for entry in level if (family, entry.name.option.name) in table.TABLE]
        held += [
            entry
            for entry in entries
            if entry.name.option.has_levels and (entry.name.option.name, entry.name.member) not in seen
        ]
        seen |= {(entry.name.option.name, entry.name.member) for entry in entries}
    return held


_ORDER = {
    family: number
    for number, family in enumerate(("gateway", "auth", "rate_limit", "upstream", "route", "legacy", "database"))
}
_CACHE, _CACHE_MAX_BODY, _STALE_IF_ERROR = cache_options.OF_ROUTE


def _group(family: str, owner: str, entries: Sequence[Entry], inherited: Sequence[Entry]) -> list[Row]:
    prefix = f"GATEWAY_{family.upper()}_{owner}__" if owner else "GATEWAY_"
    parts = [entry for entry in entries if entry.name.option is fan_options.PARTS]
    own = [entry for entry in entries if not entry.name.part]
    known = [option for (of, word), option in table.TABLE.items() if of == family and word]
    if family == "gateway":
        known = [option for option in known if not option.has_levels]
    elif family == "auth":
        kind = next((entry.text.split()[0] for entry in own if entry.name.option is WAY and entry.text.strip()), "")
        known = [option for option in known if option.name in OF_KIND.get(kind, ())]
    elif family == "upstream":
        known = [option for option in known if option in OF_CALL or option in OF_UPSTREAM]
    elif family == "route":
        known = list(fan_options.OF_FAN) if parts else []
        if any(entry.name.option is _CACHE for entry in (*own, *inherited)):
            known += [_CACHE_MAX_BODY, _STALE_IF_ERROR]
        inherited = [one for one in inherited if parts or one.name.option not in fan_options.OF_FAN]
    rows = list(_rows(prefix, own, known, inherited))
    for part in parts:
        of_part = [entry for entry in entries if entry.name.part == part.name.member.lower()]
        rows += _rows(f"{part.variable.removesuffix('_FILE')}__", of_part, fan_options.OF_PART)
    return [_by_http2(row, own) for row in rows] if family == "gateway" else rows


def _by_http2(row: Row, own: Iterable[Entry]) -> Row:
    """The row with the default that applies with HTTP/2."""
    texts = {entry.name.option.name: entry.text.strip().lower() for entry in own}
    if row != Row("GATEWAY_MAX_IN_FLIGHT", UNSET, "default") or "TLS_CERT" not in texts or texts.get("HTTP2") == "off":
        return row
    return row._replace(value=str(MAX_IN_FLIGHT_OF_HTTP2))


def _rows(
    prefix: str, entries: Iterable[Entry], known: Iterable[Option], inherited: Iterable[Entry] = ()
) -> Iterator[Row]:
    """The rows of options that are set or inherited, in the order of the table, and defaults of the others."""
    given: dict[Option, list[Row]] = {}
    for entry in entries:
        origin = f"file {entry.shown}" if entry.from_file else "variable"
        variable = entry.variable.removesuffix("_FILE") if entry.from_file else entry.variable
        given.setdefault(entry.name.option, []).append(Row(variable, _masked(entry), origin))
    for entry in inherited:
        option = entry.name.option
        row = Row(prefix + option.name.replace("*", entry.name.member), _masked(entry), entry.variable)
        given.setdefault(option, []).append(row)
    for option in table.OPTIONS:
        yield from given.get(option, ())
        if option in known and option not in given and not option.is_open:
            yield Row(prefix + option.name, option.default or ("all" if option.unit.has_dash else UNSET), "default")


def _masked(entry: Entry) -> str:
    return entry.name.option.unit.mask(entry.text.strip())


# -- values become text again ---------------------------------------------------------------------------------------


def text_of(option: Option, value: Any) -> str:
    """A parsed value as the environment would write it; `-` for None."""
    if value is None:
        return UNSET
    if isinstance(value, bool):  # a choice of two words
        return next(word for word in option.unit.label.split("|") if option.unit.parse(word) == value)
    if option.attribute == "query_list":
        return " ".join(f"{name}={UNSET if text is None else '***'}" for name, text in value)
    if value == ():
        return UNSET
    if isinstance(value, (tuple, frozenset)):
        return ",".join(sorted(map(str, value)) if isinstance(value, frozenset) else map(str, value))
    if isinstance(value, Rule):
        return "on" if value.ttl_s is None else units.format_duration(value.ttl_s)
    if isinstance(value, float):
        return units.format_duration(value)
    if option.unit.suffix == "_bytes":
        return units.format_size(value)
    return value.decode() if isinstance(value, bytes) else str(value)


def options_of_call(own: Overrides) -> dict[str, str]:
    """The options that a route sets itself, by their names in lower case; header values are masked."""
    shown: dict[str, str] = {}
    for option in OF_CALL:
        value = getattr(own, option.attribute)
        if option.is_open:
            stem = option.name.lower().removesuffix("*")
            shown |= {stem + name.replace("-", "_"): UNSET if text is None else "***" for name, text in value}
        elif value is not None:
            shown[option.name.lower()] = text_of(option, value)
    return shown


def options_of_cache(rule: Rule) -> dict[str, str]:
    """The cache options of a route, in the form of `options_of_call`."""
    shown = {"cache": text_of(_CACHE, rule)}
    if rule.max_body_bytes != Rule().max_body_bytes:
        shown["cache_max_body"] = text_of(_CACHE_MAX_BODY, rule.max_body_bytes)
    if rule.stale_if_error_s:
        shown["stale_if_error"] = text_of(_STALE_IF_ERROR, rule.stale_if_error_s)
    return shown


def options_of_fan(fan: Fan) -> dict[str, str]:
    """The parts of a fan-out and their options, where they are not the defaults, in the form of `options_of_call`."""
    shown = {f"part_{part.name}": part.target.shown().text for part in fan.parts}
    if optional := [part.name for part in fan.parts if part.optional]:
        shown["optional"] = ",".join(optional)
    shown |= _not_default(fan, fan_options.OF_FAN, "")
    for part in fan.parts:
        shown |= _not_default(part, fan_options.OF_PART, f"part_{part.name}__")
    return shown


def _not_default(record: Fan | Part, known: Iterable[Option], prefix: str) -> dict[str, str]:
    usual = {one.name: one.default for one in fields(record)}
    shown: dict[str, str] = {}
    for option in known:
        value = getattr(record, option.attribute)
        if value == usual[option.attribute]:
            continue
        if option.unit is FIELD:
            shown |= {
                f"{prefix}header_{name.replace('-', '_')}": UNSET if text is None else "***" for name, text in value
            }
        else:
            shown[prefix + option.name.lower()] = text_of(option, value)
    return shown
