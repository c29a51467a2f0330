"""Two routes that could both win: found, each with an example that both take; and without any the winner is one."""

import os
from itertools import combinations
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from gateway.routing.clashes import clashes
from gateway.routing.conditions import ALWAYS, Condition, When, hold, parse_when
from gateway.routing.mismatch import beaten, mismatch, refusal
from gateway.routing.patterns import Pattern, parse_pattern
from gateway.routing.table import Match, Miss, Table

UUID = "0b8e1f5a-0c1d-4c3e-8f00-112233445566"


def p(text: str, *, ignores_case: bool = False, when: str = "") -> Pattern:
    return parse_pattern(text).under(ignores_case=ignores_case, when=parse_when(when) if when else ALWAYS)


def all_hold(when: When) -> bool:
    return True


@pytest.mark.parametrize(
    ("lines", "example"),
    [
        (["/{a}.css", "/b{a}"], "/b1.css"),
        (["/x/{id:int}", "/x/{id:hex}/"], None),
        (["/x/{id:int}", "/x/{id:hex}"], "/x/1"),
        (["/x/{id:hex}", "/x/{id:word}/**"], "/x/1"),
        (["/{id:uuid}", "/{id:word}"], None),  # which has no dashes
        (["/{id:uuid}", "/{id:hex}"], None),
        (["/a{id:uuid}", "/{id:uuid}b"], None),
        (["/0{id}", "/{id:int}"], None),  # literals go before kinds
        (["/0{id}", "/{id}0"], "/010"),
        (["/ab{x}", "/{x}bc"], "/ab1bc"),
        (["/ab{x:int}", "/{x:int}bc"], None),
        (["/a1{x:int}", "/a{x:hex}2"], "/a112"),
        (["/a0{x:int}", "/a{x:int}"], None),  # the longer literal goes first
        (["/{f}.css", "/{f}.min.css"], None),
        (["/{f:word}.css", "/{f}.min.css"], None),  # a word holds no dot
        (["/{f:word}in.css", "/{f}.css"], None),
        (["/v{n:int}", "/v{n}"], None),
        (["/v{n:int}", "/v1{n}"], "/v11"),
        (["/a{x}/one", "/{x}b/two"], None),
        (["/a{x}/one", "/{x}b/{y}"], "/a1b/one"),
        (["/a{x}/one/**", "/{x}b/**"], "/a1b/one"),
        (["GET /a{x}", "POST /{x}b"], None),
        (["GET /a{x}", "/{x}b"], "GET /a1b"),
        (["GET /a{x}", "HEAD,PUT /{x}b"], "HEAD /a1b"),
        (["a.test/a{x}", "/{x}b"], None),
        (["{t}.test/{x}", "{u}.test/{y}"], "x.test/1"),
        (["{t}.b.test/", "a.{t}.test/"], None),  # the left one goes first
        (["/a /b", "/c /b"], "/b"),
        (["/a /a"], "/a"),
        (["/{x}b /a{x}"], "/a1b"),
        (["/users", "/Users", "/Users"], "/Users"),  # the first of the place is of another case
    ],
)
def test_routes_that_could_both_win_are_named_with_an_example(lines: list[str], example: str | None) -> None:
    assert [each.example for each in clashes([p(line) for line in lines])] == ([] if example is None else [example])


@pytest.mark.parametrize(
    ("one", "other", "example"),
    [
        (p("/Users", ignores_case=True), p("/users", ignores_case=True), "/Users"),
        (p("/Users", ignores_case=True), p("/users"), None),  # which looks at case, and goes first
        (p("/Users"), p("/users"), None),
        (p("/A{x}", ignores_case=True), p("/{x}B", ignores_case=True), "/A1B"),
        (p("/A{x}", ignores_case=True), p("/{x}B"), "/A1B"),
        (p("/Ab{x}"), p("/abc{x}d", ignores_case=True), None),
        (p("/Ab{x}e"), p("/abc{x}", ignores_case=True), "/Abc1e"),
        (p("/a", when="header.x=1"), p("/a", when="header.x=2"), None),
        (p("/a", when="header.x=1"), p("/a", when="header.x=1|2"), "/a with header.x=1 header.x=1|2"),
        (p("/a", when="header.x=1"), p("/a", when="cookie.b"), "/a with cookie.b header.x=1"),
        (p("/a", when="header.x=1"), p("/a", when="header.x=1 cookie.b"), None),  # more conditions go first
        (p("/a", when="header.x=1"), p("/a"), None),
        (p("/a", when="cookie.b"), p("/a", when="!cookie.b"), None),
        (p("/a{x}", when="cookie.b"), p("/{x}b", when="!cookie.b"), None),
        (p("/a{x}", when="cookie.b"), p("/{x}b"), "/a1b with cookie.b"),
    ],
)
def test_case_and_conditions_tell_routes_apart(one: Pattern, other: Pattern, example: str | None) -> None:
    assert [each.example for each in clashes([one, other])] == ([] if example is None else [example])
    assert len(clashes([other, one])) == len(clashes([one, other]))


