"""Location fields, said again as the client must see them."""

import re
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.proxy.location import PathMap, asked_origins, origin_of, rewritten

OWN = frozenset({("http", "users", 8000), ("https", "users.test", 443), ("http", "fd00::1", 80)})
STRIPPED = PathMap(upstream="", gateway="/api/users")  # /api/users/** -> users:/**
KEPT = PathMap(upstream="", gateway="")  # /users/** -> users
PREFIXED = PathMap(upstream="/v1", gateway="")  # the base URL has a prefix, the path is kept
MOVED = PathMap(upstream="/v1/u", gateway="/users")  # /users/** -> users:/v1/u/**


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://users:8000/a", ("http", "users", 8000)),
        ("http://users", ("http", "users", 80)),
        ("https://users?x", ("https", "users", 443)),
        ("HTTP://Users:8000#f", ("http", "users", 8000)),
        ("http://users:/a", ("http", "users", 80)),
        ("http://users:0/a", ("http", "users", 0)),
        ("http://u:p@users:8000/a", ("http", "users", 8000)),
        ("http://[FD00::1]:8000/a", ("http", "fd00::1", 8000)),
        ("/a", None),
        ("//users:8000/a", None),
        ("a", None),
        ("", None),
        ("http:/a", None),
        ("http:a", None),
        ("http://", None),
        ("http://:80/", None),
        ("http://users:80x/", None),
        ("http://users:99999/", None),
        ("http://[::1/", None),
        ("http://\u2100/", None),
        ("http://evil.test\\@users:8000/a", None),  # for a browser this is evil.test
        ("ftp://users/a", None),
        ("javascript:alert(1)//users:8000", None),
    ],
)
def test_an_origin_is_scheme_host_and_port_of_an_absolute_url(url: str, origin: tuple[str, str, int] | None) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    ("location", "paths", "expected"),
    [
        # absolute, at the upstream's own base
        ("http://users:8000/7", STRIPPED, "/api/users/7"),
        ("http://users:8000/", STRIPPED, "/api/users/"),
        ("http://users:8000", STRIPPED, "/api/users/"),
        ("http://users:8000?a=1#f", STRIPPED, "/api/users/?a=1#f"),
        ("http://users:8000#f", STRIPPED, "/api/users/#f"),
        ("http://users:8000/a?next=http://users:8000/b", STRIPPED, "/api/users/a?next=http://users:8000/b"),
        ("HTTP://USERS:8000/A", STRIPPED, "/api/users/A"),
        ("http://name:word@users:8000/7", STRIPPED, "/api/users/7"),
        ("https://users.test/7", STRIPPED, "/api/users/7"),
        ("https://users.test:443/7", STRIPPED, "/api/users/7"),
        ("http://[fd00::1]/7", STRIPPED, "/api/users/7"),
        ("http://users:8000/a%2Fb//c;x?q=%2F+&&", STRIPPED, "/api/users/a%2Fb//c;x?q=%2F+&&"),
        ("//users:8000/7", STRIPPED, "/api/users/7"),
        ("//users.test/7", STRIPPED, "/api/users/7"),
        ("http://users:8000/7", KEPT, "/7"),
        ("http://users:8000/v1/7", PREFIXED, "/7"),
        ("http://users:8000/v1", PREFIXED, "/"),
        ("http://users:8000/v1?a", PREFIXED, "/?a"),
        ("http://users:8000/v1/u/7", MOVED, "/users/7"),
        ("http://users:8000/v1/u", MOVED, "/users"),
        # relative to the origin: the client would ask the gateway for it
        ("/7", STRIPPED, "/api/users/7"),
        ("/", STRIPPED, "/api/users/"),
        ("/7", KEPT, "/7"),
        ("/v1/u/7?a#b", MOVED, "/users/7?a#b"),
        ("/v1/u#b", MOVED, "/users#b"),
    ],
)
def test_what_points_at_the_upstream_points_at_the_gateway(location: str, paths: PathMap, expected: str) -> None:
    assert rewritten(location, OWN, paths) == expected


@pytest.mark.parametrize(
    "location",
    [
        # no path of the gateway leads there
        "http://users:8000/v1/other",
        "http://users:8000/v1/users",
        "http://users:8000/",
        "http://users:8000",
        "/v1/ux",
        "/",
        # another origin
        "https://users:8000/v1/u/7",
        "http://users:8001/v1/u/7",
        "http://users/v1/u/7",
        "http://users.test/v1/u/7",
        "http://users:0/v1/u/7",
        "https://login.example/v1/u?next=http://users:8000/v1/u/7",
        "http://users:8000@evil.test/v1/u/7",
        "http://evil.test\\@users:8000/v1/u/7",
        "http://users:8000\\.evil.test/v1/u/7",
        "//evil.test/v1/u/7",
        "//users/v1/u/7",
        "//users:8001/v1/u/7",
        "///users:8000/v1/u/7",
        "/\\evil.test/v1/u",
        "mailto:someone@users",
        # relative to the client's own path, which may have moved alike
        "7",
        "../v1/u/7",
        "?a",
        "#f",
        "",
        # what browsers and urlsplit drop
        "http:/\t/users:8000/v1/u/7",
        "http://us\ters:8000/v1/u/7",
        "/v1/u/\t/7",
        # no URL at all
        "http://[::1/v1/u/7",
        "http://users:port/v1/u/7",
    ],
)
def test_what_points_elsewhere_is_left_alone(location: str) -> None:
    assert rewritten(location, OWN, MOVED) == location


