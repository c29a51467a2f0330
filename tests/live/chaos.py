"""A steady load that tells the truth: what a client saw of every request, whatever happened behind the gateway.

    with Load(gateway.port, "/users/1", rate=150) as load:
        load.go_on(0.4)
        with a.suffering("resets"):
            load.go_on(0.8)
        load.go_on(0.4)
    assert not load.failed("GET")

Requests are due at a fixed pace and are sent when they are due, over `connections` kept-alive connections, and over
more when all of those wait for an answer: a gateway that hangs does not slow the load, and each latency counts from the
moment the request was due. Without a rate each connection asks again as soon as it was answered.

Each request has an id of its own, as X-Request-ID and `x-test-id`: it stands in the gateway's log line, in the record
of the server that acted on it, and in the answer, which is right only if it is there again.
"""

import asyncio
import contextlib
import itertools
import json
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import uvloop

from .harness import PATIENCE_S, Answer, Body, request_bytes

ANSWER_WITHIN_S = 6.0  # what a client waits for: longer than two tries of 2 s
KEYED = "POST+key"  # with an Idempotency-Key
MIX = ("GET", "GET", "POST", "GET", KEYED, "GET", "PUT")
BODY = b'{"some": "body"}'


class BrokenOffError(Exception):
    """The connection ended before the answer did, or what came is no HTTP; the message says how far it came."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the client saw of one request."""

    id: str
    kind: str  # a method, or KEYED
    due: float  # on the clock of time.monotonic
    took_s: float
    status: int  # 0: no whole answer
    error: str  # empty: 200, whole, and the answer to this request; else status, broken, timeout, wrong or refused
    detail: str
    server: str  # who answered, if it was one of ours

    @property
    def ended(self) -> float:
        return self.due + self.took_s

    @property
    def is_success(self) -> bool:
        """The client takes it for done."""
        return 200 <= self.status < 300


