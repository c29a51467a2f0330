"""What the cache decides beside what another reader of RFC 9111 decides: hishel's state machine, a shared cache of GET.

Where the two differ, the difference stands in a table here with its reason, and nothing else may differ.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from uuid import uuid4

import hishel
import pytest
from hishel._core import _spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.cache.freshness import (
    NO_DIRECTIVES,
    Reuse,
    freshened,
    invalidated,
    request_directives,
    reuse_of,
    select,
    validating,
)
from gateway.cache.policy import Entry, NotStored, Response, entry_of, refusal
from gateway.http.headers import Pairs
from tests.cache.stored import AS_IT_SAYS, NOW_S, date, entry, pairs, response

SHARED = hishel.CacheOptions(shared=True, supported_methods=["GET"], allow_stale=False)
URL = "http://a.example/x"

# What hishel stores and we do not, by our reason.
STRICTER = {
    NotStored.REQUEST_NO_STORE: "hishel leaves the request's no-store to who calls it",
    NotStored.RANGE: "hishel never comes here with a range: it lets them pass before",
    NotStored.STATUS: "a failure by a guess: allowed; what must-understand forbids: hishel does not know it",
    NotStored.SET_COOKIE: "RFC 9111, section 7.3 leaves it to Cache-Control; we are safe first",
    NotStored.COOKIE: "the RFC says nothing of cookies; by a guess of ours one user's answer would be another's",
    NotStored.VARY: "hishel stores what varies on everything, and never uses it",
    NotStored.NO_FRESHNESS: "of no use: neither fresh nor to be validated (section 3 mentions such caches)",
    NotStored.STALE: "of no use, as well",
}
# And the other way round: (what the answer must say of itself, why).
LOOSER = {
    "must-understand": "overrides no-store where the status is understood (section 5.2.2.3); hishel does not know it",
    "malformed": "a number that is none is one that is there: stale (section 4.2.1); to hishel it is not there",
}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """hishel's, which it reads by itself."""
    hand = SimpleNamespace(now_s=NOW_S)
    monkeypatch.setattr(_spec, "time", SimpleNamespace(time=lambda: hand.now_s))
    return hand


of_all = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def headers(said: Pairs) -> hishel.Headers:
    found: dict[str, list[str]] = {}
    for name, value in said:
        found.setdefault(name.decode(), []).append(value.decode("latin-1"))
    return hishel.Headers(found)


def request_of(said: Pairs, method: str = "GET") -> hishel.Request:
    return hishel.Request(method, URL, headers(said))


def theirs(stored: Entry, request: Pairs) -> hishel.Entry:
    """The same stored answer."""
    return hishel.Entry(uuid4(), request_of(request), hishel.Response(stored.status, headers([*stored.pairs])))


def stores(answer: Response) -> bool:
    state = hishel.CacheMiss(SHARED, request_of([*answer.request], answer.method))
    return isinstance(state.next(hishel.Response(answer.status, headers([*answer.pairs]))), hishel.StoreAndUse)


# -- answers ------------------------------------------------------------------------------------------------------

# Each at most once: of two, hishel takes the last and we the first (section 4.2.1 has "either the first, or stale").
VALID = ["no-store", "no-cache", "private", "public", "must-revalidate", "proxy-revalidate", "immutable", "x=y"]
VALID += ["max-age=60", "s-maxage=30", 'private="x-user"', 'no-cache="x-user"', "stale-while-revalidate=9"]
MALFORMED = ["max-age=x", "s-maxage=1.5"]


def once_each(directives: list[str]) -> st.SearchStrategy[list[str]]:
    words = st.lists(st.sampled_from(directives), max_size=4, unique_by=lambda word: word.partition("=")[0])
    return words.map(lambda found: [f"Cache-Control: {', '.join(found)}"] if found else [])