@pytest.mark.parametrize(
    "location",
    [
        "http://users:8000/v1//evil.test/a",
        "http://users:8000/v1/\\evil.test/a",
        "http://users:8000/v1/\t/evil.test/a",
        "/v1//evil.test",
        "/v1/\\evil.test",
    ],
)
def test_a_harmless_location_never_becomes_another_host(location: str) -> None:
    assert rewritten(location, OWN, PREFIXED) == location


def test_a_match_below_two_slashes_is_no_host_either() -> None:
    """A route may match `//evil.test/a` as raw as it came."""
    assert rewritten("http://users:8000/b", OWN, PathMap("", "//evil.test")) == "http://users:8000/b"


ASKED = asked_origins(["http", "https"], ["shop.test", "inner:8000", "no host/"])


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://shop.test/7", "/api/users/7"),
        ("http://shop.test/7", "/api/users/7"),
        ("http://inner:8000/7?a#b", "/api/users/7?a#b"),
        ("//shop.test/7", "/api/users/7"),
        ("https://shop.test", "/api/users/"),
        ("http://inner:8001/7", "http://inner:8001/7"),
        ("https://shop.test:8443/7", "https://shop.test:8443/7"),
        ("https://other.test/7", "https://other.test/7"),
    ],
)
def test_where_the_clients_host_goes_up_it_means_the_upstream_too(location: str, expected: str) -> None:
    assert rewritten(location, OWN, STRIPPED, ASKED) == expected


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://shop.test/7", "https://shop.test/api/users/7"),
        ("https://shop.test:443/7?a", "https://shop.test:443/api/users/7?a"),
        ("https://shop.test", "https://shop.test/api/users/"),
        ("HTTPS://SHOP.test#b", "HTTPS://SHOP.test/api/users/#b"),
        ("https://shop.test:444/7", "https://shop.test:444/7"),
        ("https://shop.test//evil.test", "https://shop.test/api/users//evil.test"),
    ],
)
def test_a_redirect_to_https_stays_one(location: str, expected: str) -> None:
    assert rewritten(location, OWN, STRIPPED, asked_origins(["http"], ["shop.test:8000"])) == expected


def as_a_browser(location: str, base: str) -> str:
    """Where a browser goes: WHATWG URL drops tabs and line ends, and takes backslashes for slashes."""
    return urljoin(base, re.sub(r"[\t\r\n]", "", location).replace("\\", "/"))


pieces = st.sampled_from(
    [
        "/",
        "//",
        "\\",
        "@",
        ":",
        "?",
        "#",
        "v1",
        "/v1",
        "/v1/u",
        "users",
        "users:8000",
        "http:",
        "http://",
        "https://",
        "http://users:8000",
        "evil.test",
        "a",
        ".",
        "..",
    ]
) | st.just("\t")
locations = st.lists(pieces, max_size=6).map("".join)
maps = st.sampled_from([STRIPPED, KEPT, PREFIXED, MOVED])


@given(locations, maps)
@example("http://users:8000/\\evil.test", KEPT)
@example("http:/\t/users:8000/a", KEPT)
def test_a_location_is_left_alone_or_leads_to_the_gateway(location: str, paths: PathMap) -> None:
    said = rewritten(location, OWN, paths)
    if said != location:
        assert said.startswith(paths.gateway or "/")
        assert urlsplit(as_a_browser(said, "http://gateway.test/x")).netloc == "gateway.test"


@given(locations, maps)
def test_a_foreign_location_is_never_touched(location: str, paths: PathMap) -> None:
    try:
        host = urlsplit(as_a_browser(location, "http://gateway.test/x")).hostname
    except ValueError:
        return
    if host not in {"gateway.test", "users", None}:
        assert rewritten(location, OWN, paths) == location


@given(st.text("av1u/?#.%", max_size=10), maps)
def test_a_path_that_went_up_comes_back(tail: str, paths: PathMap) -> None:
    tail = "/" + tail
    back = paths.back(paths.upstream + tail)
    assert back in {paths.gateway + tail, None}
    if back is None:
        assert (paths.gateway + tail).startswith("//")
