"""Content codings (RFC 9110, section 8.4) are decoded in pieces, so that nothing grows beyond its limit on the way.

A body of a few KiB can stand for gigabytes. Each coding is a lazy step from small pieces to small pieces, and the sum
is counted at the end of the chain: a body that is too large is never decoded whole.
"""

import importlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Final

from gateway.http import fields
from gateway.http.headers import Pair, Pairs

_PIECE_BYTES: Final = 64 * 1024
_FED_BYTES: Final = 16 * 1024  # zlib copies what it has not read yet, again and again
_MAX_MEMBERS: Final = 10_000  # of gzip: each costs some microseconds, even an empty one
# Each further coding is a further stage of a zip bomb; no honest body has so many.
_MAX_CODINGS: Final = 4
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's words for its three forms
_MAX_ZSTD_WINDOW_BYTES: Final = 8 * 2**20  # RFC 9659
_ZSTD_BYTES: Final = 128  # 4 bytes can stand for a block of 128 KiB, so these for 4 MiB

# Fields that are true of the coded bytes only.
_OF_CODED: Final = frozenset(
    (b"content-encoding", b"content-length", b"content-md5", b"digest", b"content-digest", b"repr-digest")
) | {b"accept-ranges"}

Step = Callable[[Iterable[bytes]], Iterator[bytes]]


class Undecodable(ValueError):
    """The body is not in the coding that its answer names; the text says more."""


class TooLarge(ValueError):
    """Decoded, it is larger than it may be."""


def of(pairs: Sequence[Pair]) -> list[str]:
    """The codings that Content-Encoding names, in the order in which they were applied; names in any case."""
    values = [value for name, value in pairs if len(name) == 16 and name.lower() == b"content-encoding"]
    if not values:  # nearly always
        return []
    return [name for member in fields.members(values) if (name := member.lower()) != "identity"]


def without(pairs: Sequence[Pair], size: int | None) -> Pairs:
    """The field lines of a decoded response: `size` is that of its body now, None if it has none.

    A strong validator of the coded bytes is only a weak one of the decoded bytes (RFC 9110, section 8.8.3.3).
    """
    left = [
        (name, weak(value) if name.lower() == b"etag" else value)
        for name, value in pairs
        if name.lower() not in _OF_CODED
    ]
    return left if size is None else [*left, (b"content-length", b"%d" % size)]


def weak(tag: bytes) -> bytes:
    """An entity tag as a weak one."""
    return tag if tag.startswith(b"W/") else b"W/" + tag


def known(names: Sequence[str]) -> bool:
    """Whether all of these codings can be undone here, `br` and `zstd` only where their package is installed."""
    return 0 < len(names) <= _MAX_CODINGS and all(_step(name) is not None for name in names)


def decoded(body: bytes, names: Sequence[str], max_bytes: int) -> Iterator[bytes]:
    """The pieces of a body that was coded with `names`, in that order. Raises Undecodable, TooLarge.

    An empty body counts as empty in any coding, as in other clients.
    """
    if not body:
        return
    pieces: Iterable[bytes] = (body[start : start + _FED_BYTES] for start in range(0, len(body), _FED_BYTES))
    for name in reversed(names):
        step = _step(name)
        if step is None:
            raise Undecodable(f"the coding {name} is not known")
        pieces = step(pieces)
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > max_bytes:
            raise TooLarge(f"more than {max_bytes} bytes")
        yield piece


def _step(name: str) -> Step | None:
    if name in {"gzip", "x-gzip"}:
        return _gunzipped
    if name == "deflate":
        return _inflated
    # Versions before 1.2 have no limit on the output of one call.
    if name == "br" and hasattr(getattr(_package("brotli"), "Decompressor", None), "can_accept_more_data"):
        return _unbrotlied
    if name == "zstd" and _package("zstandard") is not None:
        return _unzstded
    return None


@cache
def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _gunzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """One gzip member after the other (RFC 1952, section 2.2); zeros behind the last one are padding."""
    inflater: Any = None
    members = 0
    for piece in pieces:
        data = piece
        while data:
            if inflater is None or inflater.eof:
                if inflater is not None and not data.strip(b"\0"):
                    break
                inflater = zlib.decompressobj(_GZIP)
                members += 1
                if members > _MAX_MEMBERS:
                    raise Undecodable(f"more than {_MAX_MEMBERS} gzip members")
            yield from _inflate(inflater, data, "gzip")
            data = inflater.unused_data
    _check_end(inflater, "gzip")


def _inflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`deflate` is the zlib format (RFC 9110, section 8.4.1.2); some servers send the bare stream."""
    inflater: Any = None
    for piece in pieces:
        if inflater is None and piece:
            is_zlib = piece[0] & 0x0F == 8 and (len(piece) < 2 or (piece[0] << 8 | piece[1]) % 31 == 0)
            inflater = zlib.decompressobj(_ZLIB if is_zlib else _RAW)
        if piece:
            yield from _inflate(inflater, piece, "deflate")
            if inflater.unused_data:
                raise Undecodable("something follows the deflate stream")
    _check_end(inflater, "deflate")


def _inflate(inflater: Any, data: bytes, name: str) -> Iterator[bytes]:
    try:
        while data and not inflater.eof:
            if piece := inflater.decompress(data, _PIECE_BYTES):
                yield piece
            data = inflater.unconsumed_tail
        while not inflater.eof and (piece := inflater.decompress(b"", _PIECE_BYTES)):
            yield piece
    except zlib.error as error:
        raise Undecodable(f"no {name}: {error}") from error


def _check_end(inflater: Any, name: str) -> None:
    if inflater is None or not inflater.eof:
        raise Undecodable(f"the {name} stream breaks off")


def _unbrotlied(pieces: Iterable[bytes]) -> Iterator[bytes]:
    brotli = _package("brotli")
    decoder = brotli.Decompressor()
    try:
        for piece in pieces:
            made = decoder.process(piece, output_buffer_limit=_PIECE_BYTES)
            while made:
                yield made
                made = decoder.process(b"", output_buffer_limit=_PIECE_BYTES) if not decoder.is_finished() else b""
    except brotli.error as error:
        raise Undecodable(f"no br: {error}") from error
    if not decoder.is_finished():
        raise Undecodable("the br stream breaks off")


def _unzstded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """One frame after the other. zstandard has no limit on its output, so it gets little input at a time."""
    zstandard = _package("zstandard")
    decoder: Any = None
    try:
        for piece in pieces:
            for start in range(0, len(piece), _ZSTD_BYTES):
                data = piece[start : start + _ZSTD_BYTES]
                while data:
                    if decoder is None or decoder.eof:
                        window = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW_BYTES)
                        decoder = window.decompressobj()
                    if made := decoder.decompress(data):
                        yield made
                    data = decoder.unused_data if decoder.eof else b""
    except zstandard.ZstdError as error:
        raise Undecodable(f"no zstd: {error}") from error
    _check_end(decoder, "zstd")