def answers(directives: list[str], *others: str) -> st.SearchStrategy[list[str]]:
    rest = st.lists(st.sampled_from([*others, "X-User: 7"]), max_size=3, unique_by=lambda line: line.partition(":")[0])
    moments = st.integers(-200, 200).map(lambda s: f"Expires: {date(s)}")
    return st.builds(
        lambda said, rest, expires: [*said, *rest, *expires], once_each(directives), rest, st.lists(moments, max_size=1)
    )


REST = ['ETag: "1"', f"Last-Modified: {date(-1000)}", "Age: 20", "Expires: 0", "Vary: *", "Vary: x", "Set-Cookie: a=b"]
REQUESTS = st.lists(
    st.sampled_from(["Authorization: a", "Cookie: a=b", "Range: bytes=0-1", "Cache-Control: no-store", "X: 1"]),
    max_size=2,
)
STATUSES = st.sampled_from([200, 200, 200, 201, 204, 206, 301, 302, 304, 404, 410, 418, 500, 501, 503])


@of_all
@given(
    answers([*VALID, *MALFORMED, "must-understand"], *REST),
    REQUESTS,
    STATUSES,
    st.sampled_from(["GET", "POST", "HEAD"]),
)
def test_what_is_stored(lines: list[str], request: list[str], status: int, method: str) -> None:
    answer = response(*lines, request=request, status=status, method=method)
    why, said = refusal(answer, AS_IT_SAYS), "\n".join(lines)
    if why is not None and stores(answer):
        assert why in STRICTER
        assert why is not NotStored.STATUS or status >= 500 or "must-understand" in said
    if why is None and not stores(answer):
        assert "must-understand" in said or any(word in said for word in MALFORMED)


@of_all
@given(answers(VALID, *REST[:4]), STATUSES.filter(lambda status: status < 500))
def test_what_is_stored_where_there_is_nothing_particular(lines: list[str], status: int) -> None:
    """The same, but for what is of no use."""
    answer = response(*lines, status=status)
    why = refusal(answer, AS_IT_SAYS)
    assert (why is None or why in {NotStored.NO_FRESHNESS, NotStored.STALE}) is stores(answer)


# What of an answer we leave out besides.
LEFT_OUT = {"age": "written anew each time", "x-request-id": "of one request", "proxy-status": "of one request"}


@of_all
@given(
    answers(
        VALID,
        'ETag: "1"',
        "Age: 20",
        "X-Request-ID: 1",
        "Proxy-Status: p",
        "Connection: close",
        "Proxy-Authenticate: x",
    )
)
def test_which_fields_are_stored(lines: list[str]) -> None:
    answer = response(*lines, "Cache-Control: max-age=9")
    state = hishel.CacheMiss(SHARED, request_of([])).next(hishel.Response(200, headers([*answer.pairs])))
    assert isinstance(state, hishel.StoreAndUse | hishel.CouldNotBeStored)
    if refusal(answer, AS_IT_SAYS) is None:
        ours = {name.decode() for name, _ in entry_of(answer, AS_IT_SAYS).pairs}
        assert {*state.response.headers} - ours <= LEFT_OUT.keys()
        assert ours <= {*state.response.headers}


# -- use ----------------------------------------------------------------------------------------------------------


def is_fresh_to_us(stored: Entry, request: Pairs, later_s: float) -> bool:
    found, _ = select([stored], request)
    return found is not None and reuse_of(found, request_directives(request), NOW_S + later_s) is Reuse.FRESH


def is_used_by_them(stored: Entry, asked: Pairs, request: Pairs) -> bool:
    return isinstance(hishel.IdleClient(SHARED).next(request_of(request), [theirs(stored, asked)]), hishel.FromCache)


USABLE = [word for word in VALID if word not in {"no-store", "private"}]


@of_all
@given(
    answers(USABLE, f"Date: {date(-10)}", "Expires: 0"),
    st.integers(0, 200),
    st.sampled_from([[], ["Cache-Control: no-cache"], ["Cache-Control: x"]]),
)
def test_what_is_used(clock: SimpleNamespace, lines: list[str], later_s: int, asked: list[str]) -> None:
    stored, request = entry(*lines), pairs(*asked)
    clock.now_s = NOW_S + later_s
    assert is_fresh_to_us(stored, request, later_s) is is_used_by_them(stored, [], request)


