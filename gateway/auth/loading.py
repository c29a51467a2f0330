"""Values of GATEWAY_AUTH_<NAME> become ways, or problems in words."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from gateway.auth.identity import template_problem
from gateway.auth.options import CARRIERS, OF_KIND, OF_WAY
from gateway.auth.records import SIGNED_BY_SECRET, KeySource, Way
from gateway.http.field_template import FieldTemplate, TemplateError, parse_template
from gateway.http.headers import HOP_BY_HOP
from gateway.options import defaults_of, nearest

_DEFAULTS = defaults_of(OF_WAY)
# Fields that the gateway sets itself on every call: a way cannot set them.
_NOT_SET = {name.decode() for name in HOP_BY_HOP} | {
    *("via", "x-request-id", "traceparent", "tracestate", "forwarded", "content-length", "host", "expect")
}


class Fault(ValueError):
    """A fault of one option of a way: its name (empty for the way's own variable), and what was expected."""

    def __init__(self, option: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.option = option
        self.hint = hint


def way_of(name: str, variable: str, values: Mapping[str, Any], literal: Collection[str] = ()) -> Way:
    """A way from parsed values by attribute; fields in `literal` come from files, and are no templates.

    Raises Fault for a field with an invalid template.
    """
    kind, source = values["way"]
    given = {key: value for key, value in values.items() if key not in {"way", "headers"}}
    holds: dict[str, Any] = {"roles_claim": _DEFAULTS["roles_claim"], "leeway_s": _DEFAULTS["leeway_s"], **given}
    if kind == "jwt":
        holds.setdefault("issuers", (source,))
        holds.setdefault("algorithms", _DEFAULTS["algorithms"])
        if "keys_from" not in holds and not set(holds["algorithms"]) <= set(SIGNED_BY_SECRET):
            holds["keys_from"] = KeySource("discovery", source)
    if kind in CARRIERS:
        holds.setdefault("carriers", CARRIERS[kind])
    if kind == "ask":
        upstream, _, path = source.partition(":")
        holds |= {"upstream": upstream, "path": path}
        holds.setdefault("send", _DEFAULTS["send"])
    sets = tuple((field, _template(field, text, literal)) for field, text in sorted(values.get("headers", ())))
    return Way(name=name, kind=kind, variable=variable, source=source, sets=sets, **holds)


def _template(field: str, text: str | None, literal: Collection[str]) -> FieldTemplate | str | None:
    option = f"HEADER_{field.upper().replace('-', '_')}"
    if field in _NOT_SET:
        raise Fault(option, "the gateway says this itself on every call; a way cannot set it")
    if text is None or field in literal:
        return text
    try:
        return parse_template(text, template_problem)
    except TemplateError as error:
        raise Fault(option, str(error)) from None


def problems(way: Way, given: Collection[str], upstreams: Collection[str]) -> Iterator[Fault]:
    """Faults of a way; `given` are its options by name, an open one with its member, `upstreams` are names."""
    known = OF_KIND[way.kind]
    for option in sorted(given):
        if option and option not in known and not (option.startswith("HEADER_") and "HEADER_*" in known):
            yield Fault(option, f"this means nothing for a way of kind {way.kind}")
    if way.kind == "keys" and "KEYS" not in given:
        yield Fault("", f"a way of kind keys needs {way.variable}__KEYS_FILE")
    if way.kind == "basic" and "USERS" not in given:
        yield Fault("", f"a way of kind basic needs {way.variable}__USERS_FILE")
    if way.kind == "jwt":
        yield from _problems_of_jwt(way, given)
    for option, upstream in (("", way.upstream), ("JWKS", _upstream_of_keys(way))):
        if upstream and upstream not in upstreams:
            hint = nearest(upstream, sorted(upstreams))
            yield Fault(
                option,
                f"there is no upstream {upstream}; set GATEWAY_UPSTREAM_{upstream.upper()} to its base URL",
                hint,
            )


def _upstream_of_keys(way: Way) -> str:
    return way.keys_from.place if way.keys_from is not None and way.keys_from.kind == "upstream" else ""


def _problems_of_jwt(way: Way, given: Collection[str]) -> Iterator[Fault]:
    by_secret = [one for one in way.algorithms if one in SIGNED_BY_SECRET]
    if by_secret and way.secret is None:
        yield Fault("ALGORITHMS", f"{by_secret[0]} is signed by a secret; set {way.variable}__SECRET_FILE too")
    if way.secret is not None and not by_secret:
        yield Fault("SECRET", f"no algorithm of the way takes a secret; set {way.variable}__ALGORITHMS=HS256 too")
    only_secret = len(by_secret) == len(way.algorithms)
    source = way.keys_from
    if only_secret:
        for option in {"JWKS", "CA", "TIMEOUT"} & set(given):
            yield Fault(option, "a way that accepts HS* alone needs no keys of an issuer")
        return
    if source is not None and source.kind == "discovery" and not source.place.startswith(("https://", "http://")):
        yield Fault("", f"the issuer is no URL to ask for its keys; set {way.variable}__JWKS")
    by_url = source is not None and source.kind in {"url", "discovery"}
    if "CA" in given and not (by_url and source is not None and source.place.startswith("https://")):
        yield Fault("CA", "only keys that come by an https URL take this")


def warnings(way: Way) -> Iterator[str]:
    """Warnings about a way that works."""
    if way.kind == "jwt" and not way.audience:
        yield (
            f"{way.variable}: it takes every token of the issuer, whoever it was made for; "
            f"{way.variable}__AUDIENCE names whom (RFC 8725, section 3.9)"
        )
    source = way.keys_from
    if source is not None and source.kind in {"url", "discovery"} and _is_in_the_clear(source.place):
        yield f"{way.variable}: the issuer's keys come by http://: who stands between can put his own in their place"
    if any(carrier.kind == "query" for carrier in way.carriers):
        yield f"{way.variable}__FROM: a credential in a query stands in the logs and histories of others"


def _is_in_the_clear(url: str) -> bool:
    host = url.partition("://")[2].partition("/")[0]
    return url.startswith("http://") and not host.startswith(("127.", "localhost", "[::1]"))
