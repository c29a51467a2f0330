"""Stored answers in memory, bounded in bytes, and what a purge names."""

import string
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import memory
from gateway.cache.keys import KINDS, Key, Purge, variant
from gateway.cache.memory import MAX_VARIANTS, Memory, Purges, Unstored, size_of
from gateway.cache.policy import Entry, NotStored, vary_values
from gateway.http.headers import Pairs
from tests.cache.stored import NOW_S, entry, pairs

FRESH = "Cache-Control: max-age=60"
KEY = "users http://a.example/users/1"


def stored(size: int = 0, *lines: str, language: str = "", at_s: float = NOW_S) -> Entry:
    """An answer of so many bytes; one for each language."""
    vary, request = (["Vary: accept-language"], [f"Accept-Language: {language}"]) if language else ([], [])
    return entry(FRESH, *vary, *lines, request=request, at_s=at_s, body=b"x" * size)


# -- keys ---------------------------------------------------------------------------------------------------------

WORDS = st.text(string.ascii_lowercase + string.digits + "-_.:", min_size=1, max_size=8)
TARGETS = st.text(string.ascii_letters + string.digits + "/?&=%;:@.~", max_size=12).map("/".__add__)
KEYS = st.builds(
    Key,
    route=st.text(string.ascii_letters + " @-", min_size=1, max_size=8),
    scheme=st.sampled_from(["http", "https", "part"]),
    host=WORDS,
    target=TARGETS,
    extra=st.text(string.printable.strip() + " ", max_size=8),
)


@given(KEYS)
def test_a_key_is_found_again_in_its_text(key: Key) -> None:
    assert Key.of(str(key)) == key


@given(KEYS, KEYS)
def test_different_keys_have_different_texts(one: Key, other: Key) -> None:
    assert (str(one) == str(other)) is (one == other)


@pytest.mark.parametrize(
    "other",
    [
        Key("orders", "http", "a.example", "/users/1"),
        Key("users", "https", "a.example", "/users/1"),
        Key("users", "http", "b.example", "/users/1"),
        Key("users", "http", "a.example:80", "/users/1"),
        Key("users", "http", "a.example", "/users/2"),
        Key("users", "http", "a.example", "/Users/1"),
        Key("users", "http", "a.example", "/users/1/"),
        Key("users", "http", "a.example", "/users/1?"),
        Key("users", "http", "a.example", "/users/1?a=1&b=2"),
        Key("users", "http", "a.example", "/users/1?b=2&a=1"),
        Key("users", "http", "a.example", "/users/%31"),
        Key("users", "http", "a.example", "/users/1", "x-forwarded-proto=https"),
    ],
)
def test_what_differs_in_anything_is_stored_apart(other: Key) -> None:
    kept = Memory(2**20)
    kept.put(KEY, stored())
    assert kept.get(str(other)) == []


def test_the_path_of_a_key_has_no_query() -> None:
    assert Key.of("users http://a.example/users?x=/1").path == "/users"


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([None, "", "1", "=1", ","])),
        max_size=3,
        unique_by=lambda pair: pair[0],
    )
)
def test_no_two_variants_have_one_name(said: list[tuple[str, str | None]]) -> None:
    """Absent is not empty; and what stands in one field does not stand in the other."""
    request = pairs(*(f"{name}: {value}" for name, value in said if value is not None))
    names = [b"a", b"b"]
    name = variant(KEY, names, vary_values(names, request))
    for other in ([], ["A: "], ["B: 1"], ["A: 1", "B: 1"], ["A: ,"]):
        values = vary_values(names, pairs(*other))
        assert (variant(KEY, names, values) == name) is (values == vary_values(names, request))
    assert variant(KEY, [b"a"], [b"1"]) != variant(KEY, [b"b"], [b"1"])
    assert variant(KEY, [], []) != variant(KEY + "x", [], [])


# -- what a purge names -------------------------------------------------------------------------------------------


