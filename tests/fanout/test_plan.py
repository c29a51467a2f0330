"""What a part's target asks for, which parts can run, and what the merged answer says of them."""

from collections.abc import Mapping, Sequence
from email.utils import formatdate
from graphlib import CycleError, TopologicalSorter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.fanout.answer import cache_control, parts_field, vary
from gateway.fanout.plan import needs, problems
from gateway.http.headers import Pair
from gateway.http.negotiation import EVENTS, JSON, NDJSON, representation
from gateway.upstreams.targets import PartTarget, Reference, TargetError, TargetValueError, parse_part

NOW_S = 1_700_000_000.0


# -- a part's target ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "upstream", "references"),
    [
        ("users:/", "users", []),
        ("users:/users/1?a=b&c=", "users", []),
        ("  users:/x  ", "users", []),
        ("users:/users/{id}", "users", [Reference("{id}", "id")]),
        ("users_v2:/u?p={query.page}", "users_v2", [Reference("{query.page}", "query", ("page",))]),
        ("users:/u?p={query.page.size}", "users", [Reference("{query.page.size}", "query", ("page.size",))]),
        ("users:/u/{header.X-Tenant}", "users", [Reference("{header.X-Tenant}", "header", ("x-tenant",))]),
        ("users:/u/{user.team.id}", "users", [Reference("{user.team.id}", "user", ("team", "id"))]),
        ("users:/u/{user}", "users", [Reference("{user}", "user")]),
        ("users:/u/{ids[]}", "users", [Reference("{ids[]}", "ids", (), ())]),
        ("users:/u/{o[].p.id}", "users", [Reference("{o[].p.id}", "o", (), ("p", "id"))]),
        ("users:/u/{o.list[].id}", "users", [Reference("{o.list[].id}", "o", ("list",), ("id",))]),
        ("users:/{a}-{b}", "users", [Reference("{a}", "a"), Reference("{b}", "b")]),
        ("users:/u?{a}={b}", "users", [Reference("{a}", "a"), Reference("{b}", "b")]),
        ("users:/u/..x?up=../..", "users", []),
        ("users:/u/*", "users", []),
    ],
)
def test_a_target_has_an_upstream_and_placeholders(text: str, upstream: str, references: Sequence[Reference]) -> None:
    target = parse_part(text)
    assert (target.upstream, list(target.references), target.text) == (upstream, references, text.strip())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not an upstream's name"),
        ("/users", "not an upstream's name"),
        ("Users:/x", "not an upstream's name"),
        ("users", "begins with a slash"),
        ("users:", "begins with a slash"),
        ("users:x", "begins with a slash"),
        ("users:/a b", "no white space"),
        ("users:/a\tb", "no white space"),
        ("users:/a\nHost: x", "no white space"),
        ("users:/a#b", "no '#'"),
        ("users:/é", "only ASCII"),
        ("users:/a/**", "written out"),
        ("users:/a/../b", "'..'"),
        ("users:/a/%2e%2E/b", "'..'"),
        ("users:/a/.", "'.'"),
        ("users:/a%00b", "%00"),
        ("users:/{id", "without its partner"),
        ("users:/id}", "without its partner"),
        ("users:/?x={id", "without its partner"),
        ("users:/{}", "is not a value"),
        ("users:/{a.}", "is not a value"),
        ("users:/{.a}", "is not a value"),
        ("users:/{a/b}", "is not a value"),
        ("users:/{[]}", "is not a value"),
        ("users:/{a[0].b}", "is not a value"),
        ("users:/{{id}}", "without its partner"),
        ("users:/{a[].b[].c}", "list within a list"),
        ("users:/{a[].x}/{b[].y}", "one list, not several"),
        ("users:/{a.x[].i}/{a.y[].i}", "one list, not several"),
    ],
)
def test_what_is_no_target_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(TargetError, match=words.replace(".", r"\.").replace("[", r"\[")):
        parse_part(text)


