"""Values become records: upstreams and routes are made from their parsed options at all levels."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.answers.targets import Answer, Folder
from gateway.cache.options import rule_of
from gateway.config.environment import Entry
from gateway.fanout.plan import Fan
from gateway.http.cors import rules_of
from gateway.options import Level, without_plain_fields
from gateway.routing.conditions import ALWAYS
from gateway.routing.records import Route
from gateway.upstreams.options import OF_UPSTREAM, member_of, overrides_of
from gateway.upstreams.places import Base, Source
from gateway.upstreams.records import Upstream
from gateway.upstreams.targets import Target


def level_of(entries: Iterable[Entry], values: Mapping[str, Any]) -> Level:
    """The level that these entries give; `values` are their parsed values."""
    kept: dict[str, Any] = {}
    members: dict[str, dict[str, Any]] = {}
    variables: dict[tuple[str, str], str] = {}
    for entry in entries:
        option = entry.name.option
        if option.attribute not in values or not option.name:
            continue
        if option.is_open:
            members[option.attribute] = dict(values[option.attribute])
        else:
            kept[option.attribute] = values[option.attribute]
        member = member_of(option, entry.name.member) if option.is_open else ""
        variables[option.attribute, member] = entry.variable.removesuffix("_FILE")
    return Level(kept, members, variables)


def upstream_of(
    owner: str, variable: str, values: Mapping[str, Any], level: Level, plain: Level, *, sticky_key: bytes
) -> Upstream:
    """An upstream with the options of its level. Fields that plain variables set on answers are not its own."""
    held = {option.attribute: level.get(option.attribute) for option in OF_UPSTREAM}
    return Upstream(
        name=owner.lower(),
        bases=tuple(place for place in values["places"] if isinstance(place, Base)),
        sources=tuple(place for place in values["places"] if isinstance(place, Source)),
        overrides=overrides_of(without_plain_fields(level, plain).flat()),
        variable=variable,
        level=level,
        sticky_key=sticky_key,
        **{name: value for name, value in held.items() if value is not None},
    )


def route_of(owner: str, variable: str, values: Mapping[str, Any], fan: Fan | None, level: Level) -> Route:
    """A route. Its options of calls are its own, since its upstream's are merged in for each call; all others are
    merged."""
    pattern, target = values["line"]
    if fan is not None:
        pattern = pattern.or_get()
    return Route(
        name=owner.lower(),
        pattern=pattern.under(ignores_case=level.get("ignores_case", False), when=level.get("when", ALWAYS)),
        target=target if isinstance(target, Target) else None,
        answer=target if isinstance(target, (Answer, Folder)) else None,
        body=level.get("body"),
        media_type=level.get("media_type"),
        fan=fan,
        legacy=values.get("legacy"),
        overrides=overrides_of(values),
        raw_path=level.get("raw_path", False),
        cors=rules_of(level) if "cors" in level.values else None,
        cache=None if isinstance(target, (Answer, Folder)) else rule_of(level),
        variable=variable,
        level=level,
    )
