"""The key by which a request is counted, as a text, and the digest that stores keep.

Without the value, the key falls back to the client, never to nothing: leaving out a field gains no separate budget.
Neither does sending it twice: services read the first or the last of two values, so the other one could be anything.
The text includes the kind of a value, so that no client can pass for another one by sending its address as a field.
"""

import re
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote

from gateway.http.carried import unescaped, values_in, without_scheme
from gateway.http.headers import is_claim
from gateway.http.request import GatewayRequest
from gateway.limits.grammar import ALL, CLIENT, HOST, IDENTITY, PATH, ROUTE, Key, KeyPart

_CARRIED = frozenset({"header", "cookie", "query"})
_UUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_IPV6_BITS = 64  # one customer's network, in which each device has as many addresses as it likes


@lru_cache(maxsize=4096)
def client_value(text: str) -> str:
    """An address as limits count it: IPv6 by its /64, in one spelling; IPv4 in IPv6 as IPv4."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0].strip("[]"))
    except ValueError:
        return text
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    shift = 128 - _IPV6_BITS
    return f"{IPv6Address(int(address) >> shift << shift)}/{_IPV6_BITS}"


@lru_cache(maxsize=4096)
def client_text(address: str) -> str:
    """The key of a client, also used for a request without its own key."""
    return f"{CLIENT}={client_value(address)}"


def text_of(key: Key, request: GatewayRequest) -> str:
    """The key of a request: the input of `digest`."""
    if len(key) == 1:
        return client_text(request.exchange.client) if key[0].kind == CLIENT else _part(key[0], request)
    return joined([_part(part, request) for part in key])


def joined(texts: list[str]) -> str:
    """Several parts as one text; none can be read as another's end."""
    return "+".join(f"{len(text)}:{text}" for text in texts)


def part_text(part: KeyPart, value: str) -> str:
    """A part with its value: `header:x-tenant=acme`."""
    return f"{part}={value}"


def _part(part: KeyPart, request: GatewayRequest) -> str:
    value = _value(part, request)
    if value is None:
        return client_text(request.exchange.client)
    return f"{part}={value}"


def _value(part: KeyPart, request: GatewayRequest) -> str | None:
    """The request's value for this part; None if it is missing, empty or ambiguous."""
    kind = part.kind
    if kind == CLIENT:
        return client_value(request.exchange.client)
    if kind == IDENTITY:
        identity = getattr(request, "identity", None)
        return None if identity is None or not identity.name else f"{identity.way}:{identity.name}"
    if kind in _CARRIED:
        return _carried(kind, part.name, request)
    if kind == PATH:
        return _parameter(part.name, request)
    return {HOST: request.exchange.host, ROUTE: request.exchange.route, ALL: ALL}[kind] or None


def _carried(kind: str, name: str, request: GatewayRequest) -> str | None:
    """The value of a field, cookie or parameter, as authentication reads it, without a scheme; None if there is none,
    or several that differ. A claim reserved to trusted peers counts only from those."""
    raw_name = name.encode()
    if kind == "header" and is_claim(raw_name) and not request.from_trusted_peer:
        return None
    found = values_in(kind, raw_name, request.raw_headers, request.query.encode("latin-1"))
    values = {without_scheme(value) for value in found}
    if kind == "cookie":
        values = {unescaped(value) for value in values}
    values.discard(b"")
    return values.pop().decode("utf-8", "surrogateescape") if len(values) == 1 else None


def _path_value(text: str) -> str:
    return text.lower() if _UUID.fullmatch(text) else text


def _parameter(name: str, request: GatewayRequest) -> str | None:
    """A path parameter, decoded, so that no spelling of it has a budget of its own, nor a UUID in another case."""
    if request.raw_values is not None:
        value: object = unquote(request.raw_values.get(name, ""), errors="surrogateescape") or None
    else:
        match = request.resolver_match
        value = None if match is None else match.kwargs.get(name)
    return None if value is None else _path_value(str(value))


def digest(text: str, secret: bytes = b"") -> bytes:
    """A digest of a key, 16 bytes. With a secret, nobody can search for two keys with the same one."""
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16, key=secret).digest()


def _spelled(part: KeyPart, value: str) -> str:
    """A value as an operator writes it, in the form that requests have."""
    return client_value(value) if part.kind == CLIENT else _path_value(value) if part.kind == PATH else value


def texts_for(key: Key, written: str) -> list[str]:
    """The possible meanings of a written key: its value, and that of a request without one, by its client.

    Several parts are joined by `+`; a `+` within one is `%2B`. [] where there are too few or too many.
    """
    values = written.split("+") if len(key) > 1 else [written]
    if len(values) != len(key):
        return []
    parts = [
        part_text(part, _spelled(part, value))
        for part, value in zip(key, map(unquote, values) if len(key) > 1 else values, strict=True)
    ]
    found = [joined(parts) if len(key) > 1 else parts[0]]
    if len(key) == 1 and key[0].kind != CLIENT:
        found.append(f"{CLIENT}={client_value(written)}")
    return found
