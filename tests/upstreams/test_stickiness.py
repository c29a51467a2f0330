"""The cookie by which a client stays with an endpoint: what it holds, and who agrees on it."""

import re

import pytest

from gateway.upstreams.stickiness import Stickiness, key_of

ENDPOINT = "http://10.0.0.7:8000"
KEY = key_of("a secret of ours", ["GATEWAY_UPSTREAM_USERS=http://users"])


def test_the_cookie_names_no_address_and_no_upstream() -> None:
    users = Stickiness("users", KEY)
    assert re.fullmatch(rb"portway-[A-Za-z0-9_-]{8}", users.name)
    assert re.fullmatch(rb"[A-Za-z0-9_-]{20}", users.token(ENDPOINT))


def test_two_workers_agree_and_two_upstreams_do_not_share_a_cookie() -> None:
    one, other = Stickiness("users", KEY), Stickiness("users", KEY)
    assert (one.name, one.token(ENDPOINT)) == (other.name, other.token(ENDPOINT))
    orders = Stickiness("orders", KEY)
    assert one.name != orders.name
    assert one.token(ENDPOINT) != orders.token(ENDPOINT)


def test_a_name_of_ones_own_is_taken() -> None:
    assert Stickiness("users", KEY, "route").name == b"route"


def test_with_a_secret_the_key_is_made_of_that_alone() -> None:
    assert key_of("s", ["a=b"]) == key_of("s", ["c=d"]) != key_of("t", ["a=b"])


def test_without_one_it_is_made_of_what_configures_the_upstream() -> None:
    texts = ["GATEWAY_UPSTREAM_USERS=http://users", "GATEWAY_UPSTREAM_USERS__BALANCE=sticky"]
    assert key_of(None, texts) == key_of(None, list(texts)) != key_of(None, texts[:1])


@pytest.mark.parametrize(
    ("line", "held"),
    [
        (b"route=abc", b"abc"),
        (b"a=1; route=abc; b=2", b"abc"),
        (b"xroute=abc", b""),
        (b"route=", b""),
        (b'route="abc"', b"abc"),
    ],
)
def test_the_cookie_is_found_in_a_request(line: bytes, held: bytes) -> None:
    assert Stickiness("users", KEY, "route").held_by([(b"host", b"x"), (b"cookie", line)]) == held
    assert Stickiness("users", KEY, "route").held_by([]) == b""
