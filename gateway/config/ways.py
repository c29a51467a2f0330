"""Variables of authentication become ways, and the rules that name them are checked; each fault with its variable."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.auth import loading
from gateway.auth.options import RULE
from gateway.auth.records import Way
from gateway.auth.rules import Rule, unknown_ways
from gateway.config.environment import Entry
from gateway.config.records import Settings
from gateway.options import nearest

Fault = tuple[Entry, str, str]  # the variable, what was expected, the nearest valid name or nothing


def way_of(
    owner: str, entries: Sequence[Entry], values: Mapping[str, Any], upstreams: Collection[str]
) -> tuple[Way | None, list[Fault]]:
    """The way that these entries of one owner make, if they do, and their faults."""
    given = {entry.name.option.name.replace("*", entry.name.member): entry for entry in entries}
    literal = {entry.name.member.lower().replace("_", "-") for entry in entries if entry.from_file}
    try:
        way = loading.way_of(owner.lower(), given[""].variable.removesuffix("_FILE"), values, literal)
    except loading.Fault as fault:
        return None, [(given[fault.option], str(fault), fault.hint)]
    faults = loading.problems(way, given, upstreams)
    return way, [(given[fault.option], str(fault), fault.hint) for fault in faults]


def faults_of_rules(entries: Iterable[Entry], ways: Iterable[str], settings: Settings | None) -> Iterator[Fault]:
    """Rules that name an unknown way, and a rule of the admin's that would let everybody in."""
    entries, known = list(entries), sorted(name.lower() for name in ways)
    for entry in entries:
        rule = _rule(entry) if entry.name.option.unit is RULE else None
        for name in () if rule is None else unknown_ways(rule, known):
            message = f"there is no way {name}; set GATEWAY_AUTH_{name.upper()}"
            yield entry, "the file names a way that there is not" if entry.from_file else message, nearest(name, known)
    if settings is None or settings.admin_auth is None:
        return
    entry = next(entry for entry in entries if entry.name.option.name == "ADMIN_AUTH")
    if not settings.admin_roles and not settings.admin_scopes:
        yield entry, "whoever has any such credential would be let in; set GATEWAY_ADMIN_ROLES or _SCOPES too", ""
    if settings.admin_auth.may_be_nobody:
        yield entry, "a way that may be missing lets everybody in; drop the question mark", ""


def _rule(entry: Entry) -> Rule | None:
    try:
        rule = entry.name.option.unit.parse(entry.text.strip())
    except ValueError:  # reported by `loader`
        return None
    return rule if isinstance(rule, Rule) else None
