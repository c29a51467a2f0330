"""What may be said of a call to an upstream, and what holds for it."""

from dataclasses import dataclass, fields
from typing import Any

from gateway.config import table as options
from gateway.options import defaults_of

Fields = tuple[tuple[str, str | None], ...]  # (lower-case field name, its value, or None where it is deleted)


def _masked_repr(record: "Overrides | ProxyOptions") -> str:
    values = {entry.name: getattr(record, entry.name) for entry in fields(record)}
    for name in ("headers", "response_headers"):
        values[name] = {header: value if value is None else "***" for header, value in values[name]}
    return f"{type(record).__name__}({', '.join(f'{name}={value!r}' for name, value in values.items())})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Overrides:
    """What an upstream or a route says about proxying; None, or no fields, where it says nothing."""

    timeout_s: float | None = None
    connect_timeout_s: float | None = None
    idle_timeout_s: float | None = None
    total_timeout_s: float | None = None
    max_body_bytes: int | None = None  # 0 lifts the limit
    preserve_host: bool | None = None
    rewrite_redirects: bool | None = None
    headers: Fields = ()
    response_headers: Fields = ()

    __repr__ = _masked_repr


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProxyOptions:
    """What holds for a proxied call, after `effective`; `max_body_bytes` None is no limit."""

    timeout_s: float
    connect_timeout_s: float
    idle_timeout_s: float
    total_timeout_s: float | None = None
    max_body_bytes: int | None
    preserve_host: bool
    rewrite_redirects: bool
    headers: Fields
    response_headers: Fields

    __repr__ = _masked_repr


_DEFAULTS = defaults_of(options.SHARED)


def effective(upstream: Overrides, route: Overrides) -> ProxyOptions:
    """What holds for a call: the route's word, else the upstream's, else the default; fields are merged by name."""
    values = _DEFAULTS | _said(upstream) | _said(route)
    values["max_body_bytes"] = values["max_body_bytes"] or None
    values["headers"] = _merged(upstream.headers, route.headers)
    values["response_headers"] = _merged(upstream.response_headers, route.response_headers)
    return ProxyOptions(**values)


def _said(layer: Overrides) -> dict[str, Any]:
    values = {entry.name: getattr(layer, entry.name) for entry in fields(layer)}
    return {name: value for name, value in values.items() if value is not None}


def _merged(below: Fields, above: Fields) -> Fields:
    return tuple(sorted({**dict(below), **dict(above)}.items()))