URL = "http://a.example/users/1"
NAMING = [("path", "/users/1"), ("path", URL), ("prefix", "/users"), ("route", "users"), ("tag", "red"), ("all", "")]


@pytest.mark.parametrize(
    ("kind", "value", "key", "is_so"),
    [
        ("path", "/users/1", "u http://a/users/1", True),
        ("path", "/users/1", "u http://a/users/1?x=1", True),
        ("path", "/users/1", "o https://b/users/1", True),
        ("path", "/users/1", "u http://a/users/1 extra", True),
        ("path", "/users/1", "u http://a/users/10", False),
        ("path", "/users/1", "u http://a/users/1/", False),
        ("path", "/users/1", "u http://a/Users/1", False),
        ("path", "/users/1?x=1", "u http://a/users/1?x=1", True),
        ("path", "/users/1?x=1", "u http://a/users/1", False),
        ("path", "/users/1?x=1", "u http://a/users/1?x=1&y=2", False),
        ("path", "http://A/users/1", "u http://a/users/1", True),
        ("path", "http://a/users/1", "u http://a/users/1?x=1", True),
        ("path", "http://a/users/1", "u https://a/users/1", False),
        ("path", "http://a/users/1", "u http://b/users/1", False),
        ("path", "http://a/users/1", "u http://a:8000/users/1", False),
        ("uri", "http://a/users/1", "u http://a/users/1", True),
        ("uri", "http://a/users/1", "u http://a/users/1?x=1", False),
        ("uri", "http://a/users/1?x=1", "u http://a/users/1?x=1", True),
        ("uri", "http://a/users/1", "u http://b/users/1", False),
        ("prefix", "/users", "u http://a/users/1?x=1", True),
        ("prefix", "/users", "u http://a/users", True),
        ("prefix", "/users/", "u http://a/users", False),
        ("prefix", "/users", "u http://a/v1/users", False),
        ("prefix", "/", "u http://a/x", True),
        ("route", "u", "u http://a/x", True),
        ("route", "u", "users http://a/x", False),
        ("route", "my route", str(Key("my route", "http", "a", "/x")), True),
        ("tag", "red", "u http://a/x", True),
        ("tag", "Red", "u http://a/x", False),
        ("tag", "re", "u http://a/x", False),
        ("all", "", "u http://a/x", True),
    ],
)
def test_what_a_purge_covers(kind: str, value: str, key: str, *, is_so: bool) -> None:
    found = stored(0, "Cache-Tag: red, blue")
    purge = Purge.of_url(value, NOW_S) if kind == "uri" else Purge(kind, value, NOW_S)
    assert purge.covers(Key.of(key), found) is is_so
    kept = Memory(2**20)
    kept.put(key, found)
    assert kept.forget(purge) == is_so
    assert kept.get(key) == ([] if is_so else [found])


def test_a_purge_is_about_what_was_asked_for_until_then() -> None:
    """An answer that was asked for before may be of before, whenever it came."""
    purge = Purge("all", "", NOW_S)
    slow = entry(FRESH, at_s=NOW_S + 5, took_s=10)
    assert purge.covers(Key.of(KEY), slow)
    assert not purge.covers(Key.of(KEY), stored(at_s=NOW_S + 0.001))


