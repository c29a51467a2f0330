"""gzip by isal, zstd by zstandard, of the extra [compress]: the only file that knows them. Imported at first use."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, Protocol

from gateway.answers.compression import GZIP

_GZIP_LEVEL, _ZSTD_LEVEL = 1, 3
_GZIP_FORM = 31  # zlib's word for it
# Settings for the memory of each open stream: 0.6 MB with these, 3.7 MB without.
_OF_STREAMS = {"window_log": 16, "hash_log": 14, "chain_log": 14}


class Coder(Protocol):
    """Codes a body piece by piece."""

    def code(self, piece: bytes | memoryview) -> bytes:
        """The coded piece, flushed, so that its reader can decode all of it."""

    def end(self) -> bytes: ...


def missing_packages() -> tuple[str, ...]:
    """The packages that are needed and not installed."""
    return tuple(name for name in ("isal", "zstandard") if find_spec(name) is None)


def whole_coder(coding: str) -> Callable[[bytes], bytes]:
    """A function that codes a whole body; some milliseconds per megabyte."""
    return _gzip_whole() if coding == GZIP else _zstd_whole()


def stream_coder(coding: str) -> Coder:
    return _Gzip() if coding == GZIP else _Zstd()


@cache
def _gzip_whole() -> Callable[[bytes], bytes]:
    from isal import isal_zlib

    return lambda body: isal_zlib.compress(body, _GZIP_LEVEL, _GZIP_FORM)


@cache
def _zstd_whole() -> Callable[[bytes], bytes]:
    import zstandard

    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress


class _Gzip:
    def __init__(self) -> None:
        from isal import isal_zlib

        self._coder: Any = isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_FORM)
        self._flush = isal_zlib.Z_SYNC_FLUSH

    def code(self, piece: bytes | memoryview) -> bytes:
        first: bytes = self._coder.compress(piece)
        return first + self._coder.flush(self._flush)  # type: ignore[no-any-return]

    def end(self) -> bytes:
        return self._coder.flush()  # type: ignore[no-any-return]


class _Zstd:
    def __init__(self) -> None:
        import zstandard

        parameters = zstandard.ZstdCompressionParameters.from_level(_ZSTD_LEVEL, **_OF_STREAMS)
        self._coder: Any = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        self._flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK

    def code(self, piece: bytes | memoryview) -> bytes:
        first: bytes = self._coder.compress(piece)
        return first + self._coder.flush(self._flush)  # type: ignore[no-any-return]

    def end(self) -> bytes:
        return self._coder.flush()  # type: ignore[no-any-return]
