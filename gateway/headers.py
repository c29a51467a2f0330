"""What RFC 9110 says of field lines, over raw pairs: hop-by-hop fields, Via, Forwarded, Host, the client's address.

Pairs are `(name, value)` in bytes, names in lower case as Granian hands them over. Order and repetition are kept:
nothing here makes a mapping of what may come twice.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Pair = tuple[bytes, bytes]
Pairs = list[Pair]
Network = IPv4Network | IPv6Network

# RFC 9110, section 5.6.3. HOWEVER not what bytes.strip() takes for white space by itself: a vertical tab is none.
OWS = b" \t"

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

# RFC 9110, section 7.2 and RFC 3986, section 3.2: a host is a reg-name, an IPv4 address or a bracketed IPv6 one, and
# not empty. HOWEVER no comma: that is how two Host fields look when somebody joined them.
_HOST = re.compile(
    rb"(\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?"
)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# `192.0.2.1:80`, `[2001:db8::1]:80` as in RFC 7239, section 6; and IPv6 bare, as X-Forwarded-For mostly has it: its
# last group is no port.
_NODE = re.compile(r"(?:([0-9.]+)|\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\])(:[0-9]{1,5})?|([0-9A-Fa-f:.]+)")


@dataclass(slots=True)
class RequestFields:
    """A request's field lines, read once: those that pass as they came, and those the gateway has a word in."""

    plain: Pairs = field(default_factory=list)
    own: dict[bytes, list[bytes]] = field(default_factory=dict)
    x_forwarded: Pairs = field(default_factory=list)
    size_bytes: int = 0
    forged: bytes | None = None  # a name that CGI-like servers take for one of the gateway's own: Content_Length

    def first(self, name: bytes) -> bytes | None:
        values = self.own.get(name)
        return values[0] if values else None

    def only(self, name: bytes) -> bytes | None:
        """The value of a field that came exactly once."""
        values = self.own.get(name)
        return values[0] if values and len(values) == 1 else None

    def end_to_end(self) -> Pairs:
        """The plain pairs less those that `Connection` names (RFC 9110, section 7.6.1)."""
        connection = self.own.get(b"connection")
        named = connection_options(connection) if connection else None
        return [pair for pair in self.plain if pair[0] not in named] if named else self.plain


def read_fields(raw: Iterable[Pair]) -> RequestFields:
    """Sort a request's raw pairs in one pass."""
    plain: Pairs = []
    own: dict[bytes, list[bytes]] = {}
    x_forwarded: Pairs = []
    size = 0
    forged = None
    for pair in raw:
        name, value = pair
        size += len(name) + len(value) + 4
        if name in _OWN:
            own.setdefault(name, []).append(value)
        elif name.startswith(_X_FORWARDED):
            x_forwarded.append(pair)
        else:
            plain.append(pair)
            if b"_" in name:
                dashed = name.replace(b"_", b"-")
                if dashed in _OWN or dashed.startswith(_X_FORWARDED):
                    forged = name
    return RequestFields(plain, own, x_forwarded, size, forged)


def connection_options(values: Iterable[bytes]) -> frozenset[bytes]:
    """The field names that `Connection` asks to be taken off, in lower case."""
    named: set[bytes] = set()
    for value in values:
        named.update(option.strip(OWS).lower() for option in value.split(b","))
    named.discard(b"")
    return frozenset(named - _UNREMOVABLE)


def strip_hop_by_hop(raw: Sequence[Pair]) -> Pairs:
    """An answer's pairs without hop-by-hop fields and what its `Connection` names; names in lower case."""
    pairs = [(name.lower(), value) for name, value in raw]
    connection = [value for name, value in pairs if name == b"connection"]
    drop = HOP_BY_HOP | connection_options(connection) if connection else HOP_BY_HOP
    return [pair for pair in pairs if pair[0] not in drop]


