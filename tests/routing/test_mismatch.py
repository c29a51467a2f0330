"""Why a route lost, in words that agree with the table that decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.mismatch import beaten, mismatch, nearness, refusal
from gateway.routing.patterns import Pattern, parse_pattern
from gateway.routing.table import Miss, Table
from tests.routing.test_patterns import METHODS, Line, line, paths

distinct_lines = st.lists(line, max_size=10).map(
    lambda lines: [one for index, one in enumerate(lines) if not any(one.same_place(other) for other in lines[:index])]
)


@given(distinct_lines, st.sampled_from([*METHODS, "PUT"]), st.sampled_from(["", "h.test", "j.test"]), paths)
def test_words_and_table_agree(lines: list[Line], method: str, host: str, path: str) -> None:
    patterns = [parse_pattern(one.text) for one in lines]
    found = Table((pattern, pattern) for pattern in patterns).find(method, host, path)
    fitting = [pattern for pattern in patterns if not mismatch(pattern, host, path)]
    competing = [pattern for pattern in fitting if not refusal(pattern, method)]
    if isinstance(found, Miss):
        assert not competing
        assert bool(fitting) == bool(found.allowed)
    else:
        assert found.route in competing
        for other in competing:
            if other != found.route:
                assert beaten(other, found.route) != beaten(found.route, other)


def p(text: str) -> Pattern:
    return parse_pattern(text)


@pytest.mark.parametrize(
    ("pattern", "host", "path", "why"),
    [
        ("/users/{id}", "", "/users/3", ""),
        ("/users/**", "", "/users", ""),
        ("/a%2Fb", "", "/a%2fb", ""),
        ("api.test/users", "www.test", "/users", "only for the host api.test"),
        ("/users/{id}", "", "/orders/3", "segment 1 is 'orders', not 'users'"),
        ("/users/{id}/orders", "", "/users/3", "the path has 2 of its 3 segments"),
        ("/users/{id}", "", "/users/3/orders", "the path goes on after segment 2"),
        ("/users", "", "/users/", "the path goes on after segment 1"),
    ],
)
def test_what_keeps_a_pattern_from_matching(pattern: str, host: str, path: str, why: str) -> None:
    assert mismatch(p(pattern), host, path) == why


@pytest.mark.parametrize(
    ("loser", "winner", "why"),
    [
        ("/**", "h.test/**", "a route for a host goes first"),
        ("/{name}/x", "/users/x", "at segment 1 'users' goes before {}"),
        ("/users/**", "/users/{id}", "at segment 2 {} goes before **"),
        ("/**", "/users", "at segment 1 'users' goes before **"),
        ("/users/**", "/users", "a path's end goes before **"),
        ("/users", "GET /users", "a route that names its methods goes first"),
        ("GET /users", "HEAD /users", "a route that names HEAD goes before one that has it from GET"),
    ],
)
def test_by_what_a_winner_is_more_specific(loser: str, winner: str, why: str) -> None:
    assert beaten(p(loser), p(winner)) == why


def test_a_method_that_is_not_answered() -> None:
    assert refusal(p("GET,POST /users"), "PUT") == "answers only GET, HEAD, POST"
    assert refusal(p("GET /users"), "HEAD") == refusal(p("/users"), "PUT") == ""


def test_nearer_is_who_goes_along_for_longer() -> None:
    lines = [p("/orders/{id}"), p("/users/{id}/orders"), p("h.test/users/{id}"), p("/users/{id}/teams/{team}")]
    near = sorted(lines, key=lambda one: nearness(one, "", "/users/3/teams"), reverse=True)
    assert [one.text for one in near[:2]] == ["/users/{id}/teams/{team}", "/users/{id}/orders"]
    assert near[-1].host == "h.test"