# Where we are stricter in using: each of these alone makes a fresh answer of hishel's one that we validate.
OLDER = {
    "Age: 20": "hishel counts from Date alone (section 4.2.3 has both)",
    f"Last-Modified: {date(-1000)}": "hishel guesses from now, up to a week; we from Date, up to a day",
    f"Date: {date(10)}": "hishel's age stands still until then; resident_time counts on (section 4.2.3)",
    "max-age=x": "hishel goes on to Expires, or guesses",
    "Authorization: a": "a guess of ours is not for who has credentials",
    "Cache-Control: max-age=5, min-fresh=3": "hishel honours of a request no-cache alone",
}
OLDER_LINES = ["Age: 20", f"Last-Modified: {date(-1000)}", f"Date: {date(10)}"]


@of_all
@given(
    answers([*USABLE, *MALFORMED], *OLDER_LINES, f"Date: {date(-10)}", "Expires: 0"),
    st.integers(0, 200),
    st.sampled_from([[], ["Cache-Control: max-age=5, min-fresh=3"], ["Authorization: a"], ["Cookie: a=b"]]),
)
def test_what_we_use_is_always_used(clock: SimpleNamespace, lines: list[str], later_s: int, asked: list[str]) -> None:
    stored, request = entry(*lines), pairs(*asked)
    clock.now_s = NOW_S + later_s
    if is_fresh_to_us(stored, request, later_s):
        assert is_used_by_them(stored, [], request)
    elif is_used_by_them(stored, [], request):
        said = "\n".join([*lines, *asked])
        assert any(word in said for word in (*OLDER, "s-maxage=1.5", "Cookie"))


@of_all
@given(
    st.sampled_from([[], ["X: 1"], ["X: 2"], ["Y: 1"], ["X: 1", "Y: 1"]]),
    st.sampled_from([[], ["X: 1"], ["X: 2"], ["Y: 1"]]),
)
def test_what_varies(asked_before: list[str], asked_now: list[str]) -> None:
    """Of fields whose values mean nothing beyond their octets; hishel knows no others."""
    for vary in ("x", "X, y", "y", "z"):
        stored = entry("Cache-Control: max-age=60", f"Vary: {vary}", request=asked_before)
        request = pairs(*asked_now)
        assert is_fresh_to_us(stored, request, 0) is is_used_by_them(stored, pairs(*asked_before), request)


@of_all
@given(st.lists(st.integers(-50, 0), min_size=1, max_size=5, unique=True))
def test_of_several_the_most_recent_is_used(dates: list[int]) -> None:
    stored = [entry("Cache-Control: max-age=60", f"Date: {date(s)}") for s in dates]
    state = hishel.IdleClient(SHARED).next(request_of([]), [theirs(each, []) for each in stored])
    assert isinstance(state, hishel.FromCache)
    found, _ = select(stored, [])
    assert found is not None
    assert state.entry.response.headers["date"].encode() == dict(found.pairs)[b"date"]
    assert int(state.entry.response.headers["age"]) == int(found.current_age_s(NOW_S))


# -- validation ---------------------------------------------------------------------------------------------------

MODIFIED, LATER = f"Last-Modified: {date(-1000)}", f"Last-Modified: {date(-5)}"
STORED = [['ETag: "1"'], ['ETag: W/"1"'], [MODIFIED], ['ETag: "1"', MODIFIED], ['ETag: W/"1"', MODIFIED]]
SAID = [[], ['ETag: "1"'], ['ETag: "2"'], ['ETag: W/"1"'], ['ETag: W/"2"'], [MODIFIED], [LATER], ['ETag: "1"', LATER]]
# 304s of which one of the two says that they are not about the stored answer, and the other that they are.
DIFFERENT = {
    (('ETag: W/"1"',), ('ETag: "1"',)): "a strong validator updates what has the same strong one (section 4.3.4)",
    (('ETag: W/"1"',), ('ETag: "1"', LATER)): "the same",
    (('ETag: W/"1"', MODIFIED), ('ETag: "1"',)): "the same",
    (('ETag: W/"1"', MODIFIED), ('ETag: "1"', LATER)): "the same",
    (('ETag: "1"',), ('ETag: W/"2"',)): "weak tags that differ do not correspond; hishel looks at strong ones alone",
    (('ETag: W/"1"',), ('ETag: W/"2"',)): "the same",
    ((MODIFIED,), ('ETag: W/"1"',)): "the same",
    ((MODIFIED,), ('ETag: W/"2"',)): "the same",
    (('ETag: "1"', MODIFIED), ('ETag: W/"2"',)): "the same",
    (('ETag: W/"1"', MODIFIED), ('ETag: W/"2"',)): "the same",
}


