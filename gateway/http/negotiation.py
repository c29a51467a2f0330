"""Which representation a client accepts: media types and content codings (RFC 9110, sections 12.5.1 and 12.5.3)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

JSON, NDJSON, EVENTS = "application/json", "application/x-ndjson", "text/event-stream"


_PLAIN: Final = frozenset({b"", b"*/*", b"application/json"})  # what most clients send


_MOST_RANGES: Final = 50  # of Accept, and parameters of one, that are read: no real client sends more


def representation(accept: Iterable[bytes]) -> str:
    """The media type that the client likes best (RFC 9110, section 12.5.1); a wildcard means JSON.

    Streams must be asked for by name; of equals JSON wins. Where none is acceptable, JSON is sent all the same.
    """
    joined = b",".join(accept)
    if joined in _PLAIN:
        return JSON
    ranges = dict(_ranges(joined.decode("latin-1")))
    # Of the ranges that match a type the most specific one counts.
    json = next((ranges[media] for media in (JSON, "application/*", "*/*") if media in ranges), 0.0)
    liked = {JSON: json, NDJSON: ranges.get(NDJSON, 0.0), EVENTS: ranges.get(EVENTS, 0.0)}
    return max(liked, key=lambda media: liked[media])


IDENTITY: Final = "identity"


class Codings:
    """The content codings that a client accepts: the `weight` of one that it does not accept is 0."""

    __slots__ = ("_weights",)

    def __init__(self, accept_encoding: Iterable[bytes]) -> None:
        weights = dict(_ranges(b",".join(accept_encoding).decode("latin-1")))
        if "x-gzip" in weights:  # an old name of it (RFC 9110, section 8.4.1.3)
            weights.setdefault("gzip", weights["x-gzip"])
        self._weights = weights

    def weight(self, name: str) -> float:
        return self._weights.get(name, self._weights.get("*", 0.0))

    @property
    def refuses_identity(self) -> bool:
        """Whether an answer without any coding is not acceptable: `identity;q=0`, or `*;q=0` and no `identity`."""
        return self._weights.get(IDENTITY, self._weights.get("*", 1.0)) == 0.0

    def best(self, offered: Sequence[str]) -> str | None:
        """The coding that the client prefers, of equals the one that is offered first; None if it prefers none of them.

        No coding at all counts as equal to the best, unless the client gives it a weight.
        """
        found = max(offered, key=self.weight, default=None)
        if found is None or not self.weight(found):
            return None
        return None if self._weights.get(IDENTITY, 0.0) > self.weight(found) else found


def _ranges(text: str) -> Iterator[tuple[str, float]]:
    for item in text.split(",", _MOST_RANGES)[:_MOST_RANGES]:
        media, *params = (word.strip().lower() for word in item.split(";", _MOST_RANGES)[:_MOST_RANGES])
        quality = 1.0
        for param in params:
            name, _, value = param.partition("=")
            if name.strip() == "q":
                quality = float(value) if re.fullmatch(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?", value.strip()) else 0.0
        yield media, quality