def test_two_fields_of_one_list_are_one_mapped_part() -> None:
    target = parse_part("shop:/p/{orders[].product}?size={orders[].size}")
    assert target.mapped == Reference("{orders[].product}", "orders", (), ("product",))
    assert parse_part("shop:/p/{order.product}").mapped is None


def filled(target: str, values: Mapping[str, str], **raw: str) -> str:
    return parse_part(target).template.fill(raw, lambda reference: values[reference.text])


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("7", "7"),
        ("a b", "a%20b"),
        ("a/b", "a%2Fb"),
        ("?x=1&y#z", "%3Fx%3D1%26y%23z"),
        ("é", "%C3%A9"),
        ("日本", "%E6%97%A5%E6%9C%AC"),
        ("😀", "%F0%9F%98%80"),
        ("a%2Fb", "a%252Fb"),
        ("a+b", "a%2Bb"),
        ("...", "..."),
        ("a.b", "a.b"),
        ("1.10", "1.10"),
        ("{id}", "%7Bid%7D"),
        ("a\r\nHost: x", "a%0D%0AHost%3A%20x"),
        (" ", "%20"),
        ("~-_.a", "~-_.a"),
    ],
)
def test_a_value_is_percent_encoded_in_path_and_query(value: str, encoded: str) -> None:
    assert filled("users:/u/{user.x}/y", {"{user.x}": value}) == f"/u/{encoded}/y"
    assert filled("users:/u?x={user.x}&y=", {"{user.x}": value}) == f"/u?x={encoded}&y="


def test_a_parameter_of_the_path_goes_on_as_it_came() -> None:
    assert filled("users:/u/{id}", {}, id="a%2Fb%20c") == "/u/a%2Fb%20c"


def test_a_parameter_of_the_path_is_encoded_for_the_query() -> None:
    assert filled("users:/u?id={id}", {"{id}": "a&b=é"}, id="a&b=%C3%A9") == "/u?id=a%26b%3D%C3%A9"


@pytest.mark.parametrize("value", ["", ".", ".."])
@pytest.mark.parametrize("target", ["users:/u/{v.x}", "users:/u/a{v.x}", "users:/u?x={v.x}"])
def test_empty_and_dots_stand_nowhere(target: str, value: str) -> None:
    with pytest.raises(TargetValueError) as caught:
        filled(target, {"{v.x}": value})
    assert caught.value.reference.text == "{v.x}"


@pytest.mark.parametrize("value", ["\0", "a\0b", "a/../b", "../x", "x/..", "./x"])
def test_no_value_climbs_or_ends_a_path(value: str) -> None:
    with pytest.raises(TargetValueError):
        filled("users:/u/{v.x}", {"{v.x}": value})


@pytest.mark.parametrize("raw", ["", ".", "..", "%2e", "%2E%2e", ".%2e", "a%00", "%00"])
def test_no_parameter_of_the_path_climbs(raw: str) -> None:
    with pytest.raises(TargetValueError):
        filled("users:/u/{id}", {"{id}": raw}, id=raw)


@pytest.mark.parametrize(
    ("target", "raw"),
    [
        ("users:/u/{a}{b}/x", {"a": "%2", "b": "e"}),
        ("users:/u/{a}{b}/x", {"a": ".%2", "b": "E"}),
        ("users:/u/.{a}{b}", {"a": "%", "b": "2e"}),
        ("users:/u/{a}2e/x", {"a": "%"}),
        ("users:/u/%2{a}/x", {"a": "e"}),
        ("users:/u/{a}{b}", {"a": "%0", "b": "0"}),
    ],
)
def test_no_two_pieces_make_what_neither_is(target: str, raw: dict[str, str]) -> None:
    with pytest.raises(TargetValueError):
        filled(target, {}, **raw)


def test_bytes_that_are_no_text_stay_what_they_are() -> None:
    value = b"a\xff\xe9".decode("utf-8", "surrogateescape")
    assert (
        filled("users:/u/{header.x}?q={query.q}", {"{header.x}": value, "{query.q}": value}) == "/u/a%FF%E9?q=a%FF%E9"
    )


