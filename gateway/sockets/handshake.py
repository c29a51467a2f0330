"""A handshake towards an upstream as values: the fields to send, the check of a 101, and of refusals."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha1

from gateway.http.headers import OWS, Pair, Pairs, all_of, is_token

# RFC 6455, section 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_OF_HANDSHAKE = frozenset(
    (b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-protocol")
)


def upgrade_pairs(pairs: Iterable[Pair], key: bytes, offered: Sequence[str]) -> Pairs:
    """The fields of a client's handshake as sent up: with a key of ours, without extensions, which cannot pass."""
    kept = [pair for pair in pairs if pair[0] not in _OF_HANDSHAKE]
    kept += [
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", key),
    ]
    if offered:
        kept.append((b"sec-websocket-protocol", ", ".join(offered).encode("latin-1")))
    return kept


def new_key(random: bytes) -> bytes:
    """Sec-WebSocket-Key of 16 random bytes."""
    return b64encode(random)


def accept_of(key: bytes) -> bytes:
    """Sec-WebSocket-Accept of a key."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def fault_of(pairs: Iterable[Pair], key: bytes, offered: Sequence[str]) -> str | None:
    """Why a 101 is not a valid answer to our handshake (RFC 6455, section 4.1), if so."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value.strip(OWS))
    if found.get(b"sec-websocket-accept") != [accept_of(key)]:
        return "the Sec-WebSocket-Accept of its 101 is not that of our key"
    if b"sec-websocket-extensions" in found:
        return "its 101 has an extension that nobody offered"
    protocols = found.get(b"sec-websocket-protocol", [])
    if len(protocols) > 1 or any(one.decode("latin-1") not in offered for one in protocols):
        return "its 101 has a subprotocol that nobody offered"
    return None


def protocol_of(pairs: Iterable[Pair]) -> str | None:
    """The subprotocol of a 101 that `fault_of` accepts."""
    values = [value.strip(OWS).decode("latin-1") for value in all_of(pairs, b"sec-websocket-protocol")]
    return values[0] if values else None


def offered_by(values: Iterable[bytes]) -> list[str] | None:
    """The subprotocols that a client offers, in its order; None if one is no token, or is repeated."""
    found = [one.strip(OWS) for one in b",".join(values).split(b",")]
    offered = [one for one in found if one]
    if not all(map(is_token, offered)) or len(set(offered)) < len(offered):
        return None
    return [one.decode("ascii") for one in offered]


def once_each(pairs: Iterable[Pair]) -> Pairs:
    """The fields of an answer other than 101, each name once: a repeated one ends Granian's worker.

    Lists are joined (RFC 9110, section 5.3); cookies are no list, so only the first one is kept.
    """
    found: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif name != b"set-cookie":
            found[name] += b", " + value
    return list(found.items())
