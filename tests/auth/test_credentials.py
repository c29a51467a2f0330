"""Where a credential stands, and what is ambiguous."""

import pytest

from gateway.auth.credentials import authorization_of, find
from gateway.auth.records import Carrier
from gateway.errors import GatewayError, Reason
from gateway.http.headers import Pair

AUTHORIZATION, API_KEY = Carrier("header", "authorization"), Carrier("header", "x-api-key")
COOKIE, QUERY = Carrier("cookie", "token"), Carrier("query", "key")


@pytest.mark.parametrize(
    ("carrier", "pairs", "query", "value"),
    [
        (AUTHORIZATION, [(b"authorization", b"Bearer abc")], b"", b"abc"),
        (AUTHORIZATION, [(b"authorization", b"bearer  abc ")], b"", b"abc"),
        (AUTHORIZATION, [(b"authorization", b"Basic abc")], b"", None),
        (AUTHORIZATION, [(b"authorization", b"Bearer")], b"", None),
        (AUTHORIZATION, [(b"authorization", b"Bearer ")], b"", None),
        (AUTHORIZATION, [(b"authorization", b"abc")], b"", None),
        (AUTHORIZATION, [], b"", None),
        (API_KEY, [(b"x-api-key", b"abc")], b"", b"abc"),
        (API_KEY, [(b"x-api-key", b"Bearer abc")], b"", b"abc"),
        (API_KEY, [(b"x-api-key", b"")], b"", None),
        (API_KEY, [(b"x_api_key", b"abc")], b"", None),
        (COOKIE, [(b"cookie", b"a=b; token=abc; c=d")], b"", b"abc"),
        (COOKIE, [(b"cookie", b"a=b"), (b"cookie", b'token="abc"')], b"", b"abc"),
        (COOKIE, [(b"cookie", b"xtoken=abc; tokenx=abc; token")], b"", None),
        (COOKIE, [(b"cookie", b"token=")], b"", None),
        (QUERY, [], b"a=b&key=a%2Bbc", b"a+bc"),
        (QUERY, [], b"k%65y=abc", b"abc"),
        (QUERY, [], b"keys=abc&key", None),
        (QUERY, [], b"", None),
    ],
)
def test_a_credential_is_found_where_it_stands(
    carrier: Carrier, pairs: list[Pair], query: bytes, value: bytes | None
) -> None:
    found = find([carrier], b"bearer", pairs, query)
    assert (found and found[:2]) == (None if value is None else (value, carrier))


@pytest.mark.parametrize(
    ("pairs", "query"),
    [
        ([(b"authorization", b"Bearer a"), (b"cookie", b"token=b")], b""),
        ([(b"authorization", b"Bearer a"), (b"cookie", b"token=a")], b""),
        ([(b"cookie", b"token=a; token=b")], b""),
        ([(b"cookie", b"token=a"), (b"cookie", b"token=b")], b""),
        ([(b"cookie", b"token=a")], b"key=b"),
        ([], b"key=a&key=b"),
        ([], b"key=a&k%65y=b"),
        ([(b"x-api-key", b"a"), (b"x-api-key", b"b")], b""),
        ([(b"x-api-key", b"a"), (b"x-api-key", b"")], b""),
        ([(b"cookie", b'token=; token="a"')], b""),
        ([(b"cookie", b"token=a; token =b")], b""),
        ([], b"key=a&key=&k%65y="),
    ],
)
def test_two_credentials_are_ambiguous(pairs: list[Pair], query: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        find([AUTHORIZATION, API_KEY, COOKIE, QUERY], b"bearer", pairs, query)
    assert (caught.value.reason, caught.value.status) == (Reason.HEADER_INVALID, 400)
    assert (b"www-authenticate", b'Bearer error="invalid_request"') in caught.value.headers


def test_two_authorization_lines_are_ambiguous_whatever_they_say() -> None:
    assert authorization_of([]) is None
    assert authorization_of([(b"authorization", b"a"), (b"authorisation", b"b")]) == b"a"
    with pytest.raises(GatewayError) as caught:
        authorization_of([(b"authorization", b"Bearer a"), (b"authorization", b"Basic b")])
    assert caught.value.status == 400