@given(st.text())
@example("../../admin")
@example("\udcff".encode("utf-8", "replace").decode())
def test_a_value_stays_within_its_segment(value: str) -> None:
    try:
        target = filled("users:/a/{v.x}/b?q={v.x}", {"{v.x}": value})
    except TargetValueError:
        return
    path, _, query = target.partition("?")
    assert path.count("/") == 3
    assert path.startswith("/a/")
    assert path.endswith("/b")
    assert not {"/", "&", "#", "?", " "} & set(query)
    assert target.isascii()
    assert target.isprintable()


# -- the plan -----------------------------------------------------------------------------------------------------


def plan(**targets: str) -> dict[str, PartTarget]:
    return {name: parse_part(f"u:{target}") for name, target in targets.items()}


def test_a_part_needs_those_that_its_target_names() -> None:
    targets = plan(user="/u/{id}", team="/t/{user.team}?o={orders[].id}", orders="/o")
    assert {name: needs(target, targets) for name, target in targets.items()} == {
        "user": frozenset(),
        "team": {"user", "orders"},
        "orders": frozenset(),
    }


@pytest.mark.parametrize(
    ("targets", "params"),
    [
        ({"a": "/x"}, []),
        ({"a": "/x/{id}"}, ["id"]),
        ({"a": "/x/{query.page}/{header.x-tenant}"}, []),
        ({"a": "/x/{b.id}", "b": "/y/{c.id}", "c": "/z"}, []),
        ({"a": "/x/{c.id}", "b": "/y/{c[].id}", "c": "/z/{id}"}, ["id"]),
    ],
)
def test_parts_that_fit_have_no_problem(targets: Mapping[str, str], params: Sequence[str]) -> None:
    assert list(problems(plan(**targets), params)) == []


@pytest.mark.parametrize(
    ("targets", "params", "blamed", "words"),
    [
        ({"a": "/{ident}"}, ["id"], ["a"], "{ident} is neither a parameter of the path nor a part"),
        ({"a": "/{b.x}"}, [], ["a"], "{b.x} is neither"),
        ({"query": "/x"}, [], ["query"], "cannot be called query"),
        ({"header": "/x"}, [], ["header"], "cannot be called header"),
        ({"id": "/x"}, ["id"], ["id"], "cannot be called id"),
        ({"end": "/x"}, [], ["end"], "cannot be called end: so is the last event of a stream"),
        ({"a": "/{query}"}, [], ["a"], "{query} needs one name"),
        ({"a": "/{header}"}, [], ["a"], "{header} needs one name"),
        ({"a": "/{query[].x}"}, [], ["a"], "{query[].x} needs one name"),
        ({"a": "/{id.x}"}, ["id"], ["a"], "{id.x}: id is a text"),
        ({"a": "/{id[]}"}, ["id"], ["a"], "{id[]}: id is a text"),
        ({"a": "/{a.x}"}, [], ["a"], "waits for itself"),
        ({"a": "/{b.x}", "b": "/{a.x}"}, [], ["a", "b"], "waits for itself"),
        ({"a": "/{b.x}", "b": "/{c.x}", "c": "/{a[].x}"}, [], ["a", "b", "c"], "waits for itself"),
        ({"a": "/{b.x}", "b": "/{b.x}"}, [], ["b"], "waits for itself, through b"),
    ],
)
def test_parts_that_do_not_fit_are_told(
    targets: Mapping[str, str], params: Sequence[str], blamed: Sequence[str], words: str
) -> None:
    found = list(problems(plan(**targets), params))
    assert [name for name, _ in found] == blamed
    assert all(words in sentence for _, sentence in found)


NAMES = "abcdef"
GRAPHS = st.dictionaries(st.sampled_from(NAMES), st.frozensets(st.sampled_from(NAMES)), min_size=1)


@given(GRAPHS)
def test_a_cycle_is_told_if_and_only_if_no_order_exists(graph: Mapping[str, frozenset[str]]) -> None:
    wanted = {name: sorted(others & graph.keys()) for name, others in graph.items()}
    targets = plan(**{name: "/" + "-".join(f"{{{other}.x}}" for other in others) for name, others in wanted.items()})
    try:
        TopologicalSorter(wanted).prepare()
        has_order = True
    except CycleError:
        has_order = False
    assert (list(problems(targets, [])) == []) is has_order


