"""Coverage-guided fuzzing of the door and of the parsers of every field the gateway reads; run by hand.

    pip install atheris && python -m tests.fuzz -max_total_time=60

What it finds becomes a test. It holds that nothing raises but a GatewayError, and what stands in `check`.
"""

import sys
from ipaddress import ip_address, ip_network

from gateway.cache import conditional, freshness
from gateway.cache.policy import Response, Rule, entry_of, refusal
from gateway.errors import GatewayError
from gateway.http import cors, fields, forwarding, headers, paths, trace_context, validation
from gateway.proxy import location

NETWORKS = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
NAMES = (b"host", b"content-length", b"transfer-encoding", b"expect", b"connection", b"x-forwarded-for", b"forwarded")
OTHERS = (b"via", b"traceparent", b"x-request-id", b"origin", b"access-control-request-method", b"a", b"content_length")
CACHING: tuple[bytes, ...] = (b"cache-control", b"cdn-cache-control", b"vary", b"age", b"date", b"expires", b"etag")
CACHING += (
    b"last-modified",
    b"if-none-match",
    b"if-modified-since",
    b"if-range",
    b"range",
    b"pragma",
    b"set-cookie",
    b"surrogate-key",
)
OWN = frozenset({("http", "up", 80)})


def pairs_of(data: bytes) -> headers.Pairs:
    """Field lines from bytes: a byte chooses the name, what follows up to a line feed is the value."""
    names = NAMES + OTHERS + CACHING
    return [(names[line[0] % len(names)], line[1:]) for line in data.split(b"\n") if line]


def check(data: bytes) -> None:
    target, _, rest = data.partition(b"\n")
    raw = pairs_of(rest)
    fields = headers.read_fields(raw)
    kept = {*fields.plain, *fields.x_forwarded, *fields.claims}
    kept |= {(name, value) for name, values in fields.own.items() for value in values}
    lost = [name for name, value in raw if (name, value) not in kept]
    assert all(headers.is_claim(name) or fields.forged is not None for name in lost), "a field line was lost"
    assert not {name for name, _ in fields.end_to_end()} & headers.HOP_BY_HOP
    _check_door(fields, target)
    _check_values(raw, target.decode("latin-1"))


def _check_door(fields: headers.RequestFields, target: bytes) -> None:
    try:
        path = validation.check_target("GET", *target.partition(b"?")[::2])
        validation.check_path(path)
        validation.check_fields(fields, 65536)
        host = validation.check_host(fields, "1.1")
        length = validation.content_length(fields, "1.1")
    except GatewayError:
        return
    assert path.isascii()
    assert path.isprintable()
    assert "#" not in path
    assert not {".", ".."} & {paths.normalized(segment) for segment in path.split("/")}
    assert host == host.lower()
    assert len(fields.own[b"host"]) == 1
    assert length is None or b"transfer-encoding" not in fields.own


def _check_values(raw: headers.Pairs, text: str) -> None:
    said = [value for name, value in raw if name == b"x-forwarded-for"]
    ip_address(forwarding.client_and_hops("10.0.0.1", said, NETWORKS)[0])
    trusted = [(name, value) for name, value in raw if name.startswith(b"x-forwarded-")]
    host = headers.parse_host(text.encode("latin-1")) or "h"
    for name, value in forwarding.forwarding_pairs("10.0.0.1", "http", host, "", trusted):
        assert name in {b"forwarded", b"x-forwarded-host"} or name.startswith(b"x-forwarded-")
        assert b"\n" not in value
    for _, value in raw:
        found = trace_context.trace_id_of(value)
        assert found is None or len(found) == 32
        trace_context.is_request_id(value)
    _check_caching(raw)
    cors.add_to(raw, ("https://a.example",), raw)
    cors.preflight_pairs(("*",), raw)
    moved = location.rewritten(text, OWN, location.PathMap("/v1", "/api"))
    assert moved == text or (moved.startswith("/") and not moved.startswith(("//", "/\\")))


def _check_caching(raw: headers.Pairs) -> None:
    values = [value for _, value in raw]
    said = fields.directives(values)
    assert said.get("no-store", "") is None or not any(value.lower() == b"no-store" for value in values)
    fields.targeted(values)
    fields.entity_tags(values)
    for value in values:
        fields.http_date_s(value)
    answer = Response("GET", raw, 200, raw, 0.0, 0.0)
    refusal(answer, Rule(60.0))
    stored = entry_of(answer, Rule(60.0), b"body")
    freshness.reuse_of(stored, freshness.request_directives(raw), 1.0)
    conditional.applied(stored, stored.pairs, "GET", raw)


def main() -> None:
    try:
        import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        sys.exit("the fuzzer is not installed: pip install atheris")
    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
