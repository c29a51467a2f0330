"""What a client says of content codings, as values; media types are tested where fan-outs negotiate them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.negotiation import Codings

OFFERED = ("zstd", "gzip")


@pytest.mark.parametrize(
    ("field", "best"),
    [
        (b"gzip", "gzip"),
        (b"gzip, deflate, br, zstd", "zstd"),
        (b"zstd;q=0.5, gzip;q=0.8", "gzip"),
        (b"GZIP ; Q=1.0", "gzip"),
        (b"x-gzip", "gzip"),
        (b"*", "zstd"),
        (b"zstd;q=0, *", "gzip"),
        (b"*;q=0", None),
        (b"*;q=0, gzip;q=0.001", "gzip"),
        (b"gzip;q=0", None),
        (b"gzip;q=0.000", None),
        (b"gzip;q=1.5", None),  # no weight: as little as nothing
        (b"gzip;q=", None),
        (b"gzip;q=0.5, identity", None),
        (b"gzip;q=0.5, identity;q=0.4", "gzip"),
        (b"gzip;q=0.5, identity;q=0.5", "gzip"),
        (b"identity;q=0", None),
        (b"deflate, br", None),
        (b"", None),
        (b",,,", None),
    ],
)
def test_which_coding_is_liked_best(field: bytes, best: str | None) -> None:
    assert Codings([field]).best(OFFERED) == best


def test_of_several_lines_all_count() -> None:
    assert Codings([b"gzip;q=0.5", b"zstd;q=0.1"]).best(OFFERED) == "gzip"
    assert Codings([]).best(OFFERED) is None


@pytest.mark.parametrize(
    ("field", "refused"),
    [
        (b"", False),
        (b"gzip", False),
        (b"identity;q=0", True),
        (b"*;q=0", True),
        (b"*;q=0, identity;q=0.1", False),
        (b"identity;q=0.1", False),
    ],
)
def test_no_coding_at_all_may_be_refused(field: bytes, refused: bool) -> None:
    assert Codings([field]).refuses_identity is refused


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_whatever_a_client_sends_is_read(values: list[bytes]) -> None:
    assert Codings(values).best(OFFERED) in {None, *OFFERED}
