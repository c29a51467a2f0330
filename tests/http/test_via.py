"""Via: what is added, and what is seen in what came."""

import pytest

from gateway.http.via import Via

VIA = Via("1f0c3a9e")


@pytest.mark.parametrize(
    ("version", "line"),
    [("1.1", b"1.1 portway (1f0c3a9e)"), ("1", b"1.0 portway (1f0c3a9e)"), ("2", b"2.0 portway (1f0c3a9e)")],
)
def test_a_line_names_the_version_and_the_gateway(version: str, line: bytes) -> None:
    assert VIA.pair(version) == (b"via", line)


@pytest.mark.parametrize(
    ("values", "is_loop"),
    [
        ([b"1.1 portway (1f0c3a9e)"], True),
        ([b"1.1 edge, 1.1 portway (1f0c3a9e), 1.1 cache (varnish)"], True),
        ([b"1.1 edge", b"2.0 portway (1f0c3a9e)"], True),
        ([b"1.1 portway (00000000)"], False),  # another gateway of ours
        ([b"1.1 portway"], False),
        ([b"1.1 edge (1f0c3a9e)"], False),
        ([], False),
    ],
)
def test_only_this_gateways_own_mark_is_a_loop(values: list[bytes], is_loop: bool) -> None:
    assert VIA.is_among(values) is is_loop
