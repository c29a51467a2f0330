"""No malformed request gets through, and no well-formed one is lost: the whole matrix through a real gateway."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.http import forwarding, headers, validation

from . import restated
from .corpus import EITHER, INVALID, REPAIRED, VALID, Case, expectation, own
from .probe import Outcome, run
from .strict import Fault, read_all, read_request
from .targets import ALL

CASES = [*own(), *restated.cases()]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Outcome]]:
    """The outcomes of each gateway, by the name of the case: one as it comes, one that keeps
    the client's Host, one that speaks TLS (and HTTP/1.1 in it)."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("portway", "portway-keeps-host", "portway-tls")}

    def through(name: str) -> list[Outcome]:
        with ALL[name](folders[name]) as lane:
            return run(lane, CASES)

    with ThreadPoolExecutor(len(folders)) as pool:
        found: dict[str, list[Outcome]] = {}
        for outcome in (outcome for one in pool.map(through, folders) for outcome in one):
            found.setdefault(outcome.case.name, []).append(outcome)
    return found


@pytest.mark.timeout(180)  # the first one waits for all of them
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_it_is_refused_or_goes_up_with_its_one_meaning(case: Case, outcomes: dict[str, list[Outcome]]) -> None:
    assert len(outcomes.get(case.name, ())) == 3, "the gateway died before this case"
    for outcome in outcomes[case.name]:
        assert not outcome.verdict.is_failure, str(outcome)
        # No answer to a malformed request says that the gateway itself failed.
        assert all(answer.status not in {500, 502, 503, 504} for answer in outcome.answers), str(outcome)


def test_the_matrix_is_as_large_as_it_says() -> None:
    names = Counter(case.name for case in CASES)
    assert [name for name, times in names.items() if times > 1] == []
    assert len(own()) >= 150


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_what_a_case_expects_agrees_with_the_strict_reader(case: Case) -> None:
    by_the_letter = expectation(case.raw)
    if case.expect is VALID:
        assert by_the_letter is VALID
    elif case.expect is INVALID:
        assert by_the_letter is INVALID
    elif case.expect is REPAIRED:
        assert by_the_letter is not VALID
    elif by_the_letter is INVALID:
        # The RFC refuses it whole: then it holds another request that it does not refuse.
        assert case.expect is EITHER
        assert case.requests > 1


# -- the strict reader itself -------------------------------------------------------------------------------------


def test_the_strict_reader_reads_a_request_whole() -> None:
    raw = b"POST /a?b HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n2;d\r\nef\r\n0\r\nG: h\r\n\r\n"
    request = read_request(raw + b"GET")
    assert (request.method, request.target, request.body, request.trailers) == (b"POST", b"/a?b", b"ef", [(b"G", b"h")])
    assert request.is_whole
    assert request.faults == []
    assert request.raw == raw


@pytest.mark.parametrize("end", range(1, 78))
def test_a_request_that_is_cut_anywhere_is_not_whole(end: int) -> None:
    raw = b"POST / HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nef\r\n0\r\nG: h\r\n\r\n"
    request = read_request(raw[: min(end, len(raw) - 1)])
    assert not request.is_whole
    assert request.faults == []


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_the_strict_reader_reads_anything(raw: bytes) -> None:
    for request in read_all(b"GET / HTTP/1.1\r\nHost: a\r\n" + raw):
        assert request.is_whole or request.is_fatal or Fault.NO_VERSION not in request.faults


# -- the pure check ------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    b"host content-length transfer-encoding connection expect te upgrade via forwarded x-forwarded-for "
    b"x-forwarded-host content_length x_forwarded_for traceparent x-request-id x-a".split()
) | st.binary(max_size=20)
VALUES = (
    st.binary(max_size=40)
    | st.from_regex(rb"[0-9 ,+-]{0,25}", fullmatch=True)
    | st.from_regex(rb"(?:chunked|gzip|close|a\.b|\[::1\]|[:;, \t\"=]){0,6}", fullmatch=True)
)
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=8)


@given(PAIRS, st.sampled_from(("1", "1.1", "2")), st.binary(max_size=40), st.text(max_size=40))
@settings(max_examples=600, deadline=None)
@example([(b"host", b"\xff")], "1.1", b"/\xff", "")
def test_the_door_raises_nothing_but_its_own_refusals(
    pairs: headers.Pairs, version: str, target: bytes, method: str
) -> None:
    fields = headers.read_fields(pairs)
    checks: Sequence[Callable[[], object]] = (
        lambda: validation.check_method(method),
        lambda: validation.check_target(method, target, target),
        lambda: validation.check_target(method, b"/" + target, b""),
        lambda: validation.check_path("/" + target.decode("latin-1")),
        lambda: validation.check_fields(fields, 1000),
        lambda: validation.check_host(fields, version),
        lambda: validation.content_length(fields, version),
    )
    statuses = []
    for check in checks:
        try:
            check()
        except GatewayError as error:
            statuses.append(error.reason.status)
    assert all(400 <= status <= 501 for status in statuses)


@given(PAIRS, st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=600, deadline=None)
def test_what_reads_fields_raises_nothing(pairs: headers.Pairs, peer: str, host: str) -> None:
    fields = headers.read_fields(pairs)
    networks: list[headers.Network] = [IPv4Network("10.0.0.0/8"), IPv6Network("fd00::/8")]
    values = [value for _, value in pairs]
    fields.end_to_end()
    headers.connection_options(values)
    headers.strip_hop_by_hop(pairs)
    headers.set_fields(pairs, [(b"x-a", b"b"), (b"host", None)])
    forwarding.is_trusted(peer, networks)
    forwarding.client_and_hops("10.0.0.1", values, networks)
    for value in values:
        headers.parse_host(value)
    forwarded = [(b"x-forwarded-for", value) for value in values]
    for trusted in (None, forwarded):
        pairs_up = forwarding.forwarding_pairs(
            "10.0.0.1", "http", host.encode("ascii", "ignore").decode(), "/a", trusted
        )
        assert all(isinstance(value, bytes) for _, value in pairs_up)


@given(PAIRS)
@settings(max_examples=600, deadline=None)
def test_a_length_that_the_door_lets_in_is_the_only_one(pairs: headers.Pairs) -> None:
    try:
        length = validation.content_length(headers.read_fields(pairs), "1.1")
    except GatewayError:
        return
    lengths = [value for name, value in pairs if name == b"content-length"]
    codings = [value for name, value in pairs if name == b"transfer-encoding"]
    assert len(lengths) + len(codings) <= 1
    assert length == (int(lengths[0]) if lengths else None)