def revalidation(stored: Entry) -> hishel.NeedRevalidation:
    state = hishel.IdleClient(SHARED).next(request_of([]), [theirs(stored, [])])
    assert isinstance(state, hishel.NeedRevalidation)
    return state


@pytest.mark.parametrize("lines", STORED)
def test_what_a_stored_answer_is_validated_with(lines: list[str]) -> None:
    stored = entry("Cache-Control: max-age=0", *lines)
    ours = {name.decode(): value.decode() for name, value in validating([], stored)}
    assert dict(revalidation(stored).request.headers) == ours


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("lines", STORED)
def test_which_stored_answer_a_304_is_about(lines: list[str], said: list[str]) -> None:
    stored, answer = entry("Cache-Control: max-age=0", *lines), response(*said, status=304)
    state: hishel.AnyState = revalidation(stored).next(hishel.Response(304, headers([*answer.pairs])))
    while isinstance(state, hishel.InvalidateEntries):
        state = state.next()
    agree = isinstance(state, hishel.NeedToBeUpdated) is (freshened(stored, answer, AS_IT_SAYS) is not None)
    assert agree is ((tuple(lines), tuple(said)) not in DIFFERENT)


@of_all
@given(answers(USABLE, "X: 1", "Content-Length: 4", "Link: </>"), answers(USABLE, "X: 2", "Y: 3", "Content-Length: 0"))
def test_what_a_304_makes_of_it(stored_lines: list[str], lines: list[str]) -> None:
    """HOWEVER hishel keeps Content-Type and Content-Encoding, which section 3.2 does not except: none are said here."""
    stored = entry(*stored_lines, "Expires: 0", "Cache-Control: max-age=0", 'ETag: "1"')
    answer = response(*lines, 'ETag: "1"', status=304, at_s=NOW_S + 30)
    found = freshened(stored, answer, AS_IT_SAYS)
    assert found is not None
    state = hishel.NeedRevalidation(SHARED, request_of([]), request_of([]), [theirs(stored, [])])
    updated = state.next(hishel.Response(304, headers([*answer.pairs])))
    assert isinstance(updated, hishel.NeedToBeUpdated)
    assert headers([*found[0].pairs]) == updated.updating_entries[0].response.headers


# -- invalidation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 301, 303, 400, 403, 404, 409, 500, 503])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PURGE", "GET", "HEAD", "OPTIONS"])
def test_what_makes_a_stored_answer_invalid(method: str, status: int) -> None:
    stored = theirs(entry("Cache-Control: max-age=60"), [])
    state = hishel.IdleClient(SHARED).next(request_of([], method), [stored])
    forgets = isinstance(state, hishel.CacheMiss) and isinstance(
        state.next(hishel.Response(status, headers([]))), hishel.InvalidateEntries
    )
    is_unsafe = method not in {"GET", "HEAD", "OPTIONS"}
    assert forgets is (is_unsafe and bool(invalidated("http", "a.example", "/x", status, [])))


def test_without_a_wish_and_without_a_word_nothing_is_used_stale() -> None:
    """As hishel with allow_stale=False."""
    assert reuse_of(entry("Cache-Control: max-age=0"), NO_DIRECTIVES, NOW_S) is Reuse.STALE
