"""An upstream's endpoints as requests find them, by a clock that is set by hand: out, on trial, and back."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from gateway.config import loader
from gateway.errors import GatewayError, Reason
from gateway.routing import proxy, route
from gateway.routing.urls import Routes
from gateway.server.asgi import GatewayHandler
from gateway.upstreams.attempt import Attempt
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.load_balancing import Balance
from gateway.upstreams.outlier_detection import EndpointState
from gateway.upstreams.places import Base, Instance, Source
from gateway.upstreams.pool import Pool
from gateway.upstreams.records import Upstream
from tests.application import Answered, call, lifespan, scope_of
from tests.live.harness import OK, eventually
from tests.live.stage import Act, Actor, breaks_off, hangs_up, says, status


class Clock:
    """The time of a pool; `log` is what it said."""

    def __init__(self, pool: Pool, log: list[Any]) -> None:
        self.pool = pool
        self.log = log
        self.now_s = 1000.0
        pool.now = lambda: self.now_s

    def events(self, event: str) -> list[str]:
        return [line["endpoint"] for line in self.log if line["event"] == event]

    @property
    def pauses_s(self) -> list[float]:
        return [line["pause_s"] for line in self.log if line["event"] == "upstream.ejected"]


@asynccontextmanager
async def pool_of(count: int, **options: Any) -> AsyncIterator[tuple[Pool, Clock]]:
    bases = tuple(Base("http", f"10.0.0.{number}", 8000) for number in range(1, count + 1))
    pool = Pool(Upstream(name="users", bases=bases, **{"balance": Balance("round_robin"), **options}))
    with capture_logs() as log:
        clock = Clock(pool, log)
        pool.start()
        yield pool, clock
        await pool.aclose()


def begin(pool: Pool, tried: Sequence[Endpoint] = (), *, repeatable: bool = True) -> Attempt:
    return pool.pick(b"", tried, repeatable=repeatable)


def end(attempt: Attempt, how: Reason | int | None) -> None:
    if isinstance(how, Reason):
        attempt.broke(how)
    elif how is None:
        attempt.dropped()
    else:
        attempt.ended(how)


def ask(pool: Pool, bad: Iterable[str] = (), *, repeatable: bool = True) -> str:
    """One request, which fails where the endpoint is a bad one; the last number of its address."""
    attempt = begin(pool, repeatable=repeatable)
    name = attempt.endpoint.addresses[0].rpartition(".")[2]
    end(attempt, 503 if name in bad else 200)
    return name


def eject(pool: Pool, *bad: str) -> None:
    """Ask until all of them are out."""
    for _ in range(100):
        ask(pool, bad)
    out = {one.addresses[0].rpartition(".")[2] for one in pool.endpoints if not one.is_in}
    assert out == set(bad)


# -- shares -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def canary(**options: Any) -> AsyncIterator[Pool]:
    """Nine with 95 percent of the requests, and one with the rest."""
    main, next_ = Source("srv", "http", "main", weight=95), Source("srv", "http", "next", weight=5)
    pool = Pool(Upstream(name="users", sources=(main, next_), sticky_key=b"k" * 32, **options))
    pool.start()
    for source, count in ((main, 9), (next_, 1)):
        hosts = [f"10.0.{source.weight}.{number}" for number in range(1, count + 1)]
        pool.members.set_instances(source, [Instance(Base("http", host, 8000), (host,)) for host in hosts])
    yield pool
    await pool.aclose()


def is_canary(endpoint: Endpoint) -> bool:
    return endpoint.group.weight == 5


@pytest.mark.parametrize("balance", ["p2c", "round_robin", "hash", "sticky"])
async def test_of_100_000_requests_a_canary_gets_its_share(balance: str) -> None:
    async with canary(balance=Balance(balance)) as pool:
        count = 0
        for number in range(100_000):
            attempt = pool.pick(b"user-%d" % number if balance == "hash" else b"", (), repeatable=True)
            count += is_canary(attempt.endpoint)
            attempt.ended(200)
        assert 4_700 < count < 5_300


@pytest.mark.parametrize("balance", ["hash", "sticky"])
async def test_one_client_stays_with_its_choice(balance: str) -> None:
    async with canary(balance=Balance(balance)) as pool:
        for endpoint in pool.endpoints:
            key = pool.stickiness.token(endpoint.url) if pool.stickiness else endpoint.label.encode()
            chosen = set()
            for _ in range(1_000):
                attempt = pool.pick(key, (), repeatable=True)
                chosen.add(attempt.endpoint)
                attempt.ended(200)
            assert len(chosen) == 1
            assert not pool.stickiness or chosen == {endpoint}


async def test_an_instance_that_is_gone_holds_nobody() -> None:
    async with canary(balance=Balance("sticky")) as pool:
        assert pool.stickiness is not None
        gone = pool.endpoints[0]
        source = next(one for one in pool.upstream.sources if one.weight == 95)
        rest = [Instance(one.base, one.addresses) for one in pool.endpoints[1:9]]
        pool.members.set_instances(source, rest)
        key = pool.stickiness.token(gone.url)
        assert all(pool.pick(key, (), repeatable=True).endpoint is not gone for _ in range(100))
        assert gone.is_gone


async def test_where_the_canary_is_ejected_the_others_have_its_share() -> None:
    async with canary() as pool:
        (next_,) = (one for one in pool.endpoints if is_canary(one))
        for _ in range(5):
            pool.judge(next_, 503, sent_in=True)
        assert next_ not in pool.candidates
        for _ in range(200):
            attempt = pool.pick(b"", (), repeatable=True)
            assert not is_canary(attempt.endpoint)
            attempt.ended(200)


async def test_a_retry_leaves_the_canary() -> None:
    async with canary() as pool:
        (next_,) = (one for one in pool.endpoints if is_canary(one))
        chosen = {pool.pick(b"", [next_], repeatable=True).endpoint for _ in range(200)}
        assert chosen == set(pool.endpoints) - {next_}


async def test_drained_means_that_nothing_new_comes_but_holders_of_a_cookie_do() -> None:
    main, old = Base("http", "10.0.0.1", 8000, weight=1), Base("http", "10.0.0.2", 8000, weight=0)
    pool = Pool(Upstream(name="users", bases=(main, old), balance=Balance("sticky"), sticky_key=b"k" * 32))
    pool.start()
    kept, drained = pool.endpoints
    assert pool.stickiness is not None
    assert {pool.pick(b"", (), repeatable=True).endpoint for _ in range(50)} == {kept}
    assert pool.pick(pool.stickiness.token(drained.url), (), repeatable=True).endpoint is drained
    assert pool.pick(b"", [kept], repeatable=True, also_ejected=True).endpoint is kept
    await pool.aclose()


async def test_others_stand_in_only_where_none_of_the_first_priority_is_left() -> None:
    source = Source("srv", "http", "main")
    pool = Pool(Upstream(name="users", sources=(source,)))
    pool.start()
    bases = [Base("http", f"10.0.0.{number}", 8000) for number in (1, 2, 3)]
    pool.members.set_instances(
        source, [Instance(base, (base.host,), 1.0, priority) for base, priority in zip(bases, (1, 1, 2), strict=True)]
    )
    one, other, spare = pool.endpoints
    assert list(pool.candidates) == [one, other]
    assert pool.pick(b"", [one, other], repeatable=True).endpoint is spare  # of a retry
    pool.members.set_instances(source, [Instance(bases[2], (bases[2].host,), 1.0, 2)])
    assert list(pool.candidates) == [spare]
    pool.members.set_instances(source, [])
    with pytest.raises(GatewayError) as failure:
        begin(pool)
    assert failure.value.reason is Reason.DNS_FAILED
    await pool.aclose()


async def test_a_registry_that_knows_nobody_is_503_and_a_first_answer_is_waited_for() -> None:
    source = Source("consul", "http", "school")
    pool = Pool(Upstream(name="users", sources=(source,)))
    pool.start()
    with pytest.raises(GatewayError) as failure:
        await pool.enter(0.01)
    assert failure.value.reason is Reason.DESTINATION_UNAVAILABLE
    waiting = asyncio.ensure_future(pool.enter(5))
    await asyncio.sleep(0)
    pool.members.failed(source, "away")  # it is away: nobody waits for it any longer
    await waiting
    with pytest.raises(GatewayError) as failure:
        begin(pool)
    assert failure.value.reason is Reason.DESTINATION_UNAVAILABLE
    pool.members.set_instances(source, [Instance(Base("http", "10.0.0.1", 8000))])
    assert begin(pool).endpoint.label == "10.0.0.1:8000"
    await pool.aclose()


async def test_an_instance_by_a_name_is_looked_up_and_forgotten_when_it_is_gone() -> None:
    source = Source("eureka", "http", "VETS")
    pool = Pool(Upstream(name="vets", sources=(source,)))
    with capture_logs() as log:
        pool.start()
        pool.members.set_instances(source, [Instance(Base("http", "localhost", 8001), weight=4)])
        await pool.enter(10)
        assert {one.base.port for one in pool.endpoints} == {8001}
        assert sum(one.weight for one in pool.endpoints) == 4  # of however many addresses it has
        pool.members.set_instances(source, [Instance(Base("http", "localhost", 8002))])
        async with asyncio.timeout(10):
            while not pool.endpoints:  # noqa: ASYNC110 - what is waited for is a state, not an event
                await asyncio.sleep(0.01)
        assert {one.base.port for one in pool.endpoints} == {8002}
        assert [(len(line["joined"]) > 0, len(line["gone"]) > 0) for line in log] == [(False, True), (True, False)]
        await pool.aclose()


async def test_those_that_stay_keep_their_state_and_get_new_weights() -> None:
    source = Source("consul", "http", "school")
    pool = Pool(Upstream(name="users", sources=(source,)))
    pool.start()
    first, second = (Base("http", f"10.0.0.{number}", 8000) for number in (1, 2))
    pool.members.set_instances(source, [Instance(first, weight=1), Instance(second, weight=1)])
    kept = pool.endpoints[0]
    kept.in_flight = 3
    pool.members.set_instances(source, [Instance(first, weight=5), Instance(second, weight=1)])
    assert pool.endpoints[0] is kept
    assert (kept.in_flight, kept.weight) == (3, 5)
    pool.members.set_instances(source, [Instance(second, weight=1)])
    assert (kept.is_gone, len(pool.endpoints)) == (True, 1)
    await pool.aclose()


# -- out ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (9, 4)])
async def test_however_many_fail_never_more_than_half_are_ejected(count: int, most: int) -> None:
    async with pool_of(count) as (pool, clock):
        names = [str(number) for number in range(1, count + 1)]
        asked = Counter(ask(pool, names) for _ in range(60 * count))
        assert sum(not one.is_in for one in pool.endpoints) == most == len(clock.events("upstream.ejected"))
        assert sorted(asked.values())[:most] == [5] * most
        assert all(number >= 60 for number in sorted(asked.values())[most:])


@pytest.mark.parametrize("failure", [Reason.CONNECTION_REFUSED, Reason.RESPONSE_INCOMPLETE, 502, 503, 504])
async def test_what_counts_against_an_endpoint_is_told_by_its_word(failure: Reason | int) -> None:
    async with pool_of(2) as (pool, clock):
        for _ in range(10):
            attempt = begin(pool)
            end(attempt, failure if attempt.endpoint is pool.endpoints[0] else 200)
        (line,) = clock.log
        assert line["failure"] == (failure.word if isinstance(failure, Reason) else failure)
        assert line["upstream"] == "users"


@pytest.mark.parametrize("harmless", [200, 404, 500, None, Reason.RESPONSE_HEADERS_TOO_LARGE, Reason.CLIENT_GONE])
async def test_what_does_not_count_ejects_nobody(harmless: Reason | int | None) -> None:
    async with pool_of(2) as (pool, clock):
        for _ in range(30):
            end(begin(pool), harmless)
        assert (clock.log, [one.in_flight for one in pool.endpoints]) == ([], [0, 0])


async def test_an_attempt_ends_once() -> None:
    async with pool_of(2) as (pool, clock):
        for _ in range(20):
            attempt = begin(pool)
            attempt.ended(200)
            for _ in range(5):
                attempt.ended(503)
                attempt.broke(Reason.CONNECTION_RESET)
                attempt.dropped()
        assert clock.log == []
        assert [one.in_flight for one in pool.endpoints] == [0, 0]


async def test_failures_of_what_was_sent_before_an_ejection_do_not_lengthen_it() -> None:
    async with pool_of(2) as (pool, clock):
        before = [begin(pool) for _ in range(30)]
        for attempt in before:
            end(attempt, 503 if attempt.endpoint is pool.endpoints[0] else 200)
        assert len(clock.pauses_s) == 1
        assert clock.pauses_s[0] <= 5.0


async def test_a_good_answer_to_what_was_sent_before_an_ejection_does_not_end_it() -> None:
    async with pool_of(2) as (pool, clock):
        before = begin(pool), begin(pool)
        eject(pool, "1")
        for attempt in before:
            attempt.ended(200)
        assert clock.events("upstream.returned") == []
        assert {ask(pool) for _ in range(5)} == {"2"}


# -- on trial and back --------------------------------------------------------------------------------------------


async def test_after_the_pause_one_request_at_a_time_is_the_trial() -> None:
    async with pool_of(2) as (pool, clock):
        eject(pool, "1")
        clock.now_s += 3.9
        assert {ask(pool) for _ in range(5)} == {"2"}
        clock.now_s += 1.2
        trial = begin(pool)
        assert trial.endpoint is pool.endpoints[0]
        assert {ask(pool) for _ in range(5)} == {"2"}, "the others wait for its verdict"
        trial.ended(200)
        assert clock.events("upstream.returned") == ["10.0.0.1:8000"]
        assert {ask(pool) for _ in range(5)} == {"1", "2"}


async def test_a_trial_that_fails_doubles_the_pause() -> None:
    async with pool_of(2) as (pool, clock):
        eject(pool, "1")
        for _ in range(5):
            clock.now_s = pool.endpoints[0].health.until_s
            assert ask(pool, ["1"]) == "1"
            assert ask(pool, ["1"]) == "2"
        for pause_s, most_s in zip(clock.pauses_s, [5, 10, 20, 40, 60, 60], strict=True):
            assert most_s * 0.79 <= pause_s <= most_s
        assert clock.events("upstream.returned") == []


async def test_a_trial_whose_client_left_is_followed_by_another() -> None:
    async with pool_of(2) as (pool, clock):
        eject(pool, "1")
        clock.now_s += 5.0
        for _ in range(3):
            trial = begin(pool)
            assert trial.endpoint is pool.endpoints[0]
            trial.dropped()
        assert ask(pool) == "1"
        assert clock.events("upstream.returned") == ["10.0.0.1:8000"]
        assert len(clock.pauses_s) == 1


async def test_a_request_that_cannot_be_repeated_is_the_trial_only_where_no_other_came() -> None:
    async with pool_of(2) as (pool, clock):
        eject(pool, "1")
        clock.now_s += 5.0
        assert {ask(pool, repeatable=False) for _ in range(10)} == {"2"}
        assert ask(pool) == "1"
        eject(pool, "1")
        clock.now_s = pool.endpoints[0].health.until_s + 10.0
        assert ask(pool, repeatable=False) == "1"


async def test_a_retry_is_no_trial() -> None:
    """It has failed once already: it goes to one that is known to be well."""
    async with pool_of(3) as (pool, clock):
        eject(pool, "1")
        clock.now_s += 5.0
        for _ in range(5):
            attempt = begin(pool, [pool.endpoints[1]])
            assert attempt.endpoint is pool.endpoints[2]
            attempt.dropped()


async def test_endpoints_fall_ill_and_get_well_for_ever() -> None:
    async with pool_of(4) as (pool, clock):
        for _ in range(20):
            eject(pool, "1", "3")
            clock.now_s += 61.0
            assert {ask(pool) for _ in range(10)} == {"1", "2", "3", "4"}
            clock.now_s += 61.0
        assert max(clock.pauses_s) <= 5.0, "each time they had been well for longer than they had been out"


# -- who is next --------------------------------------------------------------------------------------------------


async def test_a_retry_goes_where_the_request_was_not_yet_and_then_where_it_was_first() -> None:
    async with pool_of(3) as (pool, _):
        tried: list[Endpoint] = []
        for _ in range(5):
            attempt = begin(pool, tried)
            tried.append(attempt.endpoint)
            attempt.ended(200)
        assert len(set(tried[:3])) == 3
        assert tried[3] is tried[4] is tried[0]


async def test_a_hash_moves_only_the_keys_of_the_one_that_is_out_and_they_come_home() -> None:
    keys = [b"user-%d" % number for number in range(200)]

    async with pool_of(4, balance=Balance("hash", "header", "x-user")) as (pool, clock):

        def homes() -> dict[bytes, str]:
            found = {}
            for key in keys:
                attempt = pool.pick(key, (), repeatable=False)
                found[key] = attempt.endpoint.label
                attempt.ended(200)
            return found

        before = homes()
        out = before[keys[0]]
        for _ in range(5):
            pool.pick(keys[0], (), repeatable=False).ended(503)
        assert clock.events("upstream.ejected") == [out]
        without = homes()
        assert {key for key in keys if without[key] != before[key]} == {key for key in keys if before[key] == out}
        clock.now_s += 5.0
        begin(pool).ended(200)
        assert homes() == before


# -- whatever happens ---------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["asks", "asks", "asks", "asks", "ends well", "fails", "fails", "fails", "leaves", "time"]),
        st.integers(0, 30),
    ),
    max_size=150,
)


ENDS: dict[str, Reason | int | None] = {"ends well": 200, "fails": Reason.CONNECTION_RESET, "leaves": None}


@given(st.integers(1, 5), STEPS)
def test_whatever_happens_half_are_in_and_nothing_is_lost_count_of(count: int, steps: list[tuple[str, int]]) -> None:
    async def scenario() -> None:
        async with pool_of(count) as (pool, clock):
            open_now: list[Attempt] = []
            for what, value in steps:
                if what == "asks":
                    attempt = begin(pool, repeatable=value % 2 == 0)
                    trial = attempt.endpoint.health.state is EndpointState.HALF_OPEN
                    assert attempt.endpoint.is_in or trial
                    open_now.append(attempt)
                elif what == "time":
                    clock.now_s += value
                elif open_now:
                    attempt = open_now.pop(value % len(open_now))
                    end(attempt, ENDS[what])
                states = [one.health.state for one in pool.endpoints]
                assert 2 * sum(state is not EndpointState.HEALTHY for state in states) <= count
                for one in pool.endpoints:
                    mine = [attempt for attempt in open_now if attempt.endpoint is one]
                    assert one.in_flight == len(mine)
                    if one.health.state is EndpointState.HALF_OPEN:
                        assert sum(not attempt.sent_in for attempt in mine) == 1, "one trial, and it is under way"
            for attempt in open_now:
                attempt.dropped()
            assert all(one.in_flight == 0 for one in pool.endpoints)
            clock.now_s += 200.0
            for _ in range(2 * count):
                begin(pool).ended(200)
            assert all(one.is_in for one in pool.endpoints), "whoever is well in the end is back"

    asyncio.run(scenario())


# -- with real requests -------------------------------------------------------------------------------------------


class Behind:
    """The application before two actors, and the pool's clock: the loop's, and what was added to it."""

    def __init__(self, application: GatewayHandler, actors: Sequence[Actor]) -> None:
        self.application = application
        self.actors = actors
        self.pool = application.worker.pools["b"]
        self._added_s = 0.0
        now = asyncio.get_running_loop().time
        self.pool.now = lambda: now() + self._added_s

    def pass_time(self, seconds: float) -> None:
        self._added_s += seconds

    async def ask(self, target: str, method: str = "GET", body: bytes = b"") -> Answered:
        return await call(self.application, target, method, body)

    def begin(self, target: str) -> tuple["asyncio.Task[None]", Answered]:
        """A request whose client listens for as long as it takes."""
        answered = Answered()
        messages: asyncio.Queue[Any] = asyncio.Queue()
        return asyncio.create_task(self.application(scope_of("GET", target), messages.get, answered.take)), answered

    async def eject(self, act: Act) -> None:
        """Until the first one is out; then it gets well."""
        self.actors[0].act = act
        for _ in range(12):
            await self.ask("/b/x")
        assert [one.is_in for one in self.pool.endpoints] == [False, True]
        self.actors[0].act = says(OK)
        for actor in self.actors:
            actor.forget()


@pytest.fixture
async def behind() -> AsyncIterator[Behind]:
    with Actor("a") as one, Actor("b") as other:
        environment = {
            "GATEWAY_UPSTREAM_B": f"{one.url},{other.url}",
            "GATEWAY_UPSTREAM_B__BALANCE": "round_robin",
            "GATEWAY_UPSTREAM_B__RETRIES": "0",
            "GATEWAY_UPSTREAM_B__TIMEOUT": "5s",
        }
        loaded = loader.load(environment, lambda name: "")
        application = GatewayHandler(loaded, Routes([route("/b/**", proxy("b"))], loaded.declared), hooks=[])
        async with lifespan(application):
            yield Behind(application, [one, other])


async def test_a_get_tries_an_ejected_endpoint_before_a_post_does(behind: Behind) -> None:
    await behind.eject(status(503))
    behind.pass_time(5.0)
    for _ in range(4):
        assert (await behind.ask("/b/x", "POST", b"body")).status == 200
    assert behind.actors[0].asked == []
    assert (await behind.ask("/b/x")).body == b"hello"
    assert [one.is_in for one in behind.pool.endpoints] == [True, True]


async def test_a_trial_that_streams_has_passed_as_soon_as_it_has_begun(behind: Behind) -> None:
    """Its stream may go on for hours."""
    await behind.eject(status(503))
    behind.pass_time(5.0)
    behind.actors[0].act = says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    task, answered = behind.begin("/b/stream")
    await asyncio.to_thread(eventually, lambda: answered.body == b"ab")
    assert [one.is_in for one in behind.pool.endpoints] == [True, True]
    assert [one.in_flight for one in behind.pool.endpoints] == [1, 0]
    behind.actors[0].asked[0].send(b"0\r\n\r\n")
    await task
    assert [one.in_flight for one in behind.pool.endpoints] == [0, 0]


async def test_a_trial_that_streams_and_breaks_off_is_one_failure_of_an_endpoint_that_is_in(behind: Behind) -> None:
    await behind.eject(status(503))
    behind.pass_time(5.0)
    behind.actors[0].act = breaks_off(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"x" * 70_000)
    await behind.ask("/b/x")
    assert [(one.is_in, one.health.failures) for one in behind.pool.endpoints] == [(True, 1), (True, 0)]


async def test_a_trial_that_fails_is_out_for_longer(behind: Behind) -> None:
    await behind.eject(status(503))
    behind.pass_time(5.0)
    behind.actors[0].act = hangs_up
    first_until_s = behind.pool.endpoints[0].health.until_s
    assert (await behind.ask("/b/x")).status == 502
    assert (await behind.ask("/b/x")).status == 200
    health = behind.pool.endpoints[0].health
    assert (health.state, health.pause_s) == (EndpointState.EJECTED, 10.0)
    assert health.until_s > first_until_s + 8.0


@pytest.mark.parametrize(("oldest_s", "made"), [(60.0, 1), (0.0, 3)])
async def test_connections_are_recycled_by_age(
    behind: Behind, monkeypatch: pytest.MonkeyPatch, oldest_s: float, made: int
) -> None:
    """Behind one address there may be many, which take turns at new connections."""
    monkeypatch.setattr("gateway.upstreams.client._OLDEST_S", oldest_s)
    for _ in range(6):
        await behind.ask("/b/x")
    assert [actor.connections_made for actor in behind.actors] == [made, made]


@pytest.mark.parametrize(("idle_s", "made"), [(3.0, 1), (4.0, 2)])
async def test_a_connection_that_was_idle_for_too_long_is_not_used_though_nobody_swept_it_up_yet(
    behind: Behind, idle_s: float, made: int
) -> None:
    """`__KEEPALIVE` is 4 s."""
    for _ in range(2):
        await behind.ask("/b/x")
    for endpoint in behind.pool.endpoints:
        for connection in endpoint.idle:
            connection.idle_since -= idle_s
    for _ in range(2):
        await behind.ask("/b/x")
    assert [actor.connections_made for actor in behind.actors] == [made, made]


async def test_an_upstream_without_any_address_has_nobody_to_pick() -> None:
    async with pool_of(0) as (pool, _):
        with pytest.raises(GatewayError) as caught:
            begin(pool)
        assert caught.value.reason is Reason.DNS_FAILED


async def test_a_repr_tells_every_endpoint_in_a_line() -> None:
    async with pool_of(2) as (pool, _):
        held = begin(pool)
        one, other = "<Endpoint http://10.0.0.1:8000 in_flight=0 up>", "<Endpoint http://10.0.0.2:8000 in_flight=1 up>"
        assert repr(pool) == f"<Pool users [{one}, {other}]>"
        held.dropped()
