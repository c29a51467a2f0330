"""Values of a request that may stand in braces: `{client}`, `{query.page}`, `{header.x-tenant}`, `{claim.sub}`, `{id}`.

One list of words for header fields, parameters of a query and targets: what each stands for, and what an answer made
with it depends on. `fill` of `field_template` and the targets of `upstreams` put the values in their place.
"""

import re
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl, unquote

from django.http.cookie import parse_cookie

from gateway.http.field_template import Value
from gateway.http.headers import all_of
from gateway.http.identity import IDENTITY_WORDS
from gateway.http.identity import value_of as value_of_identity
from gateway.http.request import GatewayRequest

# Words that stand alone, and words that take a name after a dot.
WORDS = frozenset({"client", "scheme", "host", "method", "url", "path", "request_id", "user", "roles"})
NAMED = frozenset({"query", "header", "cookie", "claim"})
OWN = WORDS | NAMED
KNOWN = "{client}, {scheme}, {host}, {method}, {url}, {path}, {request_id}, {user}, {roles}, {query.x}, {header.x}"
# An answer depends on these beyond its URL and method: they are part of the cache's key.
_BEYOND_URL = IDENTITY_WORDS | {"client", "cookie", "header"}
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FIELD = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")


def problem_of(value: Value) -> str | None:
    """What is wrong with a value in braces, in words; None if it is known, or may be a parameter of the path."""
    first, *rest = value.words
    if first in NAMED:
        if not rest or not all(rest):
            return f"needs a name, as in {{{first}.{'x-tenant' if first == 'header' else 'name'}}}"
        if first == "header" and not _FIELD.fullmatch(".".join(rest).lower()):
            return "is no header's name"
        return None
    if first in WORDS:
        return "has no parts" if rest else None
    if rest or not _PARAMETER.fullmatch(first):
        return f"is no value; {KNOWN}, {{cookie.x}}, {{claim.x}} and parameters of the path are"
    return None


def parameters_in(values: Iterable[Value]) -> tuple[str, ...]:
    """The parameters of the path that these values ask for."""
    return tuple(dict.fromkeys(value.words[0] for value in values if value.words[0] not in OWN))


def value_of(request: GatewayRequest, words: Sequence[str]) -> str:
    """What the words of a value stand for, decoded; empty where the request has no such value.

    Bytes that are not UTF-8 become lone surrogates (PEP 383).
    """
    first, name = words[0], ".".join(words[1:])
    if first in _BEYOND_URL:
        request.reads_value(words)
    if first == "header":
        return request.believed(name.lower().encode("ascii")).decode("utf-8", "surrogateescape")
    if first == "query":
        pairs = parse_qsl(request.query, keep_blank_values=True, errors="surrogateescape")
        return next((value for found, value in pairs if found == name), "")
    if first == "cookie":
        return parse_cookie(
            b"; ".join(all_of(request.scope["headers"], b"cookie")).decode("utf-8", "surrogateescape")
        ).get(name, "")
    if first in IDENTITY_WORDS:
        return value_of_identity(request.asked_by, words)
    if first in WORDS:
        return _of_request(request, first)
    if request.raw_values is not None:
        return unquote(request.raw_values.get(first, ""), errors="surrogateescape")
    match = request.resolver_match  # one of Django's own path() lines
    return "" if match is None else str(match.kwargs.get(first, ""))


def _of_request(request: GatewayRequest, word: str) -> str:
    exchange = request.exchange
    if word == "client":
        return exchange.client
    if word == "scheme":
        return request.forwarded_scheme or str(request.scope["scheme"])
    if word == "host":
        return exchange.host or ""
    if word == "method":
        return request.method
    if word == "path":
        return request.raw_path
    if word == "request_id":
        return exchange.request_id
    return absolute_url(request)


def absolute_url(request: GatewayRequest) -> str:
    """The URL as the client asked for it, also behind trusted proxies."""
    scheme = request.forwarded_scheme or request.scope["scheme"]
    authority = request.forwarded_host or request.host_field
    return f"{scheme}://{authority}{request.raw_path}" + (f"?{request.query}" if request.query else "")


def beyond_url(words: Iterable[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """The words that make an answer depend on more than its URL and method, each once, in a fixed order."""
    return tuple(sorted({tuple(one) for one in words if one[0] in _BEYOND_URL}))


def vary_of(words: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The names that Vary must have for answers that were made with these words, in lower case."""
    names = {".".join(one[1:]).lower() for one in words if one[0] == "header"}
    return tuple(sorted({*names, "cookie"} if any(one[0] == "cookie" for one in words) else names))
