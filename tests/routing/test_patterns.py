"""The route grammar, and the table against a brute-force reading of its rules."""

import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.http.paths import normalized
from gateway.routing.clashes import clashes
from gateway.routing.patterns import Pattern, PatternError, check_names, parse_line, parse_pattern
from gateway.routing.segments import ANY, Capture
from gateway.routing.table import Match, Miss, Table
from gateway.upstreams.targets import Target, parse_target

# -- patterns -----------------------------------------------------------------------------------------------------


def made(**fields: Any) -> Pattern:
    usual: dict[str, Any] = {"methods": frozenset(), "host": "", "segments": (), "rest": False, "params": ()}
    return Pattern(**{"text": "", "path": "", **usual, **fields})


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("/", made(segments=("",))),
        ("/**", made(rest=True)),
        ("/users", made(segments=("users",))),
        ("/users/", made(segments=("users", ""))),
        ("/a//b", made(segments=("a", "", "b"))),
        ("/users/**", made(segments=("users",), rest=True)),
        (
            "GET,HEAD  API.example.com/u/{id}",
            made(
                text="GET,HEAD API.example.com/u/{id}",
                methods=frozenset({"GET", "HEAD"}),
                host="api.example.com",
                path="/u/{id}",
                segments=("u", ANY),
                params=("id",),
            ),
        ),
        (
            " /{a}/x/{b_2}/** ",
            made(text="/{a}/x/{b_2}/**", segments=(ANY, "x", ANY), rest=True, params=("a", "b_2")),
        ),
        ("/%41%2fb", made(segments=("A%2Fb",))),
        ("M-SEARCH /", made(methods=frozenset({"M-SEARCH"}), path="/", segments=("",))),
        ("10.0.0.1/a", made(host="10.0.0.1", path="/a", segments=("a",))),
        ("/{id:int}/x", made(segments=(Capture(kind="int"), "x"), params=("id",))),
        ("/n/{node}:stop", made(segments=("n", Capture(after=":stop")), params=("node",))),
        ("/%76{n:hex}%2e%2F", made(segments=(Capture("v", ".%2F", "hex"),), params=("n",))),
        (
            "{tenant}.Example.com/{id}",
            made(host="{}.example.com", path="/{id}", segments=(ANY,), params=("tenant", "id")),
        ),
        ("eu.{zone}.example.com/", made(host="eu.{}.example.com", path="/", segments=("",), params=("zone",))),
    ],
)
def test_a_pattern_is_methods_host_and_path(text: str, pattern: Pattern) -> None:
    text = " ".join(text.split())
    assert parse_pattern(text) == replace(pattern, text=pattern.text or text, path=pattern.path or text)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "expected [METHOD,...] [host]/path"),
        ("GET a /b", "the path must begin with a slash: '/a' perhaps"),
        ("users", "must begin with a slash: '/users' perhaps"),
        ("/users/** > users", "the arrow before a target is written '->', not '>'"),
        ("/users => users", "the arrow before a target is written '->', not '=>'"),
        ("GET users", "must begin with a slash"),
        ("get /a", "'get' is not a method"),
        ("GET, /a", "'GET,' is not a method"),
        ("GET,get /a", "'get' is not a method"),
        ("http://a/b", "'http:' is not a host name"),
        ("a:8000/b", "no port"),
        ("*.a/b", "no wildcard"),
        ("-a/b", "is not a host name"),
        ("a..b/c", "is not a host name"),
        ("/a/**/b", "'**' stands alone and last"),
        ("/a**", "'**' stands alone and last"),
        ("/a*", "'*' is not a wildcard"),
        ("/a/*", "'*' is no wildcard"),
        ("/a/{id", "a brace without its partner"),
        ("/a/id}", "a brace without its partner"),
        ("/a/{id}{x}", "one value to a segment"),
        ("/a/{{id}}", "one value to a segment"),
        ("/a/{id}*", "'*' is not a wildcard"),
        ("/a/{id}**", "'**' stands alone and last"),
        ("/{id:float}", "a kind is one of int, uuid, hex, word"),
        ("/{id:}", "a kind is one of int, uuid, hex, word"),
        ("/{:int}", "'{}' is not a parameter"),
        ("/a/.;{x}", "never matches"),
        ("GET /a /b c", "the path must begin with a slash: '/c' perhaps"),
        ("/a GET /b", "the path must begin with a slash"),
        ("{a}.{b}.test/", "one label of a host"),
        ("{a}-x.test/", "a value in a host is a whole label"),
        ("{id}/x", "the path must begin with a slash: '/{id}' perhaps"),
        ("{a}.0.0.1/x", "an address has no labels"),
        ("{a:int}.test/x", "is not a parameter"),
        ("{a}.test/{a}", "'{a}' stands twice"),
        ("/a/{}", "'{}' is not a parameter"),
        ("/a/{2id}", "names are like {id}"),
        ("/a/{user.id}", "'{user.id}' is not a parameter"),
        ("/{a}/{a}", "'{a}' stands twice"),
        ("/a/../b", "never matches"),
        ("/a/%2E%2e", "never matches"),
        ("/a?b", "must be percent-encoded"),
        ("/a#b", "must be percent-encoded"),
        ("/café", "must be percent-encoded"),
        ("/a%zz", "must be percent-encoded"),
    ],
)
def test_what_is_no_pattern_says_what_was_expected(text: str, advice: str) -> None:
    with pytest.raises(PatternError) as caught:
        parse_pattern(text)
    assert advice in str(caught.value)