# -- properties ---------------------------------------------------------------------------------------------------

SEGMENTS = ["a", "ab", "A", "1", "", "{p}", "{p}", "a{p}", "A{p}", "{p}b", "a{p}b", "ab{p}", "{p:int}", "{p:hex}"]
SEGMENTS += ["{p:word}", "{p:uuid}", "v{p:int}", "v{p}", "v1{p}", "1{p:int}", "{p}%2F", "{p}F"]
CAME = [
    "a",
    "ab",
    "A",
    "Ab",
    "aB",
    "1",
    "12",
    "012",
    "0",
    "b",
    "1b",
    "v1",
    "v12",
    "V1",
    "a1b",
    "0f",
    "%61b",
    "a%2F",
    "",
]
CAME += ["a%2fb", "aF", "%2F", "%C3%84", UUID, "a" + UUID, "9" * 20, "-1", "x_y", "x-y"]
WHENS = [*[""] * 8, "header.x=1", "header.x=2", "header.x", "!header.x", "cookie.b", "header.x=1 cookie.b"]


def written(host: str, parts: list[str], tail: str) -> str:
    return f"{host}/{'/'.join([*(part.replace('{p', f'{{p{n}') for n, part in enumerate(parts)), *tail.split()])}"


paths_of_patterns = st.builds(
    written,
    st.sampled_from([*[""] * 6, "a.test", "{t}.test", "a.{t}"]),
    st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=2)
    | st.just([])
    | st.sampled_from(SEGMENTS).map(lambda one: [one]),
    st.sampled_from(["", "", "", "**"]),
)
patterns = st.builds(
    lambda method, paths, case, when: p(f"{method} {' '.join(paths)}", ignores_case=case, when=when),
    st.sampled_from(["", "", "", "GET", "HEAD", "GET,POST"]),
    st.lists(paths_of_patterns, min_size=1, max_size=2),
    st.sampled_from([False, False, True]),
    st.sampled_from(WHENS),
)
# Few segments, so that many share a request.
alike = st.builds(
    lambda segments, case: p(f"/{'/'.join(segments).replace('{p', '{q', 1)}", ignores_case=case),
    st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=2),
    st.booleans(),
)
tables = st.lists(patterns, min_size=2, max_size=5) | st.lists(alike, min_size=2, max_size=5)

# What comes beside the paths, all of which each table is asked for.
requests = st.tuples(
    st.sampled_from(["GET", "GET", "HEAD", "POST", "PUT"]),
    st.sampled_from(["", "", "a.test", "b.test", "a.b", "1.2.3.4"]),
    st.sampled_from([[], [(b"x", b"1")], [(b"x", b"2")], [(b"cookie", b"b=1")], [(b"x", b"1"), (b"cookie", b"b=")]]),
)
PATHS = [f"/{one}" for one in CAME] + [f"/{one}/{other}" for one in CAME for other in ("a", "1", "AB")]
Asked = tuple[str, str, list[tuple[bytes, bytes]]]


def find(table: Table[Pattern], asked: Asked, path: str) -> Match[Pattern] | Miss:
    method, host, pairs = asked
    return table.find(method, host, path, lambda when: hold(when, pairs, b"", trusted=True))


def table_of(patterns: list[Pattern]) -> Table[Pattern]:
    return Table((pattern, pattern) for pattern in patterns)


