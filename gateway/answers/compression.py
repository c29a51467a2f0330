"""Which answers are compressed on their way down, and how, decided from fields alone (RFC 9110, 8.4 and 12.5.3).

Compressed are texts from 1 KiB on without a coding, for clients that accept one. All others stay as they are, byte for
byte: partial responses (206), those with `no-transform`, those with a coding.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.http import codings, fields
from gateway.http.headers import Pair, Pairs, all_of, first_of
from gateway.http.negotiation import Codings

MIN_BYTES: Final = 1024
GZIP, ZSTD = "gzip", "zstd"
# The order among codings that a client accepts equally. Whole bodies are smaller with zstd; streams may stay open for
# hours, and gzip takes a tenth of the memory.
OF_WHOLE: Final = (ZSTD, GZIP)
OF_STREAMS: Final = (GZIP, ZSTD)

_TEXT: Final = re.compile(
    r"text/.+"
    r"|.+\+(?:json|xml|yaml)"
    r"|application/(?:(?:x-)?(?:javascript|ecmascript|ndjson|jsonlines|jsonl|yaml|toml|sql)"
    r"|json|json-seq|xml|xml-dtd|graphql|rtf|x-www-form-urlencoded)"
)
_WITHOUT_CODING: Final = frozenset({204, 205, 206, 304})
_VARY: Final[Pair] = (b"vary", b"Accept-Encoding")


@dataclass(frozen=True, slots=True)
class Decision:
    """`coding` is the coding for the answer, or None; `varies` if other clients may get another one."""

    coding: str | None = None
    varies: bool = False


NOTHING: Final = Decision()


def decide(
    method: str, request: Sequence[Pair], status: int, pairs: Sequence[Pair], size: int | None, *, streams: bool
) -> Decision:
    """The decision for an answer with these fields. `size` is the size of its body, None if that is not known yet."""
    if status < 200 or status in _WITHOUT_CODING or method == "CONNECT" or not _may_be_coded(pairs):
        return NOTHING
    if forbids(request) or any(name == b"range" for name, _ in request):
        return Decision(varies=True)
    accepted = Codings(all_of(request, b"accept-encoding"))
    if size is not None and (size == 0 or (size < MIN_BYTES and not accepted.refuses_identity)):
        return Decision(varies=True)
    return Decision(accepted.best(OF_STREAMS if streams else OF_WHOLE), varies=True)


def promised_bytes(pairs: Iterable[Pair]) -> int | None:
    """The Content-Length of a body that is still to come, or that HEAD leaves out."""
    value = first_of(pairs, b"content-length")
    return int(value) if value is not None and value.isdigit() and len(value) < 20 else None


def is_text(content_type: bytes | None) -> bool:
    """Whether a body of this media type gets much smaller."""
    media = (content_type or b"").partition(b";")[0].strip().lower().decode("latin-1")
    return _TEXT.fullmatch(media) is not None


def coded_pairs(pairs: Sequence[Pair], coding: str, size: int | None) -> Pairs:
    """The field lines of the coded answer; `size` is the size of its body, None if it streams.

    A strong validator becomes a weak one, and ranges are no longer accepted (RFC 9110, 8.8.1, 14.3).
    """
    left = [*codings.without(pairs, size), (b"content-encoding", coding.encode("ascii"))]
    return varying(left)


def varying(pairs: Sequence[Pair]) -> Pairs:
    """The field lines of an answer that other clients may get in another coding."""
    named = {member.lower() for member in fields.members(all_of(pairs, b"vary"))}
    return [*pairs] if named & {"*", "accept-encoding"} else [*pairs, _VARY]


def unchanged_pairs(request: Sequence[Pair], pairs: Sequence[Pair]) -> Pairs | None:
    """The field lines of a 304 to a client that has the coded answer, by its weak tag; None for all others."""
    known = fields.entity_tags(all_of(request, b"if-none-match"))
    tag = first_of(pairs, b"etag")
    if tag is None or codings.of(pairs) or codings.weak(tag) not in known:
        return None
    return varying([(name, codings.weak(value) if name == b"etag" else value) for name, value in pairs])


def _may_be_coded(pairs: Sequence[Pair]) -> bool:
    return (
        is_text(first_of(pairs, b"content-type"))
        and not any(name in {b"content-encoding", b"content-range"} for name, _ in pairs)
        and not forbids(pairs)
    )


def forbids(pairs: Iterable[Pair]) -> bool:
    """Whether Cache-Control says `no-transform` (RFC 9111, sections 5.2.1.6 and 5.2.2.6)."""
    values = all_of(pairs, b"cache-control")
    return bool(values) and "no-transform" in fields.directives(values)
