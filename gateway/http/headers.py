"""What RFC 9110 says of field lines, over raw pairs: hop-by-hop fields, Via, Forwarded, Host, the client's address.

Pairs are `(name, value)` in bytes, names in lower case as Granian hands them over. Order and repetition are kept:
nothing here makes a mapping of what may come twice.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Self, SupportsIndex

Pair = tuple[bytes, bytes]
Pairs = list[Pair]
AnyPair = tuple[bytes | str, bytes | str]  # as code of a team's own may write it
Network = IPv4Network | IPv6Network

# RFC 9110, section 5.6.3. HOWEVER not what bytes.strip() takes for white space by itself: a vertical tab is none.
OWS = b" \t"
_OWS = " \t"  # text of latin-1 has more white space for str.strip(): bytes of values that are no ASCII

# `http_version` of a request in HTTP/1.0: Granian gives "1", the ASGI specification "1.0". A live test holds the first.
HTTP_1_0 = frozenset(("1", "1.0"))

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
# What `Connection` may not name away: framing and routing are not options of a connection.
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
# What a proxy says of the client's address, in the spellings that proxies, CDNs and frameworks have, beside
# X-Forwarded-* and Forwarded. Believed of GATEWAY_TRUSTED_PROXIES alone; of anybody else it goes nowhere.
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
# The same for what was asked for, where and how: whoever reads one of these answers for another URL.
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
# CGI makes the variable HTTP_PROXY of it, which many programs take for the proxy of their own calls ("httpoxy").
_PROXY = b"proxy"

# RFC 9110, section 7.2 and RFC 3986, section 3.2: a host is a reg-name, an IPv4 address or a bracketed IPv6 one, and
# not empty. HOWEVER no comma: that is how two Host fields look when somebody joined them.
_HOST = re.compile(
    rb"(\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?"
)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BREAK = re.compile(rb"[\r\n\0]")
# `192.0.2.1:80`, `[2001:db8::1]:80` as in RFC 7239, section 6; and IPv6 bare, as X-Forwarded-For mostly has it: its
# last group is no port.
_NODE = re.compile(r"(?:([0-9.]+)|\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\])(:[0-9]{1,5})?|([0-9A-Fa-f:.]+)")


class FieldLines(Pairs):
    """An answer's pairs, with names in lower case whoever puts them in: the cache, CORS and all else compare bytes.

    Made of pairs that are so already; `field_lines` makes it of any. What is put in later may have its name in any
    case, and text instead of bytes, which is sent as latin-1. Raises ValueError for what is no field line, TypeError
    for what is neither text nor bytes.
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
        super().__setitem__(index, map(_field_line, value) if isinstance(index, slice) else _field_line(value))


def field_lines(pairs: Iterable[AnyPair]) -> FieldLines:
    """Any pairs as an answer has them. Raises as `FieldLines` does."""
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
    """A request's field lines, read once: those that pass as they came, and those the gateway has a word in.

    `x_forwarded` and `claims` (those of ADDRESS_CLAIMS and URL_CLAIMS) are for a trusted peer alone to make.
    """

    plain: Pairs = field(default_factory=list)
    own: dict[bytes, list[bytes]] = field(default_factory=dict)
    x_forwarded: Pairs = field(default_factory=list)
    claims: Pairs = field(default_factory=list)
    hides: bool = False  # whether one came that goes nowhere, whoever sent it: `Proxy`, or a claim in another spelling
    size_bytes: int = 0
    nominated: Sequence[Pair] = ()  # taken off because `Connection` names them
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
        """Whether a field says who asked, from where and how."""
        return bool(self.x_forwarded or self.claims or self.hides) or b"forwarded" in self.own

    def end_to_end(self) -> Pairs:
        """The plain pairs less those that `Connection` names (RFC 9110, section 7.6.1)."""
        connection = self.own.get(b"connection")
        named = connection_options(connection) if connection else None
        return [pair for pair in self.plain if pair[0] not in named] if named else self.plain