class Line(asyncio.Protocol):
    """A client's connection: one request, one answer, and again."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: Answer | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    async def ask(self, raw: bytes) -> Answer:
        """The whole answer; raises BrokenOffError."""
        self._waiter = asyncio.get_running_loop().create_future()
        if self.is_open:
            self._transport.write(raw)
        else:
            self._end()
        return await self._waiter

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            self._advance()
        except (ValueError, IndexError, AssertionError) as garbage:
            self._fail(f"no HTTP: {garbage}")
            self.close()

    def _advance(self) -> None:
        if self._answer is None:
            end = self._buffer.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            answer = self._answer = Answer(bytes(self._buffer[:end]), ())
            del self._buffer[:end]
            lengths = answer.all("content-length")
            chunked = answer.has("transfer-encoding")
            answer.framing = Body(int(lengths[0]) if lengths and not chunked else None, chunked=chunked)
        self._answer.framing.take(self._buffer)
        if self._answer.framing.is_whole:
            self._finish(self._answer)

    def _finish(self, answer: Answer) -> None:
        self._answer = None
        if "close" in answer.all("connection"):
            self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._end()

    def eof_received(self) -> None:
        self.is_open = False

    def _end(self) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            self._fail("no whole head")
        elif answer.has("content-length") or answer.framing.chunked:
            self._fail(f"{answer.status}, {len(answer.body)} bytes of its body")
        else:
            self._finish(answer)  # a body that ends with its connection

    def _fail(self, how_far: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(BrokenOffError(how_far))

    def close(self) -> None:
        self.is_open = False
        self._transport.close()


class Load:
    """See above. `outcomes` are complete once the `with` has ended."""

    def __init__(
        self,
        port: int,
        target: str,
        *,
        kinds: Sequence[str] = MIX,
        rate: float = 150,
        connections: int = 16,
        prefix: str = "t",
        host: str = "127.0.0.1",
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._host, self._port, self._target = host, port, target
        self._rate, self._connections = rate, connections
        self._kinds = itertools.cycle(kinds)
        self._ids = (f"{prefix}-{number}" for number in itertools.count(1))
        self._idle: deque[Line] = deque()
        self._answered = threading.Condition()
        self._stopping = threading.Event()
        self._crash: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    # -- while it runs ----------------------------------------------------------------------------------------------

    def go_on(self, seconds: float) -> None:
        """Let this much more of the load be sent."""
        self._stopping.wait(seconds)
        assert self._crash is None, self._crash

    def go_on_for(self, count: int, within_s: float = 30.0) -> None:
        """Let so many more requests be answered."""
        with self._answered:
            target = len(self.outcomes) + count
            assert self._answered.wait_for(lambda: len(self.outcomes) >= target or self._crash, within_s), (
                f"{len(self.outcomes)} of {target} answered within {within_s} s"
            )
        assert self._crash is None, self._crash

    @staticmethod
    def now() -> float:
        """On the clock of `due`."""
        return time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """No more requests; those under way are heard to their end."""
        self._stopping.set()
        self._thread.join(ANSWER_WITHIN_S + PATIENCE_S)
        if error is None:
            assert self._crash is None, self._crash
            assert not self._thread.is_alive(), "the load did not end"

    # -- afterwards ---------------------------------------------------------------------------------------------------

    def of(self, *kinds: str, between: tuple[float, float] | None = None) -> list[Outcome]:
        """The outcomes of these kinds (or of all), of requests that were due in that time."""
        since, until = between or (float("-inf"), float("inf"))
        return [one for one in self.outcomes if (not kinds or one.kind in kinds) and since <= one.due < until]

    def failed(self, *kinds: str) -> list[Outcome]:
        return [one for one in self.of(*kinds) if one.error]

    # -- the load -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            uvloop.run(self._paced() if self._rate else self._unpaced())
        except BaseException as crash:  # noqa: BLE001 - told by the thread that waits for us
            self._crash = crash

    async def _paced(self) -> None:
        under_way: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not self._stopping.is_set():
            task = asyncio.create_task(self._one(due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due += 1 / self._rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*under_way)
        self._hang_up()

    async def _unpaced(self) -> None:
        async def ask_on() -> None:
            while not self._stopping.is_set():
                await self._one(time.monotonic())

        await asyncio.gather(*(ask_on() for _ in range(self._connections)))
        self._hang_up()

    def _hang_up(self) -> None:
        for line in self._idle:
            line.close()

    async def _one(self, due: float) -> None:
        kind, name = next(self._kinds), next(self._ids)
        answer: Answer | None = None
        line: Line | None = None
        error = detail = ""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                line = await self._line()
                answer = await line.ask(self._request(kind, name))
        except TimeoutError:
            error = "timeout"
        except BrokenOffError as broken:
            error, detail = "broken", str(broken)
        except OSError as refused:
            error, detail = "refused", str(refused)
        took_s = time.monotonic() - due
        if line is not None and (error or not line.is_open or len(self._idle) >= self._connections):
            line.close()
        elif line is not None:
            self._idle.append(line)
        server = ""
        if answer is not None:
            error, detail, server = judged(answer, name)
        status = answer.status if answer is not None else 0
        with self._answered:
            self.outcomes.append(Outcome(name, kind, due, took_s, status, error, detail, server))
            self._answered.notify_all()

    async def _line(self) -> Line:
        while self._idle:
            line = self._idle.popleft()
            if line.is_open:
                return line
        _, made = await asyncio.get_running_loop().create_connection(Line, self._host, self._port)
        return made

    def _request(self, kind: str, name: str) -> bytes:
        method, _, keyed = kind.partition("+")
        fields = [f"X-Request-ID: {name}", f"X-Test-ID: {name}"]
        if keyed:
            fields.append(f"Idempotency-Key: {name}")
        if method not in {"POST", "PUT"}:
            return request_bytes(method, self._target, *fields)
        return request_bytes(method, self._target, *fields, f"Content-Length: {len(BODY)}", body=BODY)


def judged(answer: Answer, name: str) -> tuple[str, str, str]:
    """The error, its detail, and who answered."""
    told: object = None
    with contextlib.suppress(ValueError):
        told = json.loads(answer.body)
    fields = told if isinstance(told, dict) else {}
    server = str(fields.get("name", ""))
    if answer.status != 200:
        why = fields.get("reason") or server or repr(answer.body[:80])
        return "status", f"{answer.status} {why}", server
    if fields.get("id") != name:
        return "wrong", repr(answer.body[:200]), server
    return "", "", server


# -- figures --------------------------------------------------------------------------------------------------------


def percentile_ms(outcomes: Iterable[Outcome], percent: int) -> float:
    """Of the times to answer, errors included."""
    took_ms = [one.took_s * 1000 for one in outcomes]
    if len(took_ms) < 2:
        return took_ms[0] if took_ms else 0.0
    return statistics.quantiles(took_ms, n=100, method="inclusive")[percent - 1]


def told(outcomes: Sequence[Outcome], most: int = 8) -> str:
    """How many of what, and the first ones, for the message of an assertion."""
    counts = Counter(f"{one.kind} {one.error} {one.detail}"[:100] for one in outcomes)
    return "\n".join([f"{len(outcomes)}: {dict(counts)}", *map(repr, outcomes[:most])])
