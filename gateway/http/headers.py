"""RFC 9110's rules for field lines, on raw pairs: hop-by-hop fields, Via, Forwarded, Host, the client's address.

Pairs are `(name, value)` in bytes, names in lower case as Granian hands them over. Order and repetition are kept:
nothing here puts fields that may be repeated into a mapping.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Self, SupportsIndex

from gateway import units
from gateway.errors import GatewayError, Reason

Pair = tuple[bytes, bytes]


Pairs = list[Pair]


AnyPair = tuple[bytes | str, bytes | str]  # as a team's own code may write it


Network = IPv4Network | IPv6Network


# RFC 9110, section 5.6.3. bytes.strip() by itself would also strip a vertical tab, which is not white space here.
OWS = b" \t"


OWS_TEXT = " \t"  # str.strip() would also strip some non-ASCII characters of latin-1


# `http_version` of a request in HTTP/1.0: Granian gives "1", the ASGI specification "1.0". A live test checks this.
HTTP_1_0 = frozenset(("1", "1.0"))
HTTP_2 = "2"


# RFC 9110, section 7.6.1, and the two proxy authentication fields, which end at the first proxy. `te` and `trailer`
# announce trailers, which Granian does not pass on.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


# Fields that `Connection` cannot remove: framing and routing are not connection options.
_UNREMOVABLE = frozenset((b"host", b"content-length", b"close", b"keep-alive"))


# Fields of a request that the gateway reads or writes itself; all others pass as they came.
_OWN = HOP_BY_HOP | {
    b"content-length",
    b"expect",
    b"forwarded",
    b"host",
    b"traceparent",
    b"tracestate",
    b"via",
    b"x-request-id",
}


_X_FORWARDED = b"x-forwarded-"


# Fields in which proxies, CDNs and frameworks pass on the client's address, besides X-Forwarded-* and Forwarded.
# Accepted only from GATEWAY_TRUSTED_PROXIES; from any other peer they are dropped.
ADDRESS_CLAIMS = frozenset(
    (
        b"cf-connecting-ip",
        b"cf-connecting-ipv6",
        b"cf-pseudo-ipv4",
        b"client-ip",
        b"fastly-client-ip",
        b"fly-client-ip",
        b"forwarded-for",
        b"proxy-client-ip",
        b"remote-addr",
        b"true-client-ip",
        b"wl-proxy-client-ip",
        b"x-appengine-user-ip",
        b"x-azure-clientip",
        b"x-azure-socketip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-envoy-external-address",
        b"x-forwarded",
        b"x-original-forwarded-for",
        b"x-originating-ip",
        b"x-real-ip",
        b"x-remote-addr",
        b"x-remote-ip",
    )
)


# The same for the requested URL, host and scheme: a service that reads one of these responds for another URL.
URL_CLAIMS = frozenset(
    (
        b"front-end-https",
        b"x-host",
        b"x-http-host-override",
        b"x-original-host",
        b"x-original-uri",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-scheme",
        b"x-script-name",
        b"x-url-scheme",
    )
)


_CLAIMS = ADDRESS_CLAIMS | URL_CLAIMS


# CGI turns it into the variable HTTP_PROXY, which many programs use as the proxy for their own calls ("httpoxy").
_PROXY = b"proxy"


# RFC 9110, section 7.2 and RFC 3986, section 3.2: a host is a reg-name, an IPv4 address or a bracketed IPv6 one, and
# not empty. A comma is refused: two Host fields look like that once they are joined.
_HOST = re.compile(
    rb"(\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?"
)


_TOKEN = re.compile(units.TCHARS.encode("ascii"))


_BREAK = re.compile(rb"[\r\n\0]")


class FieldLines(Pairs):
    """A response's pairs, with all names in lower case: the cache, CORS and all other code compare bytes.

    The constructor expects lower-case bytes; `field_lines` takes any pairs. A pair that is added later may have its
    name in any case, and text instead of bytes, which is sent as latin-1. Raises ValueError for an invalid field line,
    TypeError for a name or value that is neither text nor bytes.
    """

    __slots__ = ()

    def append(self, pair: AnyPair) -> None:
        super().append(_field_line(pair))

    def extend(self, pairs: Iterable[AnyPair]) -> None:
        super().extend(map(_field_line, pairs))

    def insert(self, index: SupportsIndex, pair: AnyPair) -> None:
        super().insert(index, _field_line(pair))

    def __iadd__(self, pairs: Iterable[AnyPair]) -> Self:  # type: ignore[override, misc]
        self.extend(pairs)
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, field_lines(value) if isinstance(index, slice) else _field_line(value))


def field_lines(pairs: Iterable[AnyPair]) -> FieldLines:
    """Any pairs as `FieldLines`. Raises as `FieldLines` does."""
    return pairs if isinstance(pairs, FieldLines) else FieldLines(map(_field_line, pairs))


def _field_line(pair: AnyPair) -> Pair:
    name, value = (_encoded(text) for text in pair)
    if not is_token(name):
        raise ValueError(f"{name!r} is no name of a field")
    if _BREAK.search(value):
        raise ValueError(f"a field value cannot hold a line break or NUL: {value!r}")
    return name.lower(), value


def _encoded(text: bytes | str) -> bytes:
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode("latin-1")
    raise TypeError(f"a field line is a name and a value in bytes or text, not {text!r}")


@dataclass(slots=True)
class RequestFields:
    """A request's field lines, by kind: those that are passed on as received, and those that the gateway handles.

    `x_forwarded` and `claims` (those of ADDRESS_CLAIMS and URL_CLAIMS) are accepted only from a trusted peer.
    """

    plain: Pairs = field(default_factory=list)
    own: dict[bytes, list[bytes]] = field(default_factory=dict)
    x_forwarded: Pairs = field(default_factory=list)
    claims: Pairs = field(default_factory=list)
    hides: bool = False  # whether one came that is dropped for any sender: `Proxy`, or a claim in another spelling
    size_bytes: int = 0
    nominated: Sequence[Pair] = ()  # removed because `Connection` names them
    forged: bytes | None = None  # a name that CGI-like servers take for one of the gateway's own: Content_Length

    def first(self, name: bytes) -> bytes | None:
        values = self.own.get(name)
        return values[0] if values else None

    def only(self, name: bytes) -> bytes | None:
        """The value of a field that came exactly once."""
        values = self.own.get(name)
        return values[0] if values and len(values) == 1 else None

    @property
    def has_claims(self) -> bool:
        """Whether a field makes a claim about the client or the URL."""
        return bool(self.x_forwarded or self.claims or self.hides) or b"forwarded" in self.own

    def end_to_end(self) -> Pairs:
        """The plain pairs less those that `Connection` names (RFC 9110, section 7.6.1)."""
        connection = self.own.get(b"connection")
        if connection is None or connection == _KEEP_ALIVE:
            return self.plain
        named = connection_options(connection)
        return [pair for pair in self.plain if pair[0] not in named] if named else self.plain


_KEEP_ALIVE = [b"keep-alive"]  # as browsers send with each request

# How a field is treated, by its name.
_PASSES, _IS_OWN, _IS_X_FORWARDED, _IS_CLAIM, _IS_FORGED, _IS_DROPPED = range(6)

_MOST_KINDS, _LONGEST_KIND = 2048, 64


class Kinds:
    """How a field is treated, by its name; cached from the first look-up. `hidden` are names, as CGI reads them, that
    no client may send: the configuration sets them itself, for the identity."""

    def __init__(self, hidden: Iterable[bytes] = ()) -> None:
        self.hidden = frozenset(map(as_cgi, hidden))
        self.known: dict[bytes, int] = {}  # of the names seen so far, so that most fields cost one look-up

    def of(self, name: bytes) -> int:
        """The kind of a name (lower case), for any sender; cached from now on."""
        kind = _IS_DROPPED if self.hidden and as_cgi(name) in self.hidden else _kind_of(name)
        if len(name) <= _LONGEST_KIND and len(self.known) < _MOST_KINDS:  # clients choose these names
            self.known[name] = kind
        return kind


def read_fields(raw: Iterable[Pair], kinds: "Kinds | None" = None) -> RequestFields:
    """Sort a request's raw pairs by kind, in one pass. Fields that `kinds` hides are dropped."""
    kinds = kinds or _PLAIN_KINDS
    plain: Pairs = []
    own: dict[bytes, list[bytes]] = {}
    x_forwarded: Pairs = []
    claims: Pairs = []
    size = 0
    forged, hides = None, False
    known = kinds.known.get
    for pair in raw:
        name, value = pair
        size += len(name) + len(value) + 4
        kind = known(name)
        if kind is None:
            kind = kinds.of(name)
        if kind == _PASSES:
            plain.append(pair)
        elif kind == _IS_OWN:
            own.setdefault(name, []).append(value)
        elif kind == _IS_X_FORWARDED:
            x_forwarded.append(pair)
        elif kind == _IS_CLAIM:
            claims.append(pair)
        elif kind == _IS_FORGED:
            forged = name
        else:
            hides = True
    return RequestFields(plain, own, x_forwarded, claims, hides, size, forged=forged)