@pytest.mark.parametrize(
    ("requested_s", "now_s", "is_so"),
    [
        (-10, 0, True),
        (0, 0, True),
        (5, 10, False),  # asked for after the purge
        (10, 10, False),
        (3600, 0, True),  # the clock was an hour ahead then
        (3600, 10, True),
        (3600, 3600, False),
        (0.001, 0, True),  # or another gateway's was, by a little
    ],
)
def test_an_answer_of_the_future_is_covered_by_every_purge(requested_s: float, now_s: float, *, is_so: bool) -> None:
    found = stored(0, "Cache-Tag: red", at_s=NOW_S + requested_s)
    for purge in (*(Purge(kind, value, NOW_S) for kind, value in NAMING), Purge.of_url(URL, NOW_S)):
        assert purge.covers(Key.of(KEY), found, NOW_S + now_s) is is_so
        kept, purges = Memory(2**20), Purges()
        kept.put(KEY, found)
        assert kept.forget(purge, NOW_S + now_s) == is_so
        purges.add(purge)
        assert purges.cover(Key.of(KEY), found, NOW_S + now_s) is is_so
    for purge in (Purge("path", "/users/2", NOW_S), Purge("tag", "blue", NOW_S), Purge("route", "x", NOW_S)):
        assert not purge.covers(Key.of(KEY), found, NOW_S + now_s)


@pytest.mark.parametrize("purge", [*NAMING, ("uri", URL)], ids=str)
def test_purges_of_before_the_clock_was_set_back_keep_nothing_out_for_long(purge: tuple[str, str]) -> None:
    kind, value = purge
    purges, ahead_s = Purges(), NOW_S + 3600
    purges.add(Purge.of_url(value, ahead_s) if kind == "uri" else Purge(kind, value, ahead_s))
    under_way = stored(0, "Cache-Tag: red", at_s=ahead_s - 1)
    assert purges.cover(Key.of(KEY), under_way, NOW_S)
    assert purges.cover(Key.of(KEY), stored(0, "Cache-Tag: red", at_s=NOW_S - 1), NOW_S + 1)
    assert not purges.cover(Key.of(KEY), stored(0, "Cache-Tag: red", at_s=NOW_S + 1), NOW_S + 2)


def test_a_purge_removes_every_variant_and_tells_how_many() -> None:
    kept = Memory(2**20)
    for language in ("de", "en", "fr"):
        kept.put(KEY, stored(language=language))
    kept.put(KEY + "?x", stored())
    assert kept.forget(Purge("path", "/users/1", NOW_S)) == 4
    assert (len(kept), kept.size_bytes) == (0, 0)
    assert kept.forget(Purge("path", "/users/1", NOW_S)) == 0


def test_a_purge_by_tag_removes_only_the_variants_that_have_it() -> None:
    kept = Memory(2**20)
    kept.put(KEY, stored(0, "Cache-Tag: red", language="de"))
    kept.put(KEY, stored(0, "Surrogate-Key: blue", language="en"))
    assert kept.forget(Purge("tag", "red", NOW_S)) == 1
    assert [found.tags for found in kept.get(KEY)] == [("blue",)]


# -- purges of late -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "purge",
    [
        Purge("path", "/users/1", NOW_S),
        Purge.of_url("http://a.example/users/1", NOW_S),
        Purge("prefix", "/users", NOW_S),
        Purge("route", "users", NOW_S),
        Purge("tag", "red", NOW_S),
        Purge("all", "", NOW_S),
    ],
    ids=lambda purge: purge.kind,
)
def test_what_was_under_way_at_a_purge_is_covered(purge: Purge) -> None:
    purges, key = Purges(), Key.of(KEY)
    assert not purges.cover(key, stored(0, "Cache-Tag: red"))
    purges.add(purge)
    assert purges.cover(key, stored(0, "Cache-Tag: red"))
    assert purges.cover(key, entry(FRESH, "Cache-Tag: red", at_s=NOW_S + 30, took_s=31))
    assert not purges.cover(key, stored(0, "Cache-Tag: red", at_s=NOW_S + 1))
    assert not purges.cover(Key("o", "http", "b", "/o"), stored()) or purge.kind == "all"


def test_the_later_of_two_purges_of_the_same_counts() -> None:
    purges = Purges()
    purges.add(Purge("path", "/users/1", NOW_S))
    purges.add(Purge("path", "/users/1", NOW_S + 10))
    assert purges.cover(Key.of(KEY), stored(at_s=NOW_S + 5))


