"""What is ambiguous is refused before any route sees it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason
from gateway.http import validation
from gateway.http.headers import Pair, read_fields


def refusal(check: object, *args: object) -> Reason:
    with pytest.raises(GatewayError) as caught:
        check(*args)  # type: ignore[operator]
    assert caught.value.detail.endswith(".") or caught.value.detail == caught.value.reason.title
    return caught.value.reason


# -- the target ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (b"/", b""),
        (b"//", b""),
        (b"/a%2Fb//c;x", b"q=%2F+&&"),
        (b"/a", b"?a=/b?c"),
        (b"/{a}|\\^`<>\"'", b"[a]={b}"),  # RFC 3986 has none of these, many clients do, and nobody reads them otherwise
        (b"/100%", b"%zz"),
        (b"/../%00", b""),  # a path's segments are check_path's
    ],
)
def test_a_target_of_printable_ascii_passes_byte_for_byte(path: bytes, query: bytes) -> None:
    assert validation.check_target("GET", path, query) == path.decode()


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (b"", b""),  # what Granian makes of `GET x`
        (b"*", b""),
        (b"a", b""),
        (b"http://a/", b""),
        (b"/a b", b""),
        (b"/a\tb", b""),
        (b"/a\r\nx: y", b""),
        (b"/a\x00", b""),
        (b"/a\x7f", b""),
        (b"/caf\xc3\xa9", b""),
        (b"/a#b", b""),
        (b"/a", b"b c"),
        (b"/a", b"\xe9"),
        (b"/a", b"b#c"),
    ],
)
def test_a_target_that_readers_could_read_differently_is_refused(path: bytes, query: bytes) -> None:
    assert refusal(validation.check_target, "GET", path, query) is Reason.TARGET_INVALID


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_no_target_smuggles_a_line_or_a_fragment(path: bytes, query: bytes) -> None:
    try:
        text = validation.check_target("GET", path, query)
    except GatewayError:
        return
    assert text[0] == "/"
    assert all("!" <= character <= "~" and character != "#" for character in text + query.decode("ascii"))


def test_dot_segments_and_nuls_are_refused_in_a_path() -> None:
    validation.check_path("/a/.well-known/%2e%2e%2e")
    for path in ("/a/../b", "/%2e%2E", "/a%00"):
        assert refusal(validation.check_path, path) is Reason.PATH_INVALID


# -- Host ---------------------------------------------------------------------------------------------------------


def host(http_version: str, *values: bytes) -> str:
    return validation.check_host(read_fields([(b"host", value) for value in values]), http_version)


def test_a_host_is_in_lower_case_without_its_port() -> None:
    assert host("1.1", b"API.example.com:8000") == "api.example.com"


@pytest.mark.parametrize("http_version", ["1", "1.0"])
def test_http_1_0_needs_no_host_but_what_it_sends_is_checked(http_version: str) -> None:
    assert host(http_version) == ""
    assert host(http_version, b"") == ""  # how Granian shows a missing one
    assert host(http_version, b"a") == "a"
    with pytest.raises(GatewayError):
        host(http_version, b"a b")


@pytest.mark.parametrize(
    "values", [[], [b""], [b"a", b"a"], [b"a", b"b"], [b"", b"a"], [b"a,a"], [b"u@a"], [b"a/b"], [b" "], [b"\xff"]]
)
@pytest.mark.parametrize("http_version", ["1.1", "2"])
def test_a_host_that_is_missing_repeated_or_malformed_is_refused(http_version: str, values: list[bytes]) -> None:
    fields = read_fields([(b"host", value) for value in values])
    assert refusal(validation.check_host, fields, http_version) is Reason.HOST_INVALID


# -- size and framing ---------------------------------------------------------------------------------------------


def test_a_header_block_may_be_as_large_as_its_limit_and_no_larger() -> None:
    fields = read_fields([(b"a", b"1"), (b"host", b"abc")])  # a: 1 CR LF, host: abc CR LF
    validation.check_fields(fields, 17)
    assert refusal(validation.check_fields, fields, 16) is Reason.HEADERS_TOO_LARGE


@pytest.mark.parametrize(
    "name", [b"content_length", b"transfer_encoding", b"x_forwarded_for", b"x-forwarded_for", b"proxy_connection"]
)
def test_a_name_that_passes_for_one_of_the_gateways_own_is_refused(name: bytes) -> None:
    """CGI, and WSGI with it, writes `_` for `-`: a client could forge what the gateway says of it."""
    fields = read_fields([(b"a", b"1"), (name, b"1"), (b"b", b"2")])
    assert refusal(validation.check_fields, fields, 1000) is Reason.HEADER_INVALID


@pytest.mark.parametrize("name", [b"x_tenant", b"_", b"content_type", b"forwarded_x", b"x_forwarded"])
def test_any_other_name_may_hold_an_underscore(name: bytes) -> None:
    validation.check_fields(read_fields([(name, b"1")]), 1000)


def framing(*pairs: Pair, http_version: str = "1.1") -> int | None:
    return validation.content_length(read_fields(pairs), http_version)


@pytest.mark.parametrize(("value", "length"), [(b"0", 0), (b"7", 7), (b"007", 7), (b"9" * 18, 10**18 - 1)])
def test_a_length_is_digits(value: bytes, length: int) -> None:
    assert framing((b"content-length", value)) == length


def test_a_body_without_a_length_has_none() -> None:
    assert framing() is None
    assert framing((b"transfer-encoding", b"chunked")) is None
    assert framing((b"transfer-encoding", b"Chunked")) is None


@pytest.mark.parametrize(
    "pairs",
    [
        [(b"content-length", value)]
        for value in (b"", b"+1", b"-1", b"1 ", b" 1", b"1,1", b"1, 1", b"0x1", b"1_0", b"\xb2", b"1e1", b"9" * 19)
    ]
    + [
        [(b"content-length", b"1"), (b"content-length", b"1")],
        [(b"content-length", b"1"), (b"content-length", b"2")],
        [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"chunked"), (b"content-length", b"0")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"gzip"), (b"transfer-encoding", b"chunked")],
    ]
    + [
        [(b"transfer-encoding", value)]
        for value in (
            b"",
            b"gzip",
            b"identity",
            b"gzip, ",
            b"chunked, gzip",
            b"chunked, chunked",
            b"chunked;a=b",
            b"\x0bchunked",
        )
    ],
)
def test_framing_that_two_readers_could_read_differently_is_refused(pairs: list[Pair]) -> None:
    assert refusal(framing, *pairs) is Reason.HEADER_INVALID


@pytest.mark.parametrize("value", [b"gzip, chunked", b"identity, chunked", b"Deflate ,\tChunked"])
def test_a_coding_under_chunked_is_not_supported(value: bytes) -> None:
    """RFC 9112, section 6.1: a server that does not understand a transfer coding should say 501."""
    assert refusal(framing, (b"transfer-encoding", value)) is Reason.CODING_UNSUPPORTED


@pytest.mark.parametrize("http_version", ["1", "1.0"])
def test_http_1_0_knows_no_transfer_encoding(http_version: str) -> None:
    with pytest.raises(GatewayError) as caught:
        framing((b"transfer-encoding", b"chunked"), http_version=http_version)
    assert caught.value.reason is Reason.HEADER_INVALID


# -- what a trusted peer says of the chain ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"])
def test_a_list_of_a_hundred_proxies_is_one_and_a_longer_one_is_not(name: bytes) -> None:
    validation.check_forwarded(read_fields([(name, b",".join([b"192.0.2.1"] * 100)), (b"x-forwarded-port", b"1")]))
    validation.check_forwarded(read_fields([(name, b"192.0.2.1")] * 100))
    for values in ([b",".join([b"192.0.2.1"] * 101)], [b"192.0.2.1"] * 101, [b"," * 100], [b"a,b"] * 51):
        fields = read_fields([(name, value) for value in values])
        assert refusal(validation.check_forwarded, fields) is Reason.HEADER_INVALID


# -- methods and expectations -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE", "M-SEARCH", "x"]
)
def test_a_method_goes_up_as_it_came(method: str) -> None:
    validation.check_method(method)


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "Post", "trace", "connect", "X" * 33])
def test_a_method_that_would_leak_or_mean_two_things_is_not_served(method: str) -> None:
    assert refusal(validation.check_method, method) is Reason.METHOD_UNSUPPORTED


@pytest.mark.parametrize("value", [b"100-continue", b"100-Continue", b" 100-continue "])
def test_the_one_expectation_is_known(value: bytes) -> None:
    validation.check_fields(read_fields([(b"expect", value)]), 1000)


@pytest.mark.parametrize("values", [[b""], [b"200-ok"], [b"100-continue, x"], [b"100-continue", b"100-continue"]])
def test_any_other_expectation_fails(values: list[bytes]) -> None:
    fields = read_fields([(b"expect", value) for value in values])
    assert refusal(validation.check_fields, fields, 1000) is Reason.EXPECTATION_FAILED