def test_get_brings_head() -> None:
    assert parse_pattern("GET /").allowed == {"GET", "HEAD"}
    assert parse_pattern("POST /").allowed == {"POST"}
    assert parse_pattern("/").allowed == frozenset()


def test_a_patterns_path_is_as_it_was_written() -> None:
    assert parse_pattern("GET a/%7e/{x}/**").path == "/%7e/{x}/**"


# -- the table, told in examples ----------------------------------------------------------------------------------


def winner(lines: list[str], method: str, target: str) -> str | Miss:
    """The pattern that wins for `host/path`, in every order in which the lines may come."""
    host, _, path = target.partition("/")
    found = {
        outcome.route if isinstance(outcome, Match) else outcome
        for order in (lines, lines[::-1])
        for outcome in [Table((parse_pattern(line), line) for line in order).find(method, host, "/" + path)]
    }
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize(
    ("lines", "method", "target", "expected"),
    [
        pytest.param(["/**", "h/**"], "GET", "h/a", "h/**", id="a_host_beats_none"),
        pytest.param(["/a/b", "h/**"], "GET", "h/a/b", "h/**", id="a_host_beats_none_whatever_the_path"),
        pytest.param(["/**", "h/**"], "GET", "g/a", "/**", id="a_host_matches_only_itself"),
        pytest.param(["/**", "h/**"], "GET", "/a", "/**", id="no_host_matches_no_host_route"),
        pytest.param(["/a", "h/b"], "GET", "h/a", "/a", id="a_host_without_the_path_leaves_it_to_none"),
        pytest.param(["/{x}", "/a"], "GET", "/a", "/a", id="a_literal_beats_a_parameter"),
        pytest.param(["/**", "/{x}"], "GET", "/a", "/{x}", id="a_parameter_beats_the_rest"),
        pytest.param(["/a/**", "/a/b/**"], "GET", "/a/b/c", "/a/b/**", id="longer_beats_shorter"),
        pytest.param(["/a/**", "/{x}/b"], "GET", "/a/b", "/a/**", id="the_first_difference_from_the_left_decides"),
        pytest.param(["/a/**", "/a"], "GET", "/a", "/a", id="the_end_beats_the_rest"),
        pytest.param(["/a/**"], "GET", "/a", "/a/**", id="the_rest_may_be_nothing"),
        pytest.param(["/a/**"], "GET", "/a/", "/a/**", id="the_rest_may_be_a_slash"),
        pytest.param(["/a/**"], "GET", "/ab", Miss(frozenset()), id="the_rest_begins_at_a_slash"),
        pytest.param(["/a/{x}", "/a/**"], "GET", "/a/", "/a/{x}", id="a_parameter_may_be_empty"),
        pytest.param(["/a"], "GET", "/a/", Miss(frozenset()), id="a_slash_at_the_end_counts"),
        pytest.param(["/a/", "/a"], "GET", "/a/", "/a/", id="each_slash_has_its_route"),
        pytest.param(["/"], "GET", "/", "/", id="the_root"),
        pytest.param(["/**"], "GET", "/", "/**", id="the_rest_of_the_root"),
        pytest.param(["/a//b"], "GET", "/a//b", "/a//b", id="an_empty_segment_is_one"),
        pytest.param(["/a/b"], "GET", "/a//b", Miss(frozenset()), id="slashes_are_not_merged"),
        pytest.param(["/A"], "GET", "/a", Miss(frozenset()), id="case_counts"),
        pytest.param(["/a"], "GET", "/%61", "/a", id="an_escape_matches_its_character"),
        pytest.param(["/%61"], "GET", "/a", "/%61", id="a_character_matches_its_escape"),
        pytest.param(["/a%2Fb", "/a/b"], "GET", "/a%2fb", "/a%2Fb", id="an_encoded_slash_is_no_slash"),
        pytest.param(["/a", "GET /a"], "GET", "/a", "GET /a", id="a_method_beats_none"),
        pytest.param(["/a", "GET /a"], "POST", "/a", "/a", id="none_takes_every_other_method"),
        pytest.param(["GET /**", "/a"], "GET", "/a", "/a", id="a_method_counts_last"),
        pytest.param(["POST /a", "/**"], "GET", "/a", "/**", id="a_route_of_another_method_does_not_compete"),
        pytest.param(["POST h/a", "GET /a"], "GET", "h/a", "GET /a", id="not_even_with_a_host"),
        pytest.param(["GET /a"], "HEAD", "/a", "GET /a", id="get_implies_head"),
        pytest.param(["GET /a", "HEAD /a"], "HEAD", "/a", "HEAD /a", id="head_of_its_own_beats_gets"),
        pytest.param(["GET /a", "/a"], "HEAD", "/a", "GET /a", id="gets_head_beats_no_method"),
        pytest.param(["GET /a", "POST /a"], "PUT", "/a", Miss(frozenset({"GET", "HEAD", "POST"})), id="405_says_all"),
        pytest.param(
            ["GET h/a", "POST /{x}", "DELETE /**", "PUT /b"],
            "PATCH",
            "h/a",
            Miss(frozenset({"GET", "HEAD", "POST", "DELETE"})),
            id="405_says_what_every_matching_path_allows",
        ),
        pytest.param(["GET /a"], "GET", "/b", Miss(frozenset()), id="404_allows_nothing"),
        pytest.param(["GET /a"], "get", "/a", Miss(frozenset({"GET", "HEAD"})), id="methods_have_their_case"),
        pytest.param([], "GET", "/", Miss(frozenset()), id="an_empty_table_has_nothing"),
    ],
)
def test_the_most_specific_route_wins(lines: list[str], method: str, target: str, expected: str | Miss) -> None:
    assert winner(lines, method, target) == expected