def _kind_of(name: bytes) -> int:
    """How a field of this name (lower case) is treated, for any sender."""
    meant = as_cgi(name)
    if meant in _CLAIMS or meant == _PROXY:
        # No proxy sends a claim in another spelling: the client sent it, and a proxy let it pass.
        return _IS_CLAIM if name in _CLAIMS else _IS_DROPPED
    if name in _OWN:
        return _IS_OWN
    if name.startswith(_X_FORWARDED):
        return _IS_X_FORWARDED
    return _IS_FORGED if meant in _OWN or meant.startswith(_X_FORWARDED) else _PASSES


def is_claim(name: bytes) -> bool:
    """Whether a field of this name (lower case) is a claim about the client or the URL, in any spelling, which only
    GATEWAY_TRUSTED_PROXIES may send; also `Proxy`, which no peer may send."""
    meant = as_cgi(name)
    return meant in _CLAIMS or meant in {b"forwarded", _PROXY} or meant.startswith(_X_FORWARDED)


_AS_CGI = bytes.maketrans(
    bytes(range(256)), bytes(byte if chr(byte).isascii() and chr(byte).isalnum() else 45 for byte in range(256))
)


def as_cgi(name: bytes) -> bytes:
    """The name (lower case) that CGI-like servers may read: all but letters and digits as `-` (RFC 3875, 4.1.18)."""
    return name.translate(_AS_CGI)


