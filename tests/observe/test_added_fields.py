"""GATEWAY_LOG_FIELDS: which fields of a request its line carries, and how much of them."""

import pytest

from gateway.http.headers import Pairs
from gateway.observe.added_fields import added_fields, log_field


def of(names: list[str], pairs: Pairs, credentials: list[str] | None = None) -> dict[str, str] | None:
    added = added_fields(names, credentials or [])
    assert added is not None
    return added(pairs)


def test_a_field_stands_under_its_name() -> None:
    pairs = [(b"user-agent", b"curl/8"), (b"x-tenant", b"a"), (b"accept", b"*/*"), (b"x-tenant", b"b")]
    assert of(["user-agent", "x-tenant"], pairs) == {"header_user_agent": "curl/8", "header_x_tenant": "a, b"}


def test_a_request_without_them_adds_nothing() -> None:
    assert of(["user-agent"], [(b"accept", b"*/*")]) is None


@pytest.mark.parametrize("name", ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-partner"])
def test_a_credential_is_there_or_not_and_never_shown(name: str) -> None:
    pairs = [(name.encode(), b"secret"), (name.encode(), b"secret too")]
    assert of([name], pairs, ["x-partner"]) == {f"header_{name.replace('-', '_')}": "***"}


@pytest.mark.parametrize("pairs", [[(b"x-a", b"a" * 5000)], [(b"x-a", b"a" * 200), (b"x-a", b"a" * 200)]])
def test_a_long_value_is_cut(pairs: Pairs) -> None:
    found = of(["x-a"], pairs)
    assert found is not None
    assert len(found["header_x_a"]) == 256 + len("...")


def test_bytes_that_are_no_text_do_not_break_the_line() -> None:
    assert of(["x-a"], [(b"x-a", b"caf\xe9")]) == {"header_x_a": "caf\ufffd"}


def test_no_names_cost_nothing() -> None:
    assert added_fields([], ["authorization"]) is None


def test_a_word_names_a_field() -> None:
    assert log_field("header:User-Agent") == "user-agent"


@pytest.mark.parametrize("text", ["user-agent", "header:", "header:a b", "query:a", "header:ü"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as header:user-agent"):
        log_field(text)