# What becomes of a field, by its name.
_PASSES, _IS_OWN, _IS_X_FORWARDED, _IS_CLAIM, _IS_FORGED, _IS_DROPPED = range(6)
_kinds: dict[bytes, int] = {}  # of the names that came, so that most fields cost one look-up
_MOST_KINDS, _LONGEST_KIND = 2048, 64  # clients choose these names


def read_fields(raw: Iterable[Pair]) -> RequestFields:
    """Sort a request's raw pairs in one pass."""
    plain: Pairs = []
    own: dict[bytes, list[bytes]] = {}
    x_forwarded: Pairs = []
    claims: Pairs = []
    size = 0
    forged, hides = None, False
    known = _kinds.get
    for pair in raw:
        name, value = pair
        size += len(name) + len(value) + 4
        kind = known(name)
        if kind is None:
            kind = _kind_of(name)
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
    """What becomes of a field of this name (lower case), whoever sends it; known from now on."""
    meant = as_cgi(name)
    if meant in _CLAIMS or meant == _PROXY:
        # In another spelling no proxy makes a claim: it came past one that sets the right one.
        kind = _IS_CLAIM if name in _CLAIMS else _IS_DROPPED
    elif name in _OWN:
        kind = _IS_OWN
    elif name.startswith(_X_FORWARDED):
        kind = _IS_X_FORWARDED
    else:
        kind = _IS_FORGED if meant in _OWN or meant.startswith(_X_FORWARDED) else _PASSES
    if len(name) <= _LONGEST_KIND and len(_kinds) < _MOST_KINDS:
        _kinds[name] = kind
    return kind


def is_claim(name: bytes) -> bool:
    """Whether a field of this name (lower case) says who asks for what, in whatever spelling, so that only
    GATEWAY_TRUSTED_PROXIES may say it; also `Proxy`, which nobody may."""
    meant = as_cgi(name)
    return meant in _CLAIMS or meant in {b"forwarded", _PROXY} or meant.startswith(_X_FORWARDED)


_AS_CGI = bytes.maketrans(
    bytes(range(256)), bytes(byte if chr(byte).isascii() and chr(byte).isalnum() else 45 for byte in range(256))
)


def as_cgi(name: bytes) -> bytes:
    """The name (lower case) that CGI-like servers may read: all but letters and digits as `-` (RFC 3875, 4.1.18)."""
    return name.translate(_AS_CGI)


def believed(raw: Iterable[Pair], *, from_trusted_peer: bool) -> Pairs:
    """A request's pairs less the claims of a peer that nobody trusts: what its view may see."""
    if from_trusted_peer:  # one that does not know Forwarded passes the client's on; it is made anew for upstreams
        return [pair for pair in raw if pair[0] != b"forwarded" and _kind_of(pair[0]) != _IS_DROPPED]
    return [pair for pair in raw if not is_claim(pair[0])]


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
    """The field names that `Connection` asks to be taken off, in lower case."""
    named: set[bytes] = set()
    for value in values:
        named.update(option.strip(OWS).lower() for option in value.split(b","))
    named.discard(b"")
    return frozenset(named - _UNREMOVABLE)


def strip_hop_by_hop(raw: Sequence[Pair]) -> FieldLines:
    """An answer's pairs without hop-by-hop fields and what its `Connection` names; names in lower case."""
    pairs = [(name.lower(), value) for name, value in raw]
    connection = [value for name, value in pairs if name == b"connection"]
    drop = HOP_BY_HOP | connection_options(connection) if connection else HOP_BY_HOP
    return FieldLines([pair for pair in pairs if pair[0] not in drop])


def set_fields(pairs: Pairs, changes: Iterable[tuple[bytes, bytes | None]]) -> Pairs:
    """Pairs with each change made: a value replaces all of its name in any spelling of it, None deletes them."""
    changes = tuple(changes)
    # CGI-like servers read `X_User` and `X.User` as `X-User`: nothing may stand beside what the configuration sets.
    names = {as_cgi(name) for name, _ in changes}
    kept = [pair for pair in pairs if as_cgi(pair[0]) not in names]
    kept.extend((name, value) for name, value in changes if value is not None)
    return kept


