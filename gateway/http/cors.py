"""Cross-origin requests (the Fetch standard, section 3.2), decided from the fields alone."""

import re
from collections.abc import Iterable, Sequence

from gateway.http.headers import Pair, Pairs, all_of, first_text, same_authority
from gateway.options import Level

_ANY = "*"
_EXPOSED = b"X-Request-ID, Gateway-Parts, Gateway-Complete, Server-Timing"
_EXPOSED_OF_LIMITS = b"RateLimit, RateLimit-Policy, Retry-After"  # where a limit holds
_VARY: Pair = (b"vary", b"Origin")
_MAX_AGE_S = b"600"
_PORTS = {"http": "80", "https": "443"}
_LABELS = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


class Rules(tuple[str, ...]):
    """The origins that may ask, and what they may do: None stands for what was asked for, or for the default."""

    methods: Sequence[str] | None = None
    headers: Sequence[str] | None = None
    max_age_s: float | None = None
    credentials: bool | None = None  # unset: for origins that are named, not for `*`


def rules_of(level: Level) -> Rules:
    """The CORS options of a route, from all levels; empty where no other origin may ask."""
    rules = Rules(level.get("cors", ()))
    rules.methods, rules.headers = level.get("cors_methods"), level.get("cors_headers")
    rules.max_age_s, rules.credentials = level.get("cors_max_age_s"), level.get("cors_credentials")
    return rules


def is_preflight(method: str, raw: Sequence[Pair]) -> bool:
    return method == "OPTIONS" and {b"origin", b"access-control-request-method"} <= {name for name, _ in raw}


def preflight_pairs(origins: Sequence[str], raw: Sequence[Pair]) -> Pairs:
    """The fields of the answer to a preflight. An origin that is not allowed gets none: the browser stops there."""
    origin = first_text(raw, b"origin") or ""
    if not is_named(origin, origins):
        return [_VARY]
    rules = origins if isinstance(origins, Rules) else Rules(origins)
    max_age = _MAX_AGE_S if rules.max_age_s is None else b"%d" % rules.max_age_s
    pairs = [*_allow(origin, origins), (b"access-control-max-age", max_age)]
    asked = first_text(raw, b"access-control-request-method") or ""
    methods = asked if rules.methods is None else ", ".join(rules.methods)
    pairs.append((b"access-control-allow-methods", methods.encode("latin-1")))
    wanted = first_text(raw, b"access-control-request-headers")
    if rules.headers is not None:
        wanted = ", ".join(rules.headers)
    if wanted:
        pairs.append((b"access-control-allow-headers", wanted.encode("latin-1")))
    pairs.append((b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"))
    return pairs


def add_to(pairs: Pairs, origins: Sequence[str], raw: Sequence[Pair]) -> Pairs:
    """A response's pairs for a cross-origin reader, in place of the upstream's CORS fields."""
    exposed = all_of(pairs, b"access-control-expose-headers")
    kept = [pair for pair in pairs if not pair[0].startswith(b"access-control-")]
    kept.append(_VARY)
    origin = first_text(raw, b"origin")
    if origin is None or not is_named(origin, origins):
        return kept
    kept.extend(_allow(origin, origins))
    if any(name == b"ratelimit-policy" for name, _ in pairs):
        exposed.append(_EXPOSED_OF_LIMITS)
    kept.append((b"access-control-expose-headers", b", ".join((*exposed, _EXPOSED))))
    return kept


def is_own_origin(raw: Iterable[Pair], hosts: Iterable[str], origins: Sequence[str]) -> bool:
    """Whether no foreign page sent a request: it has no Origin, or this host's, or one that is named.

    `hosts` are the hosts that the request names as its own, with ports. `*` names no origin: with it any page may read
    what is public, but none may act for its visitor.
    """
    found = [value.decode("latin-1") for value in all_of(raw, b"origin")]
    if len(found) != 1:
        return not found
    named = [one for one in origins if one != _ANY]
    return is_named(found[0], named) or any(_is_of_host(found[0], host) for host in hosts)


def is_named(origin: str, origins: Sequence[str]) -> bool:
    """Whether an origin is one of these, which may be `*` or `https://*.example.com`."""
    origin = origin.lower()
    if _ANY in origins or origin in origins:
        return True
    return any("*" in one and _is_below(origin, one) for one in origins)


def _is_of_host(origin: str, host_field: str) -> bool:
    """Whether a page comes from this host. Either side may write the default port of the page's scheme.

    Behind a proxy that terminates TLS the gateway does not know its own scheme; the host decides.
    """
    scheme, _, authority = origin.lower().partition("://")
    if (port := _PORTS.get(scheme)) is None:
        return False
    theirs, ours = (same_authority(one).removesuffix(f":{port}") for one in (authority, host_field))
    return theirs == ours != ""


def _is_below(origin: str, pattern: str) -> bool:
    """Whether the origin's host lies below that of `https://*.example.com`, with the same scheme and port."""
    start, _, end = pattern.partition("*")
    labels = origin[len(start) : -len(end)]
    return origin.startswith(start) and origin.endswith(end) and _LABELS.fullmatch(labels) is not None


def _allow(origin: str, origins: Sequence[str]) -> Pairs:
    """Credentials only for origins that are named: the standard forbids them beside `*`."""
    if _ANY in origins:
        return [(b"access-control-allow-origin", b"*")]
    pairs: Pairs = [(b"access-control-allow-origin", origin.encode("latin-1"))]
    if not isinstance(origins, Rules) or origins.credentials is not False:
        pairs.append((b"access-control-allow-credentials", b"true"))
    return pairs