UUID = "0b8e1f5a-0c1d-4c3e-8f00-1122334455aF"
LARGEST = "9223372036854775807"  # of 64 bits, and of 19 digits


@pytest.mark.parametrize(
    ("kind", "are", "are_not"),
    [
        ("int", ["0", "7", "%31", LARGEST, "9" * 19], ["", "-1", "+1", "01", "00", "1.0", "1e3", "9" * 20, "%D9%A1"]),
        ("uuid", [UUID, UUID.upper(), UUID.lower(), "%30" + UUID[1:]], [UUID[:-1], UUID + "0", UUID.replace("-", "")]),
        ("uuid", [], [f"{{{UUID}}}", f"urn:uuid:{UUID}", UUID.replace("b", "g"), UUID.replace("-", "%2D", 1) + "0"]),
        ("hex", ["0", "00", "fF", "%66", "a" * 64], ["", "0x1", "g", "-1", "%E9"]),
        ("word", ["a", "A_1", "0", "%61"], ["", "a-b", "a.b", "a%20b", "%C3%A9", "a+b"]),
    ],
)
def test_what_is_of_a_kind(kind: str, are: list[str], are_not: list[str]) -> None:
    table = Table([(parse_pattern(f"/{{x:{kind}}}"), kind)])
    found = {value: isinstance(table.find("GET", "", f"/{value}"), Match) for value in are + are_not}
    assert found == dict.fromkeys(are, True) | dict.fromkeys(are_not, False)


def test_a_match_holds_the_raw_values_and_the_raw_rest() -> None:
    user, rest = parse_pattern("/u/{a}/{b}/**"), parse_pattern("/r/**")
    table = Table([(user, "u"), (rest, "r")])
    assert table.find("GET", "", "/%75/%41%2f/b;c/x//%2e%2e") == Match("u", user, ("%41%2f", "b;c"), "/x//%2e%2e")
    assert table.find("GET", "", "/u/1/2") == Match("u", user, ("1", "2"), "")
    assert table.find("GET", "", "/u/1/2/") == Match("u", user, ("1", "2"), "/")
    assert table.find("GET", "", "/r") == Match("r", rest, (), "")


def test_a_long_path_costs_no_recursion() -> None:
    rest = parse_pattern("/**")
    table = Table([(rest, "all"), (parse_pattern("/{a}/{b}"), "two")])
    path = "/x" * 30_000
    assert table.find("GET", "", path) == Match("all", rest, (), path)