def encoded_changes(changes: Iterable[tuple[str, str | None]]) -> tuple[tuple[bytes, bytes | None], ...]:
    """Changes of the configuration as `set_fields` takes them: UTF-8, None where a field is deleted."""
    return tuple((name.encode("ascii"), None if value is None else value.encode()) for name, value in changes)


def is_token(text: bytes) -> bool:
    """RFC 9110, section 5.6.2: what a field name or a method may consist of."""
    return _TOKEN.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def parse_host(value: bytes) -> str | None:
    """The host of a Host field in lower case, without its port; None when it is no host.

    A dot at its end says that the name is complete (RFC 1034, section 3.1), which it is: it is left out.
    """
    match = _HOST.fullmatch(value)
    if match is None or (match[2] and int(match[2]) > 65535):
        return None
    host = match[1].decode("ascii").lower()
    if host.startswith("["):
        return host if _address(host[1:-1]) is not None else None
    return (host if host.endswith("..") else host.removesuffix(".")) or None


def same_authority(host_field: str) -> str:
    """A Host field in the one spelling that stands for all: in lower case, the name without a dot at its end."""
    authority = host_field.lower()
    if ends_in_dot(authority):
        name, _, port = authority.rpartition(".")
        return name + port
    return authority


def ends_in_dot(host_field: str) -> bool:
    """Whether the name in a Host field that has passed the door ends in a dot; a port may follow."""
    return host_field.endswith(".") or ".:" in host_field


# -- who is asking ------------------------------------------------------------------------------------------------


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address; an IPv4 one that a dual-stack socket shows as `::ffff:192.0.2.1` is the IPv4 one."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _node(text: str) -> tuple[IPv4Address | IPv6Address | None, str]:
    """An entry of X-Forwarded-For: its address, or None if it is none; and its port with the colon, or nothing."""
    match = _NODE.fullmatch(text)
    if match is None:
        return None, ""
    return _address(match[1] or match[2] or match[4]), match[3] or ""