# -- what the answer says -----------------------------------------------------------------------------------------


def test_parts_stand_in_one_list_with_their_parameters() -> None:
    entries: list[tuple[str, Mapping[str, int | str]]] = [
        ("user", {"s": 200, "ms": 12}),
        ("orders", {"e": "response_timeout", "ms": 300}),
        ("items", {"n": 12, "ok": 11}),
        ("team", {"e": "skipped"}),
        ("bare", {}),
    ]
    said = b"user;s=200;ms=12, orders;e=response_timeout;ms=300, items;n=12;ok=11, team;e=skipped, bare"
    assert parts_field(entries) == said
    assert parts_field([]) == b""


def says(text: str, **more: str) -> list[Pair]:
    fields = {"Cache-Control": text, **more} if text else more
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]


def date(seconds: float) -> str:
    return formatdate(NOW_S + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([], None),
        ([says("")], None),
        ([says("max-age=60")], b"max-age=60"),
        ([says("max-age=60"), says("max-age=30"), says("max-age=90")], b"max-age=30"),
        ([says("max-age=60"), says("")], None),
        ([says("MAX-AGE=60")], b"max-age=60"),
        ([says('max-age="60"')], b"max-age=60"),
        ([says("public , max-age=60")], b"max-age=60"),
        ([says("max-age=60, max-age=90")], b"max-age=60"),
        ([says("max-age=99999999999")], b"max-age=2147483648"),
        ([says("max-age=60", Age="50")], b"max-age=10"),
        ([says("max-age=60", Age="70")], b"max-age=0"),
        ([says("max-age=60", Age="soon")], b"max-age=60"),
        ([says("max-age=60", Age="50"), says("max-age=20")], b"max-age=10"),
        ([says("max-age=soon")], b"max-age=0"),
        ([says("max-age=-1")], b"max-age=0"),
        ([says("max-age=1.5")], b"max-age=0"),
        ([says("max-age")], b"max-age=0"),
        ([says("max-age=60"), says("max-age=soon")], b"max-age=0"),
        ([says("", Expires=date(60), Date=date(0))], b"max-age=60"),
        ([says("", Expires=date(60))], b"max-age=60"),
        ([says("", Expires=date(60), Date=date(-5))], b"max-age=65"),
        ([says("", Expires=date(60), Date=date(0), Age="20")], b"max-age=40"),
        ([says("", Expires=date(-60))], b"max-age=0"),
        ([says("", Expires="0")], b"max-age=0"),
        ([says("", Expires="tomorrow")], b"max-age=0"),
        ([says("max-age=60", Expires=date(5))], b"max-age=60"),
        ([says("no-store")], b"no-store"),
        ([says("max-age=60"), says("no-store, private")], b"no-store"),
        ([says("private, max-age=60"), says("max-age=30")], b"private, max-age=30"),
        ([says("private"), says("")], b"private"),
        ([says('private="set-cookie, x-y", max-age=60')], b"private, max-age=60"),
        ([says("no-cache, max-age=60"), says("max-age=30")], b"no-cache"),
        ([says("private, no-cache")], b"private, no-cache"),
        ([says("max-age=60, s-maxage=90")], b"max-age=60, s-maxage=90"),
        ([says("max-age=60, s-maxage=90"), says("max-age=70, s-maxage=80")], b"max-age=60, s-maxage=80"),
        ([says("private, max-age=60, s-maxage=90")], b"private, max-age=60"),
        # What lets a shared cache store the answer to an authorised request must be said by every part.
        ([says("max-age=60"), says("max-age=10, s-maxage=30")], b"max-age=10"),
        ([says("max-age=60, must-revalidate"), says("max-age=10")], b"no-cache"),
        ([says("max-age=60, must-revalidate"), says("max-age=10, must-revalidate")], b"max-age=10, must-revalidate"),
        ([says("max-age=60, s-maxage=soon")], b"max-age=60, s-maxage=0"),
        ([says("max-age=60", Vary="*")], b"no-store"),
        ([says("max-age=60", Vary="accept-language")], b"max-age=60"),
    ],
)
def test_the_answer_stays_fresh_no_longer_than_any_part(answers: Sequence[Sequence[Pair]], said: bytes | None) -> None:
    assert cache_control(answers, NOW_S) == said


