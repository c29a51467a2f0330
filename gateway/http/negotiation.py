"""Which representation a client accepts (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

JSON, NDJSON, EVENTS = "application/json", "application/x-ndjson", "text/event-stream"


_PLAIN: Final = frozenset({b"", b"*/*", b"application/json"})  # what most clients say


_MOST_RANGES: Final = 50  # of Accept, and parameters of one, that are looked at: no client means more


def representation(accept: Iterable[bytes]) -> str:
    """The media type that the client likes best (RFC 9110, section 12.5.1); a wildcard means JSON.

    Streams must be asked for by name; of equals JSON wins. Where none is acceptable, JSON is sent all the same.
    """
    joined = b",".join(accept)
    if joined in _PLAIN:
        return JSON
    ranges = dict(_ranges(joined.decode("latin-1")))
    # Of the ranges that hold for a type the most specific one counts.
    json = next((ranges[media] for media in (JSON, "application/*", "*/*") if media in ranges), 0.0)
    liked = {JSON: json, NDJSON: ranges.get(NDJSON, 0.0), EVENTS: ranges.get(EVENTS, 0.0)}
    return max(liked, key=lambda media: liked[media])


def _ranges(text: str) -> Iterator[tuple[str, float]]:
    for item in text.split(",", _MOST_RANGES)[:_MOST_RANGES]:
        media, *params = (word.strip().lower() for word in item.split(";", _MOST_RANGES)[:_MOST_RANGES])
        quality = 1.0
        for param in params:
            name, _, value = param.partition("=")
            if name.strip() == "q":
                quality = float(value) if re.fullmatch(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?", value.strip()) else 0.0
        yield media, quality