def _is_in(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def peer_address(text: str) -> str:
    """The address of a connection's other end as people write it: `::ffff:192.0.2.1`, as a dual-stack socket shows an
    IPv4 peer, is `192.0.2.1`."""
    return text.removeprefix("::ffff:") if text.startswith("::ffff:") and "." in text else text


def is_trusted(peer: str, networks: Sequence[Network]) -> bool:
    """Whether the peer of the connection is one of GATEWAY_TRUSTED_PROXIES."""
    if not networks:
        return False
    address = _address(peer)
    return address is not None and _is_in(address, networks)


def client_and_hops(peer: str, forwarded_for: Iterable[bytes], networks: Sequence[Network]) -> tuple[str, int]:
    """The rightmost untrusted address of the X-Forwarded-For that a trusted peer sent; the leftmost if all are trusted.
    And how many trusted proxies stand between it and here.

    An entry that is no address ends the walk: what stands left of it was said by somebody we cannot name. An empty
    one says nothing (RFC 9110, section 5.6.1).
    """
    client, hops = peer, 1
    for entry in reversed(b",".join(forwarded_for).split(b",")):
        text = entry.strip(OWS).decode("latin-1")
        if not text:
            continue
        address, _ = _node(text)
        if address is None:
            return client, hops
        client = str(address)
        if not _is_in(address, networks):
            return client, hops
        hops += 1
    return client, hops


def asked_for(x_forwarded: Iterable[Pair], hops: int) -> tuple[str, str]:
    """The scheme and the host, with its port, that the client asked for, by what `hops` trusted proxies say.

    A proxy sets X-Forwarded-Proto and -Host, or adds to what it got. So of a list the member counts that the outermost
    of the trusted ones wrote; what stands left of it is the client's own word. Empty where nothing is said, or what is
    neither http nor https, or no host.
    """
    scheme, host = (_said_by_outermost(x_forwarded, name, hops) for name in (b"x-forwarded-proto", b"x-forwarded-host"))
    scheme = scheme.lower()
    return (
        scheme.decode("ascii") if scheme in {b"http", b"https"} else "",
        host.decode("latin-1") if parse_host(host) is not None else "",
    )


def _said_by_outermost(pairs: Iterable[Pair], name: bytes, hops: int) -> bytes:
    line = b",".join(value for found, value in pairs if found == name)
    members = [stripped for member in line.split(b",") if (stripped := member.strip(OWS))]
    return members[-hops:][0] if members else b""


def _forwarded_node(text: str) -> str:
    """RFC 7239, section 6: an IPv6 address is bracketed and quoted, a port makes quotes needed, the rest is unknown."""
    address, port = _node(text)
    if address is None:
        return "unknown"
    if address.version == 6:
        return f'"[{address}]{port}"'
    return f'"{address}{port}"' if port else str(address)


def forwarding_pairs(
    peer: str,
    scheme: str,
    host: str,
    prefix: str = "",
    trusted: Sequence[Pair] | None = None,
    *,
    asked: tuple[str, str] = ("", ""),
) -> Sequence[Pair]:
    """X-Forwarded-For, -Host, -Proto, -Prefix and Forwarded for the upstream.

    `peer`, `scheme` and `host` are those of the connection and its Host field, `prefix` is the path prefix that the
    route strips. `trusted` are the incoming X-Forwarded-* pairs of a trusted peer: what they say is kept and
    lengthened; `asked` is what `asked_for` makes of them. With None all of it is replaced. An incoming Forwarded was
    dropped: it is rebuilt from the same facts (RFC 7239, section 5), one element a hop.
    """
    if trusted:
        return _lengthened(peer, scheme, host, prefix, trusted, asked=asked)
    if len(host) + len(prefix) > 255:  # not worth a place in the cache, and the client chose it
        return _replaced.__wrapped__(peer, scheme, host, prefix)
    return _replaced(peer, scheme, host, prefix)


@lru_cache(maxsize=2048)
def _replaced(peer: str, scheme: str, host: str, prefix: str) -> tuple[Pair, ...]:
    return tuple(_fields([peer], host, scheme, prefix))


def _lengthened(
    peer: str, scheme: str, host: str, prefix: str, incoming: Sequence[Pair], *, asked: tuple[str, str]
) -> Pairs:
    said: dict[str, list[str]] = {}
    for name, value in incoming:
        said.setdefault(name.decode("ascii"), []).append(value.decode("latin-1"))
    entries = (entry.strip(_OWS) for entry in ",".join(said.pop("x-forwarded-for", [])).split(","))
    chain = [entry for entry in entries if entry]
    host = ", ".join(said.pop("x-forwarded-host", [host]))
    scheme = ", ".join(said.pop("x-forwarded-proto", [scheme]))
    prefix = said.pop("x-forwarded-prefix", [""])[0].rstrip("/") + prefix
    fields = _fields([*chain, peer], host, scheme, prefix, asked)
    fields.extend((name.encode("ascii"), value.encode("latin-1")) for name, values in said.items() for value in values)
    return fields


def _fields(chain: list[str], host: str, scheme: str, prefix: str, asked: tuple[str, str] = ("", "")) -> Pairs:
    elements = [f"for={_forwarded_node(entry)}" for entry in chain]
    # A list has grown from proxy to proxy. What is no scheme or host is passed on as it came first.
    asked_scheme, asked_host = asked
    facts = (
        ("host", asked_host or host.partition(",")[0].strip(_OWS)),
        ("proto", asked_scheme or scheme.partition(",")[0].strip(_OWS)),
    )
    elements[0] += "".join(f";{name}={_quoted(value)}" for name, value in facts if value)
    fields = {
        b"x-forwarded-for": ", ".join(chain),
        b"x-forwarded-host": host,  # HTTP/1.0 may have sent none
        b"x-forwarded-proto": scheme,
        b"x-forwarded-prefix": prefix,
        b"forwarded": ", ".join(elements),
    }
    return [(name, value.encode("latin-1")) for name, value in fields.items() if value]


def _quoted(value: str) -> str:
    """A token as it is, anything else as a quoted-string (RFC 9110, section 5.6.4)."""
    if is_token(value.encode("latin-1", "replace")):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