_PLAIN_KINDS = Kinds()


def believed(raw: Iterable[Pair], *, from_trusted_peer: bool, kinds: Kinds = _PLAIN_KINDS) -> Pairs:
    """A request's pairs as its view may see them: without what `kinds` hides and the claims of an untrusted peer."""
    if from_trusted_peer:  # a proxy that does not know Forwarded passes the client's on; upstreams get a new one
        return [pair for pair in raw if pair[0] != b"forwarded" and kinds.of(pair[0]) != _IS_DROPPED]
    if not kinds.hidden:
        return [pair for pair in raw if not is_claim(pair[0])]
    return [pair for pair in raw if not is_claim(pair[0]) and kinds.of(pair[0]) != _IS_DROPPED]


def cgi_fields(raw: Iterable[Pair]) -> dict[str, str]:
    """CGI names for field lines; a name with `_` is left out, since it would pass for one with `-`."""
    found: dict[str, list[str]] = {}
    for name, value in raw:
        if b"_" not in name:
            found.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    plain = ("content-length", "content-type")
    return {
        ("" if name in plain else "HTTP_") + name.upper().replace("-", "_"): ("; " if name == "cookie" else ",").join(
            values
        )
        for name, values in found.items()
    }


def connection_options(values: Iterable[bytes]) -> frozenset[bytes]:
    """The names of the fields that `Connection` requires to be removed, in lower case."""
    named: set[bytes] = set()
    for value in values:
        named.update(option.strip(OWS).lower() for option in value.split(b","))
    named.discard(b"")
    return frozenset(named - _UNREMOVABLE)