@settings(max_examples=300)
@given(tables, requests)
def test_without_a_clash_the_order_of_the_routes_means_nothing(lines: list[Pattern], asked: Asked) -> None:
    if clashes(lines):
        return
    one, other = table_of(lines), table_of(lines[::-1])
    for path in PATHS:
        assert find(one, asked, path) == find(other, asked, path)


@settings(max_examples=300)
@given(tables, requests)
def test_the_winner_is_one_of_those_that_take_the_request_and_goes_before_the_others(
    lines: list[Pattern], asked: Asked
) -> None:
    if clashes(lines):
        return
    table, single = table_of(lines), [table_of([line]) for line in lines]
    for path in PATHS:
        found = find(table, asked, path)
        alone = [match for each in single if isinstance(match := find(each, asked, path), Match)]
        if isinstance(found, Miss):
            assert not alone
            fitting = [line for line in lines if not mismatch(line, asked[1], path)]
            assert found.is_conditional == any(not refusal(line, asked[0]) for line in fitting)
            allowed = frozenset[str]().union(*(line.allowed for line in fitting))
            assert found.allowed == (frozenset() if found.is_conditional else allowed)
            continue
        assert any(match.route is found.route for match in alone)
        for match in alone:
            if match.route is not found.route:
                assert _goes_before(found.pattern, match.pattern, asked[0])
                assert beaten(match.pattern, found.pattern)


def _goes_before(winner: Pattern, loser: Pattern, method: str) -> bool:
    """The order as the design has it, looked at from outside."""
    hosts = [(not one.host, "{}" in one.host, one.host.find("{}")) for one in (winner, loser)]
    if hosts[0] != hosts[1]:
        return hosts[0] < hosts[1]
    folds = winner.ignores_case or loser.ignores_case
    places = [_ranks(one, folds=folds) for one in (winner, loser)]
    if places[0] != places[1]:
        return places[0] < places[1]
    lasts = [
        (0 if method in one.methods else 1 if one.methods else 2, one.ignores_case, -len(one.when))
        for one in (winner, loser)
    ]
    return lasts[0] < lasts[1]


def _ranks(pattern: Pattern, *, folds: bool) -> list[tuple[object, ...]]:
    """Less is more specific: literals, those with a value, kinds, values, the end, the rest."""
    ranks: list[tuple[object, ...]] = []
    for segment in pattern.segments:
        if isinstance(segment, str):
            ranks.append((0,))
        elif segment.before or segment.after:
            ranks.append((1, -len(segment.before + segment.after), not segment.kind))
        else:
            ranks.append((2 if segment.kind else 3,))
    return [*ranks, (5,) if pattern.rest else (4,)]


@settings(max_examples=300)
@given(tables)
def test_the_example_of_a_clash_is_taken_by_both(lines: list[Pattern]) -> None:
    for clash in clashes(lines):
        head, _, _ = clash.example.partition(" with ")
        method, _, url = head.rpartition(" ")
        host, slash, path = url.partition("/")
        assert any(set(clash.example) & set("/"))
        for number in (clash.first, clash.second):
            found = Table([(lines[number], None)]).find(method or "PATCH", host, slash + path, lambda when: True)
            assert isinstance(found, Match), (clash, lines[number].text)


def test_a_thousand_routes_are_looked_through_at_once() -> None:
    lines = [p(f"/api/v{number}/{{id:int}}/x") for number in range(500)]
    lines += [p(f"/files/p{number}-{{name}}.css") for number in range(500)]
    lines += [p(f"/files/{{name}}.of-{number}-x") for number in range(500)]
    began = process_time()
    assert len(clashes([*lines, p("/files/p7-{x}-x")])) == 500
    assert process_time() - began < 2.0  # each against each would be ten times that


def test_conditions_that_cannot_hold_together() -> None:
    texts = ["header.x=1", "header.x=2", "!header.x", "header.x", "!header.x=1", "cookie.x"]
    apart = {
        (one, other)
        for one, other in combinations(texts, 2)
        if not clashes([p("/a{x}", when=one), p("/{x}a", when=other)])
    }
    assert apart == {
        ("header.x=1", "header.x=2"),
        ("header.x=1", "!header.x"),
        ("header.x=1", "!header.x=1"),
        ("header.x=2", "!header.x"),
        ("!header.x", "header.x"),
    }
    assert Condition("cookie", "x") in parse_when("cookie.x")