# -- the table, against the words of the design -------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A route as the design's words have it, and nothing that `patterns` made of it."""

    methods: tuple[str, ...]
    host: str
    parts: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"{','.join(self.methods)} {self.host}/{'/'.join(self.parts)}".strip()

    def answers(self, method: str) -> bool:
        return not self.methods or method in self.methods or (method == "HEAD" and "GET" in self.methods)

    def matches(self, host: str, segments: list[str]) -> bool:
        if self.host and self.host != host:
            return False
        parts = list(self.parts)
        if parts[-1] == "**":
            parts.pop()
            segments = segments[: len(parts)]
        return len(parts) == len(segments) and all(
            part.startswith("{") or (unquote(part) == unquote(segment) and ("%2F" in part) == ("%2F" in segment))
            for part, segment in zip(parts, segments, strict=True)
        )

    def rank(self, method: str) -> tuple[object, ...]:
        """Less is more specific: host over none; literal over {} over (the end over) **; method over none."""
        kinds = [4 if part == "**" else 2 if part.startswith("{") else 1 for part in self.parts]
        if self.parts[-1] != "**":
            kinds.append(3)
        named = 0 if method in self.methods else 1 if self.methods else 2
        return (not self.host, kinds, named)

    def same_place(self, other: "Line") -> bool:
        def shape(line: Line) -> list[str]:
            return ["{}" if part.startswith("{") else unquote(part) + part.count("%2F") * "!" for part in line.parts]

        if self.host != other.host or shape(self) != shape(other):
            return False
        return self.methods == other.methods == () or not set(self.methods).isdisjoint(other.methods)


def expected(lines: list[Line], method: str, host: str, path: str) -> Line | frozenset[str]:
    """The winner, or what 405 allows, by looking at every line."""
    fitting = [line for line in lines if line.matches(host, path[1:].split("/"))]
    competing = [line for line in fitting if line.answers(method)]
    if competing:
        return min(competing, key=lambda line: line.rank(method))
    return frozenset(name for line in fitting for name in (*line.methods, *["HEAD"] * ("GET" in line.methods)))


METHODS = ["GET", "HEAD", "POST"]
parts = st.lists(st.sampled_from(["a", "b", "", "%61", "a%2Fb", "{p}"]), max_size=3).map(
    lambda found: [f"{{p{index}}}" if part == "{p}" else part for index, part in enumerate(found)]
)
line = st.builds(
    lambda methods, host, parts, tail: Line(tuple(methods), host, tuple(parts + tail) or ("",)),
    st.lists(st.sampled_from(METHODS), max_size=2, unique=True),
    st.sampled_from(["", "", "h.test", "i.test"]),
    parts,
    st.sampled_from([[], [], ["**"]]),
)
paths = st.lists(st.sampled_from(["a", "b", "", "%61", "a%2fb", "c"]), min_size=1, max_size=4).map(
    lambda found: "/" + "/".join(found)
)


@given(
    st.lists(line, max_size=10),
    st.sampled_from([*METHODS, "PUT"]),
    st.sampled_from(["", "h.test", "i.test", "j.test"]),
    paths,
)
def test_the_table_finds_what_looking_at_every_route_finds(
    lines: list[Line], method: str, host: str, path: str
) -> None:
    distinct: list[Line] = []
    for one in lines:
        if not any(one.same_place(other) for other in distinct):
            distinct.append(one)
    table = Table((parse_pattern(one.text), one) for one in distinct)
    found = table.find(method, host, path)
    wanted = expected(distinct, method, host, path.replace("%2f", "%2F"))
    assert (found.allowed if isinstance(found, Miss) else found.route) == wanted
    if isinstance(found, Match):
        built = list(found.values)
        pattern = parse_pattern(found.route.text)
        head = path.removesuffix(found.rest) if found.rest else path
        fixed = [part if isinstance(part, str) else built.pop(0) for part in pattern.segments]
        assert [normalized(part) for part in fixed] == [normalized(part) for part in head[1:].split("/") if head]
        assert head + found.rest == path


@given(st.lists(line, max_size=6))
def test_equal_routes_are_those_that_no_request_can_tell_apart(lines: list[Line]) -> None:
    found = [each[:2] for each in clashes([parse_pattern(one.text) for one in lines])]
    clashing = {index for pair in found for index in pair}
    slow = {
        index
        for index, one in enumerate(lines)
        for other in lines[:index] + lines[index + 1 :]
        if one.same_place(other)
    }
    assert clashing == slow
    assert all(first < second and lines[first].same_place(lines[second]) for first, second in found)


