"""The client's address, and the proxies before here: X-Forwarded-*, Forwarded (RFC 7239), trusted peers."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from gateway.http.headers import OWS, OWS_TEXT, Network, Pair, Pairs, field_block, is_token, parse_address, parse_host

# `192.0.2.1:80`, `[2001:db8::1]:80` as in RFC 7239, section 6; and IPv6 bare, as X-Forwarded-For mostly has it: its
# last group is no port.
_NODE = re.compile(r"(?:([0-9.]+)|\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\])(:[0-9]{1,5})?|([0-9A-Fa-f:.]+)")


def _node(text: str) -> tuple[IPv4Address | IPv6Address | None, str]:
    """An entry of X-Forwarded-For: its address, or None if it has none; and its port with the colon, or nothing."""
    match = _NODE.fullmatch(text)
    if match is None:
        return None, ""
    return parse_address(match[1] or match[2] or match[4]), match[3] or ""


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
    address = parse_address(peer)
    return address is not None and _is_in(address, networks)


def client_and_hops(peer: str, forwarded_for: Iterable[bytes], networks: Sequence[Network]) -> tuple[str, int]:
    """The client's address, and how many trusted proxies stand between it and here. It is the rightmost untrusted
    address of the X-Forwarded-For that a trusted peer sent; the leftmost if all are trusted.

    An entry that is no address ends the walk: what stands left of it comes from an unknown source. Empty entries are
    skipped (RFC 9110, section 5.6.1).
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
    """The scheme and the host, with its port, that the client asked for, as `hops` trusted proxies state them.

    A proxy sets X-Forwarded-Proto and -Host, or appends to what it received. So in a list, the member counts that the
    outermost trusted proxy wrote; what stands left of it is the client's own claim. Empty where there is none, or where
    it is no host, or neither http nor https.
    """
    scheme, host = (_from_outermost(x_forwarded, name, hops) for name in (b"x-forwarded-proto", b"x-forwarded-host"))
    scheme = scheme.lower()
    return (
        scheme.decode("ascii") if scheme in {b"http", b"https"} else "",
        host.decode("latin-1") if parse_host(host) is not None else "",
    )


def _from_outermost(pairs: Iterable[Pair], name: bytes, hops: int) -> bytes:
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
    route strips. `trusted` are the incoming X-Forwarded-* pairs of a trusted peer: they are kept and appended to;
    `asked` is what `asked_for` makes of them. With None all of it is replaced. An incoming Forwarded was dropped: it is
    rebuilt from the same facts (RFC 7239, section 5), one element a hop.
    """
    if trusted:
        return _lengthened(peer, scheme, host, prefix, trusted, asked=asked)
    if len(host) + len(prefix) > 255:  # not worth a place in the cache, and the client chose it
        return _replaced.__wrapped__(peer, scheme, host, prefix)
    return _replaced(peer, scheme, host, prefix)


def forwarding_block(peer: str, scheme: str, host: str, prefix: str) -> bytes:
    """The fields of `forwarding_pairs` for an untrusted peer, as bytes to send."""
    if len(host) + len(prefix) > 255:
        return field_block(_replaced.__wrapped__(peer, scheme, host, prefix))
    return _replaced_block(peer, scheme, host, prefix)


@lru_cache(maxsize=2048)
def _replaced_block(peer: str, scheme: str, host: str, prefix: str) -> bytes:
    return field_block(_fields([peer], host, scheme, prefix))


@lru_cache(maxsize=2048)
def _replaced(peer: str, scheme: str, host: str, prefix: str) -> tuple[Pair, ...]:
    return tuple(_fields([peer], host, scheme, prefix))


def _lengthened(
    peer: str, scheme: str, host: str, prefix: str, incoming: Sequence[Pair], *, asked: tuple[str, str]
) -> Pairs:
    sent: dict[str, list[str]] = {}
    for name, value in incoming:
        sent.setdefault(name.decode("ascii"), []).append(value.decode("latin-1"))
    entries = (entry.strip(OWS_TEXT) for entry in ",".join(sent.pop("x-forwarded-for", [])).split(","))
    chain = [entry for entry in entries if entry]
    host = ", ".join(sent.pop("x-forwarded-host", [host]))
    scheme = ", ".join(sent.pop("x-forwarded-proto", [scheme]))
    prefix = sent.pop("x-forwarded-prefix", [""])[0].rstrip("/") + prefix
    fields = _fields([*chain, peer], host, scheme, prefix, asked)
    fields.extend((name.encode("ascii"), value.encode("latin-1")) for name, values in sent.items() for value in values)
    return fields


def _fields(chain: list[str], host: str, scheme: str, prefix: str, asked: tuple[str, str] = ("", "")) -> Pairs:
    elements = [f"for={_forwarded_node(entry)}" for entry in chain]
    # A list grows from proxy to proxy. If the member is no scheme or host, the first one is passed on as it came.
    asked_scheme, asked_host = asked
    facts = (
        ("host", asked_host or host.partition(",")[0].strip(OWS_TEXT)),
        ("proto", asked_scheme or scheme.partition(",")[0].strip(OWS_TEXT)),
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
