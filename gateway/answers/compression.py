"""Which answers are compressed on their way down, and how, decided from fields alone (RFC 9110, 8.4 and 12.5.3).

Text is, of 1 KiB and more, that came without a coding, for a client that takes one. All the rest stays as it is, byte
for byte: a part of something (206), what says `no-transform`, what is coded already.
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
# Of codings that a client likes as much. What is whole is smaller by zstd; what streams may stay open for hours, and
# then gzip, which takes a tenth of the memory, is better.
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
    """`coding` is what the answer is to be coded with, or None; `varies` where another client may have another one."""

    coding: str | None = None
    varies: bool = False


NOTHING: Final = Decision()


def decide(
    method: str, request: Sequence[Pair], status: int, pairs: Sequence[Pair], size: int | None, *, streams: bool
) -> Decision:
    """What becomes of an answer with these fields. `size` is that of its body, None where nobody knows it yet."""
    if status < 200 or status in _WITHOUT_CODING or method == "CONNECT" or not _may_be_coded(pairs):
        return NOTHING
    if forbids(request) or any(name == b"range" for name, _ in request):
        return Decision(varies=True)
    accepted = Codings(all_of(request, b"accept-encoding"))
    if size is not None and (size == 0 or (size < MIN_BYTES and not accepted.refuses_identity)):
        return Decision(varies=True)
    return Decision(accepted.best(OF_STREAMS if streams else OF_WHOLE), varies=True)


def promised_bytes(pairs: Iterable[Pair]) -> int | None:
    """What Content-Length says of a body that is still to come, or that a HEAD leaves out."""
    value = first_of(pairs, b"content-length")
    return int(value) if value is not None and value.isdigit() and len(value) < 20 else None


def is_text(content_type: bytes | None) -> bool:
    """Whether a media type is of something that becomes much smaller."""
    media = (content_type or b"").partition(b";")[0].strip().lower().decode("latin-1")
    return _TEXT.fullmatch(media) is not None


def coded_pairs(pairs: Sequence[Pair], coding: str, size: int | None) -> Pairs:
    """The field lines of the coded answer; `size` is that of its body, None where it streams.

    What was a strong validator of the bytes is a weak one now, and no part can be had of these (RFC 9110, 8.8.1, 14.3).
    """
    left = [*codings.without(pairs, size), (b"content-encoding", coding.encode("ascii"))]
    return varying(left)


def varying(pairs: Sequence[Pair]) -> Pairs:
    """The field lines of an answer that another client may be given in another coding."""
    named = {member.lower() for member in fields.members(all_of(pairs, b"vary"))}
    return [*pairs] if named & {"*", "accept-encoding"} else [*pairs, _VARY]


def unchanged_pairs(request: Sequence[Pair], pairs: Sequence[Pair]) -> Pairs | None:
    """The field lines of a 304 to a client that has the coded answer, whose tag is a weak one; None for all others."""
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