def test_a_path_and_its_queries_are_purged_apart() -> None:
    purges = Purges()
    purges.add(Purge("path", "/users/1?x=1", NOW_S))
    assert not purges.cover(Key.of(KEY), stored())
    purges.add(Purge("path", "/users/1", NOW_S - 10))
    assert purges.cover(Key.of(KEY + "?x=1"), stored())
    assert purges.cover(Key.of(KEY), stored(at_s=NOW_S - 20))
    assert not purges.cover(Key.of(KEY), stored())


@pytest.mark.parametrize("kind", ["path", "uri", "prefix"])
def test_purges_are_forgotten_after_ten_minutes(kind: str) -> None:
    purges = Purges()

    def add(target: str, at_s: float) -> None:
        is_url = kind == "uri"
        purges.add(Purge.of_url(f"http://a.example{target}", at_s) if is_url else Purge(kind, target, at_s))

    add("/users/1", NOW_S)
    add("/users/1/x", NOW_S + 600)
    assert purges.cover(Key.of(KEY), stored())
    add("/users/1/x", NOW_S + 601)
    assert not purges.cover(Key.of(KEY), stored())


def test_too_many_purges_to_remember_cover_all_that_was_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a client that writes a lot would fill the memory."""
    monkeypatch.setattr(memory, "_MAX_PURGES", 10)
    purges = Purges()
    for second in range(30):
        purges.add(Purge.of_url(f"http://a.example/orders/{second}", NOW_S + second))
    assert purges.cover(Key.of(KEY), stored(at_s=NOW_S + 19))
    assert not purges.cover(Key.of(KEY), stored(at_s=NOW_S + 19.5))
    last = Key("o", "http", "a.example", "/orders/25")
    assert purges.cover(last, stored(at_s=NOW_S + 25))
    assert not purges.cover(last, stored(at_s=NOW_S + 25.5))


LONG = "x" * 60_000  # nearly as much as a target may have


def taken_by(fill: Callable[[], object]) -> int:
    """The bytes that are in use more once something was filled, and is still there."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = fill()
        taken = tracemalloc.get_traced_memory()[0] - before
        del kept
        return taken
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("long", ["", LONG], ids=["short", "long"])
@pytest.mark.parametrize("kind", ["uri", *KINDS])
def test_the_memory_of_purges_is_bounded_whatever_they_are_about(
    kind: str, long: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_MAX_PURGES", 1000)
    monkeypatch.setattr(memory, "_MAX_PREFIXES", 20)

    def fill() -> Purges:
        purges = Purges()
        for number in range(2000):
            value, at_s = f"/orders/{number}{long}", NOW_S + number / 10_000
            is_url = kind == "uri"
            purges.add(Purge.of_url(f"http://a.example{value}", at_s) if is_url else Purge(kind, value, at_s))
        return purges

    assert taken_by(fill) < (20 * 70_000 if kind == "prefix" else 1000 * 800)


def test_a_purge_of_a_url_is_short() -> None:
    """It is a row in the database, too."""
    assert len(Purge.of_url(f"http://{'h' * 255}/{LONG}?{LONG}", NOW_S).value) < 320


def test_one_purge_of_many_is_found_by_what_it_is_about() -> None:
    """A tag for each page that is saved: what is stored next is not compared with them all."""
    purges = Purges()
    for number in range(3000):
        purges.add(Purge("tag", f"t{number}", NOW_S))
        purges.add(Purge.of_url(f"http://a.example/users/1?{number}", NOW_S))

    assert purges.cover(Key.of("u http://a.example/x"), stored(0, "Cache-Tag: t0"))
    assert not purges.cover(Key.of("u http://a.example/users/1"), stored())
    assert purges.cover(Key.of("u http://a.example/users/1?0"), stored())


# -- what was not stored ------------------------------------------------------------------------------------------


ASKS = pairs("Accept: */*", "User-Agent: a")


def test_why_an_answer_was_not_stored_is_known_for_a_moment() -> None:
    unstored = Unstored()
    assert unstored.why(KEY, ASKS, 0.0) is None
    unstored.add(KEY, ASKS, NotStored.PRIVATE, 100.0)
    assert unstored.why(KEY, ASKS, 109.9) is NotStored.PRIVATE
    assert unstored.why(KEY + "x", ASKS, 100.0) is None
    assert unstored.why(KEY, ASKS, 110.0) is None


def test_the_last_reason_counts_and_for_its_own_time() -> None:
    unstored = Unstored()
    unstored.add(KEY, ASKS, NotStored.PRIVATE, 100.0)
    unstored.add(KEY, ASKS, NotStored.SET_COOKIE, 105.0)
    assert unstored.why(KEY, ASKS, 114.0) is NotStored.SET_COOKIE


@pytest.mark.parametrize(
    "other",
    [
        pairs("Accept: */*", "User-Agent: a", "X-Bad: 1"),
        pairs("Accept: application/x-ndjson", "User-Agent: a"),
        pairs("Accept: */*", "User-Agent: b"),
        pairs("Accept: */*"),
        [],
    ],
)
def test_what_one_request_was_refused_says_nothing_of_others(other: Pairs) -> None:
    unstored = Unstored()
    unstored.add(KEY, other, NotStored.NO_STORE, 100.0)
    unstored.add(KEY, other, NotStored.NO_STORE, 101.0)
    assert unstored.why(KEY, other, 101.0) is NotStored.NO_STORE
    assert unstored.why(KEY, ASKS, 101.0) is None


@pytest.mark.parametrize(
    "more", ["Traceparent: 00-1", "X-Request-ID: 1", "X-Forwarded-For: a", 'If-None-Match: "1"', "Connection: close"]
)
def test_what_differs_with_every_request_does_not_make_another_one_of_it(more: str) -> None:
    unstored = Unstored()
    unstored.add(KEY, [*ASKS, *pairs(more)], NotStored.PRIVATE, 100.0)
    assert unstored.why(KEY, ASKS, 100.0) is NotStored.PRIVATE


def test_what_several_different_requests_were_refused_counts_for_all_until_one_is_stored() -> None:
    unstored = Unstored()
    for number in range(3):
        assert unstored.why(KEY, ASKS, 100.0) is None
        unstored.add(KEY, pairs(f"User-Agent: {number}"), NotStored.PRIVATE, 100.0)
    assert unstored.why(KEY, ASKS, 100.0) is NotStored.PRIVATE
    unstored.discard(KEY)
    assert unstored.why(KEY, ASKS, 100.0) is None


def test_refusals_of_long_ago_are_none_of_several() -> None:
    unstored = Unstored()
    for number in range(5):
        unstored.add(KEY, pairs(f"User-Agent: {number}"), NotStored.PRIVATE, 100.0 + 10 * number)
        assert unstored.why(KEY, ASKS, 100.0 + 10 * number) is None


def test_what_was_not_stored_is_forgotten_by_time_and_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MAX_UNSTORED", 1000)

    def fill() -> Unstored:
        unstored = Unstored()
        for number in range(2000):
            unstored.add(f"u http://a/{number}?{LONG}", ASKS, NotStored.NO_STORE, 100.0)
        assert len(unstored) == 1000
        return unstored

    assert taken_by(fill) < 1000 * 600
    unstored = fill()
    unstored.add(KEY, ASKS, NotStored.NO_STORE, 110.0)
    assert len(unstored) == 1


# -- bounded ------------------------------------------------------------------------------------------------------


def test_what_is_kept_is_found() -> None:
    kept, found = Memory(2**20), stored(10)
    kept.put(KEY, found)
    assert kept.get(KEY) == [found]
    assert kept.get("users http://a.example/users/2") == []
    assert (len(kept), kept.size_bytes) == (1, size_of(KEY, found))


def test_a_newer_answer_to_the_same_requests_takes_the_place_of_the_older() -> None:
    kept = Memory(2**20)
    kept.put(KEY, stored(10, language="de"))
    kept.put(KEY, stored(10, language="en"))
    kept.put(KEY, stored(30, language="de"))
    assert sorted(len(found.body) for found in kept.get(KEY)) == [10, 30]


def test_an_answer_that_is_dropped_is_gone_and_its_variants_are_not() -> None:
    kept = Memory(2**20)
    kept.put(KEY, stored(10, language="de"))
    kept.put(KEY, stored(20, language="en"))
    kept.drop(KEY, stored(99, language="de"))
    kept.drop("users http://a.example/never", stored())
    assert [len(found.body) for found in kept.get(KEY)] == [20]
    kept.drop(KEY, stored(language="en"))
    assert (len(kept), kept.size_bytes) == (0, 0)


def test_what_was_used_least_lately_goes_first() -> None:
    size = size_of("u http://a/0", stored(1000))
    kept = Memory(size * 4)
    for number in range(4):
        kept.put(f"u http://a/{number}", stored(1000))
    kept.get("u http://a/0")
    kept.put("u http://a/4", stored(1000))
    assert [number for number in range(5) if kept.get(f"u http://a/{number}")] == [0, 2, 3, 4]
    kept.put("u http://a/0", stored(1000))
    kept.put("u http://a/5", stored(1000))
    assert [number for number in range(6) if kept.get(f"u http://a/{number}")] == [0, 3, 4, 5]


def test_one_answer_does_not_sweep_the_others_out() -> None:
    kept = Memory(100_000)
    kept.put(KEY, stored(1000))
    kept.put("u http://a/large", stored(30_000))
    assert (len(kept), kept.get("u http://a/large")) == (1, [])


def test_an_answer_that_has_grown_too_large_does_not_leave_the_old_one_behind() -> None:
    kept = Memory(100_000)
    kept.put(KEY, stored(1000))
    kept.put(KEY, stored(30_000))
    assert (kept.get(KEY), kept.size_bytes) == ([], 0)


def test_without_memory_nothing_is_kept() -> None:
    kept = Memory(0)
    kept.put(KEY, stored())
    assert (kept.get(KEY), len(kept), kept.size_bytes) == ([], 0, 0)


def test_of_one_url_only_so_many_variants_are_kept() -> None:
    """One field can have any number of values: nobody shall fill the memory with them."""
    kept = Memory(2**20)
    for number in range(3 * MAX_VARIANTS):
        kept.put(KEY, stored(language=f"x-{number}"))
    languages = [found.values[0] for found in kept.get(KEY)]
    assert languages == [b"x-%d" % number for number in range(2 * MAX_VARIANTS, 3 * MAX_VARIANTS)]


def test_what_an_answer_is_counted_with_is_no_less_than_it_takes() -> None:
    kept = Memory(2**30)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(500):
            lines = (f"X-{field}-{number}: value {number} {field}" for field in range(number % 12))
            found = stored(200 + number, *lines, f'ETag: "{number}"', language=f"x-{number}")
            kept.put(
                f"users http://a.example/users/{number}?number={number}", replace(found, body=b"x" * (200 + number))
            )
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= kept.size_bytes <= 2 * taken


@pytest.mark.parametrize("what", ["long keys", "many fields in Vary", "long values of them", "short ones"])
def test_no_kind_of_answer_is_counted_with_less_than_it_takes(what: str) -> None:
    kept = Memory(2 * 2**20)

    def fill() -> Memory:
        for number in range(60 if what == "long keys" else 3000):
            key = f"u http://a/{number}"
            if what == "long keys":
                kept.put(f"{key}/{LONG}?{LONG}", stored(1))
            elif what == "many fields in Vary":
                kept.put(key, entry(FRESH, *(f"Vary: x-{number}-{one}" for one in range(50))))
            elif what == "long values of them":
                kept.put(key, stored(language=f"{number} {LONG}"))
            else:
                kept.put(key, entry(FRESH))
        return kept

    taken = taken_by(fill)
    assert kept.size_bytes <= 2 * 2**20
    assert taken <= 1.2 * kept.size_bytes


def test_one_url_of_many_queries_is_found_without_a_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes to a path of which thousands of queries are stored does not hold everybody else up."""
    kept, looked_at = Memory(2**30), []
    for number in range(2000):
        kept.put(f"{KEY}?page={number}", stored())
    covers = Purge.covers

    def counted(purge: Purge, key: Key, found: Entry, now_s: float) -> bool:
        looked_at.append(key)
        return covers(purge, key, found, now_s)

    monkeypatch.setattr(Purge, "covers", counted)
    assert kept.forget(Purge.of_url("http://a.example/users/1", NOW_S)) == 0
    assert kept.forget(Purge.of_url("http://a.example/users/1?page=7", NOW_S)) == 1
    assert kept.forget(Purge("path", "/users/1?page=8", NOW_S)) == 1
    assert kept.forget(Purge("path", "/users/2", NOW_S)) == 0
    assert len(looked_at) == 2
    assert kept.forget(Purge("path", "/users/1", NOW_S)) == 1998


def test_what_is_stored_of_a_target_by_several_routes_and_origins_is_found() -> None:
    kept = Memory(2**20)
    keys = [
        f"{route} {origin}/x?1{extra}" for route in "ab" for origin in ("http://h", "https://h") for extra in ("", " e")
    ]
    for key in keys:
        kept.put(key, stored())
    kept.drop(keys[0], stored())
    assert kept.forget(Purge.of_url("http://h/x?1", NOW_S)) == 3
    assert kept.forget(Purge("path", "/x?1", NOW_S)) == 4
    assert (len(kept), kept.size_bytes) == (0, 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 5), st.sampled_from(["", "de", "en"]), st.integers(0, 3000)),
        st.tuples(st.just("get"), st.integers(0, 5), st.just(""), st.just(0)),
        st.tuples(st.just("drop"), st.integers(0, 5), st.sampled_from(["", "de"]), st.just(0)),
        st.tuples(st.just("forget"), st.integers(0, 5), st.just(""), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS, st.integers(0, 20_000))
def test_it_never_holds_more_than_it_may_and_always_the_latest(
    steps: list[tuple[str, int, str, int]], max_bytes: int
) -> None:
    kept = Memory(max_bytes)
    model: OrderedDict[str, list[Entry]] = OrderedDict()  # the least lately used first
    for what, number, language, size in steps:
        key = f"u http://a/{number}"
        before = model.get(key, [])
        if what == "get":
            assert kept.get(key) == before
            if before:
                model.move_to_end(key)
        elif what == "put":
            found = stored(size, language=language)
            kept.put(key, found)
            left = [other for other in before if other.values != found.values]
            fits = size_of(key, found) <= max_bytes // 4
            model[key] = [*left, found] if fits else left
            if fits:
                model.move_to_end(key)
        elif what == "drop":
            kept.drop(key, stored(language=language))
            model[key] = [other for other in before if other.values != stored(language=language).values]
        else:
            assert kept.forget(Purge("path", f"/{number}", NOW_S)) == len(before)
            model[key] = []
        model = OrderedDict((key, entries) for key, entries in model.items() if entries)
        while sum(size_of(key, each) for key, entries in model.items() for each in entries) > max_bytes:
            model.popitem(last=False)
        assert kept.size_bytes == sum(size_of(key, each) for key, entries in model.items() for each in entries)
        assert kept.size_bytes <= max_bytes
        assert len(kept) == sum(map(len, model.values()))
    assert all(kept.get(key) == entries for key, entries in list(model.items()))
