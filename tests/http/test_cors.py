"""Cross-origin requests: what the Fetch standard asks of an answer, decided from the fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import units
from gateway.http import cors
from gateway.http.headers import Pair, Pairs
from gateway.options import Level

APP = b"https://app.example.com"
ORIGINS = ("https://app.example.com", "http://localhost:3000")
ANY = ("*",)
ASKS: list[Pair] = [(b"origin", APP), (b"access-control-request-method", b"PUT")]


def values(pairs: Pairs, name: str) -> list[bytes]:
    return [value for found, value in pairs if found == name.encode()]


def allowed(pairs: Pairs) -> Pairs:
    return [pair for pair in pairs if pair[0].startswith(b"access-control-")]


@pytest.mark.parametrize(
    ("method", "fields", "is_one"),
    [
        ("OPTIONS", ASKS, True),
        ("GET", ASKS, False),
        ("OPTIONS", ASKS[:1], False),  # a plain OPTIONS from another origin is the upstream's
        ("OPTIONS", ASKS[1:], False),
        ("OPTIONS", [], False),
    ],
)
def test_a_preflight_is_options_with_an_origin_and_a_method_to_ask_for(
    method: str, fields: list[Pair], *, is_one: bool
) -> None:
    assert cors.is_preflight(method, fields) is is_one


def test_a_preflight_from_a_named_origin_is_granted_what_it_asks() -> None:
    asks = [*ASKS, (b"access-control-request-headers", b"authorization,x-tenant")]
    pairs = cors.preflight_pairs(ORIGINS, asks)
    assert sorted(pairs) == [
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-allow-headers", b"authorization,x-tenant"),
        (b"access-control-allow-methods", b"PUT"),
        (b"access-control-allow-origin", APP),
        (b"access-control-max-age", b"600"),
        (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ]


def test_a_preflight_that_asks_for_no_headers_gets_none() -> None:
    assert not values(cors.preflight_pairs(ORIGINS, ASKS), "access-control-allow-headers")


FOREIGN = [
    b"https://evil.example",
    b"https://app.example.com.evil.example",
    b"https://evilapp.example.com",
    b"http://app.example.com",  # another scheme
    b"https://app.example.com:8443",  # another port
    b"https://app.example.com/",
    b"https://app.example.com, https://evil.example",
    b"null",  # a sandboxed frame
    b"*",
    b"",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_an_origin_that_is_not_named_is_granted_nothing(origin: bytes) -> None:
    asks = [(b"origin", origin), *ASKS[1:]]
    assert cors.preflight_pairs(ORIGINS, asks) == [(b"vary", b"Origin")]
    assert cors.add_to([], ORIGINS, asks) == [(b"vary", b"Origin")]


def test_any_origin_is_granted_without_credentials() -> None:
    """The standard forbids credentials beside `*`, section 3.2.5."""
    for pairs in (cors.preflight_pairs(ANY, ASKS), cors.add_to([], ANY, ASKS)):
        assert values(pairs, "access-control-allow-origin") == [b"*"]
        assert not values(pairs, "access-control-allow-credentials")


def test_an_answer_says_its_origin_may_read_it() -> None:
    pairs = cors.add_to([(b"content-type", b"text/plain")], ORIGINS, ASKS[:1])
    assert pairs == [
        (b"content-type", b"text/plain"),
        (b"vary", b"Origin"),
        (b"access-control-allow-origin", APP),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"X-Request-ID, Gateway-Parts, Gateway-Complete, Server-Timing"),
    ]


def test_an_answer_to_a_request_of_the_same_origin_still_varies() -> None:
    """Else a cache on the way would give the copy without the fields to a cross-origin reader."""
    assert cors.add_to([], ORIGINS, []) == [(b"vary", b"Origin")]


def test_what_the_upstream_says_of_cors_is_replaced() -> None:
    said = [(b"access-control-allow-origin", b"*"), (b"access-control-allow-credentials", b"true"), (b"etag", b'"1"')]
    pairs = cors.add_to(said, ORIGINS, ASKS[:1])
    assert values(pairs, "access-control-allow-origin") == [APP]
    assert values(pairs, "access-control-allow-credentials") == [b"true"]
    assert values(pairs, "etag") == [b'"1"']
    assert not allowed(cors.add_to(said, ORIGINS, []))


def test_what_the_upstream_exposes_stays_exposed() -> None:
    said = [(b"access-control-expose-headers", b"ETag"), (b"access-control-expose-headers", b"Link, X-Total")]
    (exposed,) = values(cors.add_to(said, ORIGINS, ASKS[:1]), "access-control-expose-headers")
    assert exposed.startswith(b"ETag, Link, X-Total, X-Request-ID, ")


def test_the_upstreams_own_vary_is_kept() -> None:
    pairs = cors.add_to([(b"vary", b"Accept-Encoding")], ORIGINS, [])
    assert values(pairs, "vary") == [b"Accept-Encoding", b"Origin"]


origins = st.sampled_from([APP, b"http://localhost:3000", *FOREIGN])


@given(st.sampled_from([ORIGINS, ORIGINS[:1], ANY]), origins, st.booleans())
def test_no_answer_grants_twice_and_every_answer_varies(
    named: tuple[str, ...], origin: bytes, is_preflight: bool
) -> None:
    asks: list[Pair] = [(b"origin", origin), *ASKS[1:]]
    pairs = cors.preflight_pairs(named, asks) if is_preflight else cors.add_to([], named, asks)
    granted = values(pairs, "access-control-allow-origin")
    assert granted in ([], [b"*"], [origin])
    assert bool(granted) == ("*" in named or origin.decode() in named)
    assert any(b"Origin" in value for value in values(pairs, "vary"))
    if granted == [b"*"]:
        assert not values(pairs, "access-control-allow-credentials")


# -- what a configuration says beyond the origins -----------------------------------------------------------------


def rules(*origins: str, **given: object) -> cors.Rules:
    return cors.rules_of(Level({"cors": origins, **{f"cors_{name}": value for name, value in given.items()}}))


def test_without_further_options_all_is_as_it_was() -> None:
    assert cors.preflight_pairs(rules(*ORIGINS), ASKS) == cors.preflight_pairs(ORIGINS, ASKS)
    assert cors.add_to([], rules(*ORIGINS), ASKS[:1]) == cors.add_to([], ORIGINS, ASKS[:1])


def test_methods_headers_age_and_credentials_are_those_that_are_set() -> None:
    own = rules(*ORIGINS, methods=("GET", "PUT"), headers=("x-a", "content-type"), max_age_s=86400.0, credentials=False)
    pairs = cors.preflight_pairs(own, [*ASKS, (b"access-control-request-headers", b"x-b")])
    assert values(pairs, "access-control-allow-methods") == [b"GET, PUT"]
    assert values(pairs, "access-control-allow-headers") == [b"x-a, content-type"]
    assert values(pairs, "access-control-max-age") == [b"86400"]
    assert not values(pairs, "access-control-allow-credentials")
    assert not values(cors.add_to([], own, ASKS[:1]), "access-control-allow-credentials")


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        (b"https://a.example.com", True),
        (b"https://A.b.Example.com", True),
        (b"https://example.com", False),
        (b"https://.example.com", False),
        (b"https://a..example.com", False),
        (b"https://evil.com/.example.com", False),
        (b"https://evil.com#.example.com", False),
        (b"https://evil.com:1.example.com", False),
        (b"https://u@a.example.com", False),
        (b"https://evilexample.com", False),
        (b"https://a.example.com.evil.com", False),
        (b"https://a.example.com:8443", False),
        (b"http://a.example.com", False),
        (b"null", False),
        (b"", False),
    ],
)
def test_a_star_is_what_lies_below_a_domain(origin: bytes, *, is_allowed: bool) -> None:
    below = ("https://*.example.com",)
    pairs = cors.add_to([], below, [(b"origin", origin)])
    assert bool(values(pairs, "access-control-allow-origin")) is is_allowed
    assert cors.is_own_origin([(b"origin", origin)], ["gateway.test"], below) is is_allowed


def test_a_star_alone_names_nobody() -> None:
    assert not cors.is_own_origin([(b"origin", APP)], ["gateway.test"], ANY)


@pytest.mark.parametrize("text", ["https://*.example.com", "https://*.example.com:8443", "http://*.a.b"])
def test_a_domain_with_a_star_is_an_origin(text: str) -> None:
    assert units.origin(text) == text


NO_ORIGINS = ["https://*", "https://*.", "https://*.com", "https://a*.example.com", "https://*.10.0.0.1"]
NO_ORIGINS += ["*.example.com", "https://*.*.com", "https://a.*.com"]


@pytest.mark.parametrize("text", NO_ORIGINS)
def test_other_stars_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected an origin"):
        units.origin(text)


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("http://localhost:3000", "localhost:8000", False),
        ("https://A.Example", "a.example.", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://a.example", "a.example:80", True),
        ("https://a.example", "a.example:443", True),
        ("https://a.example:443", "a.example", True),
        ("https://a.example", "a.example:80", False),
        ("ftp://a.example", "a.example", False),
        ("http://", "", False),
    ],
)
def test_a_page_of_the_host_that_was_asked_for(origin: str, host: str, own: bool) -> None:
    assert cors.is_own_origin([(b"origin", origin.encode())], [host], ()) is own