AGES = st.integers(0, 1000)


@given(st.lists(st.tuples(AGES, AGES), min_size=1, max_size=5))
def test_the_least_freshness_wins(answers: Sequence[tuple[int, int]]) -> None:
    said = cache_control([says(f"max-age={fresh}", Age=str(age)) for fresh, age in answers], NOW_S)
    assert said == b"max-age=%d" % min(max(0, fresh - age) for fresh, age in answers)


@given(st.text(alphabet=st.characters(max_codepoint=255)), st.text(alphabet=st.characters(max_codepoint=255)))
@example("Mon, 01 Jan 0001 00:00:00", "99")
@example("Fri, 31 Dec 9999 23:59:59", "1")
@example("Fri, 31 Dec 9999 23:59:59 -2359", "1")
@example("Mon, 01 Jan 0001 00:00:00 +2359", "1")
def test_no_field_of_an_upstream_breaks_it(one: str, other: str) -> None:
    pairs = [(b"expires", one.encode("latin-1")), (b"cache-control", other.encode("latin-1"))]
    said = cache_control([pairs, [(b"date", one.encode("latin-1")), (b"age", other.encode("latin-1"))]], NOW_S)
    assert said is None or said.isascii()


def test_vary_names_each_field_once_in_order() -> None:
    assert vary(["Accept", "Authorization", "X-Tenant", "Accept"]) == b"Accept, Authorization, X-Tenant"


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ([], JSON),
        (["*/*"], JSON),
        ([""], JSON),
        (["application/json"], JSON),
        (["application/*"], JSON),
        (["text/html"], JSON),
        (["application/x-ndjson"], NDJSON),
        (["Application/X-NDJSON"], NDJSON),
        (["text/event-stream"], EVENTS),
        (["text/event-stream, */*;q=0.1"], EVENTS),
        (["text/*"], JSON),
        (["application/x-ndjson, application/json"], JSON),
        (["application/x-ndjson, application/json;q=0.9"], NDJSON),
        (["application/x-ndjson;q=0.5, application/json;q=0.4, text/event-stream;q=0.6"], EVENTS),
        (["application/json;q=0.1", "application/x-ndjson"], NDJSON),
        (["application/x-ndjson;q=0"], JSON),
        (["application/x-ndjson;q=2"], JSON),
        (["application/x-ndjson;q=1.5, application/json;q=0.1"], JSON),
        (["application/json;q=0.1, */*, application/x-ndjson;q=0.5"], NDJSON),
        (["application/*;q=0.2, */*, application/x-ndjson;q=0.5"], NDJSON),
        (["application/json;q=0, text/event-stream;q=0.001"], EVENTS),
        (["application/problem+json, application/x-ndjson"], NDJSON),
        (["application/x-ndjson;q=soon"], JSON),
        (["application/x-ndjson; q=0.8 ; x=y, */*; q=0.9"], JSON),
        (["application/x-ndjson;charset=utf-8"], NDJSON),
        ([",;,;q=,"], JSON),
    ],
)
def test_the_representation_is_the_one_liked_best(accept: Sequence[str], media: str) -> None:
    assert representation(value.encode("latin-1") for value in accept) == media


def test_an_accept_of_thousands_of_ranges_is_read_as_far_as_anybody_means_it() -> None:
    long = b",".join([b"a/b;q=0.1"] * 6000)
    assert representation([NDJSON.encode() + b"," + long]) == NDJSON
    assert representation([long + b"," + NDJSON.encode()]) == JSON
    assert representation([b"application/x-ndjson" + b";a=b" * 15_000]) == NDJSON
