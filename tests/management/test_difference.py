"""What a reload would change, as rows of two configurations."""

import pytest

from gateway.management.difference import Line, of_hashes, of_routes, of_variables


def row(variable: str, value: str, mark: str = "") -> dict[str, str]:
    return {"variable": variable, "value": value, "origin": "variable"} | ({"mark": mark} if mark else {})


@pytest.mark.parametrize(
    ("running", "here", "lines"),
    [
        ([row("GATEWAY_LOG", "json")], [row("GATEWAY_LOG", "json")], []),
        ([], [row("GATEWAY_LOG", "json")], [("+", "GATEWAY_LOG", "json")]),
        ([row("GATEWAY_LOG", "json")], [], [("-", "GATEWAY_LOG", "json")]),
        (
            [row("GATEWAY_LOG", "json")],
            [row("GATEWAY_LOG", "console")],
            [("-", "GATEWAY_LOG", "json"), ("+", "GATEWAY_LOG", "console")],
        ),
        ([row("GATEWAY_X", "***", "1a2b")], [row("GATEWAY_X", "***", "1a2b")], []),
        (
            [row("GATEWAY_X", "***", "1a2b")],
            [row("GATEWAY_X", "***", "ffff")],
            [("~", "GATEWAY_X", "***  (another value)")],
        ),
        (
            [row("GATEWAY_WORKERS", "1")],
            [row("GATEWAY_WORKERS", "2")],
            [("-", "GATEWAY_WORKERS", "1"), ("+", "GATEWAY_WORKERS", "2  (takes a restart)")],
        ),
        ([row("GATEWAY_TLS_CERT", "***", "1")], [], [("-", "GATEWAY_TLS_CERT", "***  (takes a restart)")]),
        (
            [row("GATEWAY_TLS_CERT", "***", "1")],
            [row("GATEWAY_TLS_CERT", "***", "2")],
            [("~", "GATEWAY_TLS_CERT", "***  (another value)")],
        ),
    ],
)
def test_variables(running: list[dict[str, str]], here: list[dict[str, str]], lines: list[Line]) -> None:
    assert of_variables(running, here) == lines


def test_routes_of_python_and_their_options() -> None:
    old = {"pattern": "GET /a", "target": "view", "origin": "routes.py:3"}
    moved, new = {**old, "origin": "routes.py:9"}, {**old, "pattern": "GET /b"}
    environment = {"pattern": "/c", "target": "c", "origin": "GATEWAY_ROUTE_C"}
    assert of_routes([old], [moved, environment]) == []
    assert of_routes([old], [new]) == [("-", "GET /a", "-> view  (routes.py)"), ("+", "GET /b", "-> view  (routes.py)")]
    assert of_hashes([], "1", "1") == of_hashes([("+", "a", "b")], "1", "2") == []
    assert of_hashes([], "1", "2") == [("~", "options of routes in Python", "")]