@pytest.mark.parametrize(
    ("lines", "pairs"),
    [
        (["/a", "/a"], [(0, 1)]),
        (["/a", "/b", "/%61"], [(0, 2)]),
        (["/{x}", "/{y}"], [(0, 1)]),
        (["GET /a", "GET,POST /a"], [(0, 1)]),
        (["GET,POST /a", "GET,POST /a"], [(0, 1)]),
        (["/a", "/a", "/a"], [(0, 1), (0, 2)]),
        (["A.test/a", "a.TEST/a"], [(0, 1)]),
        (["GET /a", "/a"], []),
        (["GET /a", "HEAD /a"], []),  # HEAD of its own takes it from GET
        (["/a", "/a/"], []),
        (["/a", "/a/**"], []),
        (["/a", "h/a"], []),
        (["/{x}", "/a"], []),
    ],
)
def test_equal_routes_are_named_in_pairs(lines: list[str], pairs: list[tuple[int, int]]) -> None:
    assert [each[:2] for each in clashes([parse_pattern(line) for line in lines])] == pairs


# -- what Django is told ------------------------------------------------------------------------------------------


@given(line, paths)
def test_djangos_pattern_matches_the_decoded_path(one: Line, path: str) -> None:
    assume("%2" not in one.text and "%2" not in path)  # decoded, a slash is a slash
    found = re.search(parse_pattern(one.text).regex(), unquote(path)[1:])
    assert (found is not None) == one.matches(one.host, path[1:].split("/"))


# -- whole lines --------------------------------------------------------------------------------------------------


def test_a_line_is_a_pattern_and_perhaps_a_target() -> None:
    assert parse_line("GET /home/{id}") == (parse_pattern("GET /home/{id}"), None)
    assert parse_line("/a/{id}/**->u:/b/{id}/**") == (parse_pattern("/a/{id}/**"), parse_target("u:/b/{id}/**"))


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("/{a} /b -> u:/{a}", "'{a}' is not in every path of the pattern (parameters of all: none)"),
        ("/a/** /b -> u:/**", "the target ends in '**', but a path of the pattern does not"),
        ("/a -> u:/{id}", "'{id}' is not in the pattern (its parameters: none)"),
        ("/{a}/{b} -> u:/?q={c}", "'{c}' is not in the pattern (its parameters: {a}, {b})"),
        ("/a -> u:/**", "the target ends in '**', but the pattern does not"),
        ("/a ->", "is not an upstream's name"),
        ("-> u", "expected [METHOD,...] [host]/path"),
    ],
)
def test_a_target_asks_only_for_what_its_pattern_gives(text: str, advice: str) -> None:
    with pytest.raises(PatternError) as caught:
        parse_line(text)
    assert advice in str(caught.value)


def test_a_pattern_may_give_more_than_its_target_asks_for() -> None:
    check_names(parse_pattern("/{a}/{b}/**"), parse_target("u:/{b}"))
    check_names(parse_pattern("/{a}"), parse_target("u"))


@given(st.text(max_size=30) | st.from_regex(r"[A-Z,]{0,5} ?[a-z.]{0,5}/[a-z{}*/%]{0,10} ?(->)? ?[a-z:/{}*]{0,10}"))
def test_every_text_is_a_line_or_refused(text: str) -> None:
    try:
        pattern, target = parse_line(text)
    except PatternError:
        return
    assert pattern.path.startswith("/")
    assert target is None or target.text


def test_names_of_parameters_may_be_camel_case() -> None:
    pattern, target = parse_line("GET /Basket/{userName} -> basket:/api/v1/Basket/{userName}")
    assert pattern.params == ("userName",)
    assert isinstance(target, Target)
    assert target.template is not None
    assert target.template.path({"userName": "ann"}) == "/api/v1/Basket/ann"


def test_several_paths_are_one_route() -> None:
    pattern, target = parse_line("GET /jmreport/** a.test/drag/{x} -> report")
    assert target == parse_target("report")
    assert [(one.host, one.path, one.methods) for one in pattern.paths] == [
        ("", "/jmreport/**", frozenset({"GET"})),
        ("a.test", "/drag/{x}", frozenset({"GET"})),
    ]
    assert pattern.text == "GET /jmreport/** a.test/drag/{x}"
    table = Table([(pattern, "report")])
    assert isinstance(found := table.find("GET", "a.test", "/drag/7"), Match)
    assert (found.pattern.path, found.values) == ("/drag/{x}", ("7",))
    assert isinstance(table.find("GET", "b.test", "/drag/7"), Miss)
    assert parse_pattern("/{a}/{b} /x/{b}").shared_params == ("b",)
    assert [one.methods for one in parse_pattern("/a /b").or_get().paths] == [{"GET"}, {"GET"}]