def set_fields(pairs: Pairs, changes: Iterable[tuple[bytes, bytes | None]]) -> Pairs:
    """Pairs with each change made: a value replaces all of its name, None deletes it."""
    changes = tuple(changes)
    names = {name for name, _ in changes}
    # CGI-like servers read `X_User` as `X-User`: a client must not set beside what the configuration sets.
    kept = [pair for pair in pairs if pair[0] not in names and pair[0].replace(b"_", b"-") not in names]
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
    """The host of a Host field in lower case, without its port; None when it is no host."""
    match = _HOST.fullmatch(value)
    if match is None or (match[2] and int(match[2]) > 65535):
        return None
    host = match[1].decode("ascii").lower()
    if host.startswith("["):
        return host if _address(host[1:-1]) is not None else None
    return host


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


def is_trusted(peer: str, networks: Sequence[Network]) -> bool:
    """Whether the peer of the connection is one of GATEWAY_TRUSTED_PROXIES."""
    if not networks:
        return False
    address = _address(peer)
    return address is not None and _is_in(address, networks)


def client_address(peer: str, forwarded_for: Iterable[bytes], networks: Sequence[Network]) -> str:
    """The rightmost untrusted address of the X-Forwarded-For that a trusted peer sent; the leftmost if all are trusted.

    An entry that is no address ends the walk: what stands left of it was said by somebody we cannot name. An empty
    one says nothing (RFC 9110, section 5.6.1).
    """
    client = peer
    for entry in reversed(b",".join(forwarded_for).split(b",")):
        text = entry.strip().decode("latin-1")
        if not text:
            continue
        address, _ = _node(text)
        if address is None:
            return client
        client = str(address)
        if not _is_in(address, networks):
            return client
    return client


def _forwarded_node(text: str) -> str:
    """RFC 7239, section 6: an IPv6 address is bracketed and quoted, a port makes quotes needed, the rest is unknown."""
    address, port = _node(text)
    if address is None:
        return "unknown"
    if address.version == 6:
        return f'"[{address}]{port}"'
    return f'"{address}{port}"' if port else str(address)


def forwarding_pairs(
    peer: str, scheme: str, host: str, prefix: str = "", trusted: Sequence[Pair] | None = None
) -> Sequence[Pair]:
    """X-Forwarded-For, -Host, -Proto, -Prefix and Forwarded for the upstream.

    `peer`, `scheme` and `host` are those of the connection and its Host field, `prefix` is the path prefix that the
    route strips. `trusted` are the incoming X-Forwarded-* pairs of a trusted peer: what they say is kept and
    lengthened. With None all of it is replaced. An incoming Forwarded was dropped: it is rebuilt from the same
    facts (RFC 7239, section 5), one element a hop.
    """
    if trusted:
        return _lengthened(peer, scheme, host, prefix, trusted)
    if len(host) + len(prefix) > 255:  # not worth a place in the cache, and the client chose it
        return _replaced.__wrapped__(peer, scheme, host, prefix)
    return _replaced(peer, scheme, host, prefix)


@lru_cache(maxsize=2048)
def _replaced(peer: str, scheme: str, host: str, prefix: str) -> tuple[Pair, ...]:
    return tuple(_fields([peer], host, scheme, prefix))


def _lengthened(peer: str, scheme: str, host: str, prefix: str, incoming: Sequence[Pair]) -> Pairs:
    said: dict[str, list[str]] = {}
    for name, value in incoming:
        said.setdefault(name.decode("ascii"), []).append(value.decode("latin-1"))
    chain = [entry.strip() for entry in ",".join(said.pop("x-forwarded-for", [])).split(",") if entry.strip()]
    host = ", ".join(said.pop("x-forwarded-host", [host]))
    scheme = ", ".join(said.pop("x-forwarded-proto", [scheme]))
    prefix = said.pop("x-forwarded-prefix", [""])[0].rstrip("/") + prefix
    fields = _fields([*chain, peer], host, scheme, prefix)
    fields.extend((name.encode("ascii"), value.encode("latin-1")) for name, values in said.items() for value in values)
    return fields


def _fields(chain: list[str], host: str, scheme: str, prefix: str) -> Pairs:
    elements = [f"for={_forwarded_node(entry)}" for entry in chain]
    # A list has grown from proxy to proxy: its first member is what the client itself asked for.
    asked = (("host", host.partition(",")[0].strip()), ("proto", scheme.partition(",")[0].strip()))
    elements[0] += "".join(f";{name}={_quoted(value)}" for name, value in asked if value)
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
