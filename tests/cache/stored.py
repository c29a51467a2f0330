"""Answers and stored answers for the tests of what the cache decides, said as they stand on the wire."""

from collections.abc import Iterable

from gateway.cache.policy import Entry, Response, Rule, entry_of
from gateway.http.fields import http_date
from gateway.http.headers import Pair, Pairs

NOW_S = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
AS_IT_SAYS = Rule()


def date(seconds: float = 0.0) -> str:
    """The date so many seconds after NOW_S."""
    return http_date(int(NOW_S + seconds)).decode()


def pairs(*lines: str) -> Pairs:
    """`Cache-Control: max-age=60` -> (b"cache-control", b"max-age=60")."""
    split = (line.partition(":") for line in lines)
    return [(name.lower().encode(), value.strip(" ").encode("latin-1")) for name, _, value in split]


def response(
    *lines: str,
    request: Iterable[str] = (),
    status: int = 200,
    method: str = "GET",
    at_s: float = NOW_S,
    took_s: float = 0.0,
    dated: bool = True,
) -> Response:
    """An answer with these fields, made and received at `at_s`, to a request with those fields."""
    said: list[Pair] = pairs(*lines)
    if dated and not any(name == b"date" for name, _ in said):
        said.append((b"date", http_date(int(at_s))))
    return Response(method, pairs(*request), status, said, at_s - took_s, at_s)


def entry(
    *lines: str,
    request: Iterable[str] = (),
    status: int = 200,
    at_s: float = NOW_S,
    took_s: float = 0.0,
    rule: Rule = AS_IT_SAYS,
    body: bytes = b"",
) -> Entry:
    """What is stored of that answer."""
    return entry_of(response(*lines, request=request, status=status, at_s=at_s, took_s=took_s), rule, body)