def all_of(pairs: Iterable[Pair], name: bytes) -> list[bytes]:
    """The values of a field, in their order; names are in lower case."""
    return [value for found, value in pairs if found == name]


def first_of(pairs: Iterable[Pair], name: bytes) -> bytes | None:
    return next((value for found, value in pairs if found == name), None)


def first_text(pairs: Iterable[Pair], name: bytes) -> str | None:
    """The first value of a field, as text: each byte a character."""
    value = first_of(pairs, name)
    return None if value is None else value.decode("latin-1")


def strip_hop_by_hop(raw: Sequence[Pair]) -> FieldLines:
    """A response's pairs without hop-by-hop fields and those that its `Connection` names; names in lower case."""
    pairs = [(name.lower(), value) for name, value in raw]
    connection = all_of(pairs, b"connection")
    drop = HOP_BY_HOP | connection_options(connection) if connection else HOP_BY_HOP
    return FieldLines([pair for pair in pairs if pair[0] not in drop])


_RENDERED = b"%b: %b\r\n".__mod__  # of a pair; mapped, it takes half as long as a loop


def field_block(pairs: Iterable[Pair]) -> bytes:
    """Field lines as they are sent. Raises HEADER_INVALID for one that would break its line."""
    lines = list(map(_RENDERED, pairs))
    block = b"".join(lines)
    # A line break in a field would start another one. Requests and configuration are checked; this is the last guard.
    if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines) or b"\0" in block:
        raise GatewayError(Reason.HEADER_INVALID, "A field line holds a line break or NUL.")
    return block


def set_fields(pairs: Pairs, changes: Iterable[tuple[bytes, bytes | None]]) -> Pairs:
    """Pairs with each change applied: a value replaces all fields of its name in any spelling, None deletes them."""
    changes = tuple(changes)
    # CGI-like servers read `X_User` and `X.User` as `X-User`: none may remain beside what the configuration sets.
    names = {as_cgi(name) for name, _ in changes}
    kept = [pair for pair in pairs if as_cgi(pair[0]) not in names]
    kept.extend((name, value) for name, value in changes if value is not None)
    return kept


def encoded_changes(changes: Iterable[tuple[str, object]]) -> tuple[tuple[bytes, bytes | None], ...]:
    """Changes of the configuration as `set_fields` takes them: UTF-8, None where a field is deleted.

    A template becomes None too: whatever its value turns out to be, the client's own field of that name is removed.
    """
    return tuple((name.encode("ascii"), value.encode() if isinstance(value, str) else None) for name, value in changes)


def is_token(text: bytes) -> bool:
    """RFC 9110, section 5.6.2: what a field name or a method may consist of."""
    return _TOKEN.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def parse_host(value: bytes) -> str | None:
    """The host of a Host field in lower case, without its port; None if it is invalid.

    A dot at its end only marks the name as complete (RFC 1034, section 3.1), so it is left out.
    """
    match = _HOST.fullmatch(value)
    if match is None or (match[2] and int(match[2]) > 65535):
        return None
    host = match[1].decode("ascii").lower()
    if host.startswith("["):
        return host if parse_address(host[1:-1]) is not None else None
    return (host if host.endswith("..") else host.removesuffix(".")) or None


def same_authority(host_field: str) -> str:
    """A Host field in its normal form: in lower case, the name without a dot at its end."""
    authority = host_field.lower()
    if ends_in_dot(authority):
        name, _, port = authority.rpartition(".")
        return name + port
    return authority


def ends_in_dot(host_field: str) -> bool:
    """Whether the name in a validated Host field ends in a dot; a port may follow."""
    return host_field.endswith(".") or ".:" in host_field


# -- client address -----------------------------------------------------------------------------------------------
def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address; an IPv4 one that a dual-stack socket shows as `::ffff:192.0.2.1` becomes IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
