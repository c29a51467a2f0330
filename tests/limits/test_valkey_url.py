"""GATEWAY_VALKEY_URL."""

import pytest

from gateway.limits.valkey_url import ValkeyUrl, valkey_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://valkey:6379/0", ValkeyUrl("valkey", 6379)),
        ("redis://valkey", ValkeyUrl("valkey", 6379)),
        ("valkey://valkey/3", ValkeyUrl("valkey", 6379, 3)),
        ("rediss://cache.example.com:6380", ValkeyUrl("cache.example.com", 6380, is_tls=True)),
        ("redis://:s%40cret@10.0.0.1", ValkeyUrl("10.0.0.1", 6379, password="s@cret")),
        ("redis://app:secret@[::1]:7000/2", ValkeyUrl("::1", 7000, 2, user="app", password="secret")),
        ("redis://[::1]", ValkeyUrl("::1", 6379)),
    ],
)
def test_what_is_one(text: str, expected: ValkeyUrl) -> None:
    assert valkey_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "valkey:6379",
        "http://valkey",
        "redis://",
        "redis://valkey:port",
        "redis://valkey/name",
        "redis://a@b@c",
        "redis://v?x=1",
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected redis://"):
        valkey_url(text)


def test_the_password_is_not_in_its_repr() -> None:
    assert "secret" not in repr(valkey_url("redis://app:secret@valkey"))
