"""Sends a case raw, then two innocent requests, and judges what came of it.

The way of one case: its bytes on a fresh connection; as many answers as it holds requests, waited for with a bound; a
canary on the same connection if that is still open, one on a new connection; then what arrived upstream is read. One
lane goes through its cases one after the other, so that all that arrives meanwhile is the doing of this case.
"""

import contextlib
import itertools
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from tests.live.harness import eventually

from .corpus import INVALID, NOT_END_TO_END, REPAIRED, VALID, Case, Meaning, meaning_of, without_default_port
from .strict import Field
from .upstream import Arrival, StrictUpstream

PATIENCE_S = 8.0  # for what must be answered
LIKELY_S = 1.5  # for what may well be answered
WAIT_S = 0.3  # for what may be refused by silence
LATE_S = 0.15  # for what a gateway that has closed already, and cannot be asked, may still send up
_CANARY = b"/canary/"
_REASON = re.compile(rb'"reason":"([a-z_]+)"')
_numbers = itertools.count(1)


class Verdict(Enum):
    REFUSED = "refused"
    CLEAN = "forwarded clean"
    REPAIRED = "repaired"  # invalid, and forwarded with the one meaning that is documented
    # failures
    DIRTY = "dirty bytes went up"
    SPLIT = "more requests arrived than were sent"
    MIXED_UP = "a canary got another's answer or none"
    ACCEPTED = "something invalid was accepted"
    CHANGED = "another meaning went up"
    KEPT = "the connection stayed open behind framing after which it must close"
    UNSERVED = "something valid was refused"
    DIED = "the worker died"

    @property
    def is_failure(self) -> bool:
        return self not in {Verdict.REFUSED, Verdict.CLEAN, Verdict.REPAIRED}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int  # 0: bytes that begin no answer, as HTTP/0.9 has them
    serial: int | None = None  # of the request that the upstream answered with it
    reason: str = ""  # of a problem of ours


@dataclass(slots=True)
class Outcome:
    case: Case
    verdict: Verdict
    answers: list[Answer] = field(default_factory=list)
    why: str = ""
    arrivals: list[Arrival] = field(default_factory=list)

    def __str__(self) -> str:
        statuses = ", ".join(f"{answer.status} {answer.reason}".strip() for answer in self.answers) or "none"
        up = f"; up went {self.arrivals}" if self.arrivals else ""
        said = f"{self.case.name}: {self.verdict.value}: {self.why} (answers: {statuses}){up}"
        return f"{said}; sent {_shown(self.case.raw)}"


def _shown(raw: bytes) -> str:
    return repr(raw if len(raw) < 400 else raw[:200] + b"..." + raw[-100:])


class Wire:
    """A client's connection that reads answers, with bounds, and is surprised by nothing."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(address, PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""
        self.is_open = True

    def send(self, data: bytes) -> None:
        self.socket.settimeout(PATIENCE_S)
        try:
            self.socket.sendall(data)
        except OSError:  # refused before it had all of it: the answer may still be there
            self.is_open = False

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            # Not SSLSocket's own, which forgets its keys: what comes back then is not read.
            socket.socket.shutdown(self.socket, socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def answer(self, within_s: float, method: bytes = b"GET") -> Answer | None:
        """The next final answer, or None at the end or when the time is over."""
        give_up = time.monotonic() + within_s
        while True:
            if self.buffer and not b"HTTP/1.".startswith(self.buffer[:7]) and not self.buffer.startswith(b"HTTP/1."):
                self._read_to_end(give_up)
                return Answer(0)
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if end:
                status = int(head[9:12])
                if status >= 200 or status == 101:
                    break
                self.buffer = rest
            elif not self._receive(give_up):
                return None
        fields = [line.partition(b":") for line in head.lower().split(b"\r\n")[1:]]
        values = {name: value.strip() for name, _, value in fields}
        self.buffer, body = rest, b""
        if method == b"HEAD" or status in {204, 304}:
            pass
        elif b"chunked" in values.get(b"transfer-encoding", b""):
            while b"0\r\n\r\n" not in self.buffer and self._receive(give_up):
                pass
            self.buffer = self.buffer.partition(b"0\r\n\r\n")[2]
        elif b"content-length" in values:
            length = int(values[b"content-length"])
            while len(self.buffer) < length and self._receive(give_up):
                pass
            body, self.buffer = self.buffer[:length], self.buffer[length:]
        else:
            self._read_to_end(give_up)
        if b"close" in values.get(b"connection", b"") or (
            head.startswith(b"HTTP/1.0") and b"keep-alive" not in values.get(b"connection", b"")
        ):
            self.is_open = False
        serial = values.get(b"x-serial")
        reason = _REASON.search(body)
        return Answer(status, int(serial) if serial is not None else None, reason[1].decode() if reason else "")

    def has_ended(self) -> bool:
        """Whether the other side has closed, as far as is known by now."""
        if not self.is_open:
            return True
        self._receive(time.monotonic())
        return not self.is_open

    def _read_to_end(self, give_up: float) -> None:
        while self._receive(give_up):
            pass
        self.buffer = b""

    def _receive(self, give_up: float) -> bool:
        try:
            self.socket.settimeout(max(0.001, give_up - time.monotonic()))
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        if not data:
            self.is_open = False
        self.buffer += data
        return bool(data)


@dataclass(frozen=True, slots=True)
class Lane:
    """One running target and the upstream behind it."""

    name: str
    address: tuple[str, int]
    upstream: StrictUpstream
    is_alive: Callable[[], bool] = lambda: True
    keeps_host: bool = False  # the client's Host goes up
    tells_host: bool = False  # ... as X-Forwarded-Host, in place of the client's own
    tls: ssl.SSLContext | None = None  # what clients speak TLS with
    is_idle: Callable[[], bool] | None = None  # whether nothing is on its way through it, where it can be asked

    def try_case(self, case: Case) -> Outcome:
        mark = self.upstream.mark()
        answers, same = self._send(case)
        fresh = self._fresh_canary()
        if case.has_head and not answers:
            # Its connection was closed at once, perhaps before its head went up, which then comes behind the canary.
            if self.is_idle is None:
                self.upstream.wait_for_other(mark, _CANARY, LATE_S)
            else:
                eventually(self.is_idle)
        return judge(case, Seen(answers, same, fresh, self.upstream.since(mark), self))

    def _send(self, case: Case) -> tuple[list[Answer], "Canary | None"]:
        try:
            wire = Wire(self.address, self.tls)
        except OSError:
            return [], None
        try:
            wire.send(case.raw)
            method = case.raw.lstrip(b"\r\n").partition(b" ")[0]
            patience_s = (
                PATIENCE_S if case.expect is VALID else LIKELY_S if case.meanings and not case.is_cut else WAIT_S
            )
            answers: list[Answer] = []
            for number in range(case.requests):
                answer = wire.answer(patience_s, method if number == 0 else b"GET")
                if answer is None:
                    break
                answers.append(answer)
            if not answers:
                # It waits for more: then this is the end, which must not make a whole request of a cut one.
                wire.half_close()
                if (answer := wire.answer(WAIT_S, method)) is not None:
                    answers.append(answer)
                return answers, None
            if wire.has_ended() or len(answers) < case.requests:
                return answers, None  # closed, or still reading: what came now would be the rest of it
            canary = Canary()
            wire.send(canary.raw)
            canary.read(wire, PATIENCE_S if case.expect is VALID else WAIT_S)
            return answers, canary
        finally:
            wire.close()

    def _fresh_canary(self) -> "Canary":
        canary = Canary()
        for _ in range(2 if self.is_alive() else 1):
            try:
                wire = Wire(self.address, self.tls)
            except OSError:
                continue
            wire.send(canary.raw)
            canary.read(wire, PATIENCE_S)
            wire.close()
            break
        return canary


class Canary:
    """An innocent request with a token of its own."""

    def __init__(self) -> None:
        self.target = b"%b%d" % (_CANARY, next(_numbers))
        self.raw = b"GET %b HTTP/1.1\r\nHost: canary.example\r\n\r\n" % self.target
        self.answer: Answer | None = None
        self.has_ended = False

    def read(self, wire: Wire, within_s: float) -> None:
        self.answer = wire.answer(within_s)
        self.has_ended = not wire.is_open


@dataclass(slots=True)
class Seen:
    """All that was seen of one case."""

    answers: list[Answer]
    same: Canary | None  # on the case's own connection
    fresh: Canary
    arrivals: list[Arrival]
    lane: Lane


def judge(case: Case, seen: Seen) -> Outcome:
    """The verdict. The first failure that is found names it, the gravest first."""
    others = [one for one in seen.arrivals if not one.request.target.startswith(_CANARY)]
    outcome = Outcome(case, Verdict.REFUSED, seen.answers, arrivals=others)

    def failed(verdict: Verdict, why: str) -> Outcome:
        return replace(outcome, verdict=verdict, why=why)

    dirty = [one for one in seen.arrivals if not one.is_clean]
    if dirty:
        return replace(failed(Verdict.DIRTY, f"{dirty[0]}"), arrivals=dirty)
    if (why := _mixed_up(case, seen)) is not None:
        return failed(Verdict.MIXED_UP, why)
    if len(others) > case.requests:
        return failed(Verdict.SPLIT, f"{len(others)} arrived")
    whole = [one for one in others if one.request.is_whole]
    if whole and not case.meanings:
        return failed(Verdict.ACCEPTED, f"{whole[0]}")
    if case.expect is INVALID and any(200 <= answer.status <= 299 for answer in seen.answers):
        return failed(Verdict.ACCEPTED, "it was answered by the target itself")
    difference = _differs(whole, case.meanings, seen.lane)
    if difference:
        return failed(Verdict.CHANGED, difference)
    if (case.must_close or case.is_cut) and seen.same and seen.same.answer and seen.same.answer.serial is not None:
        # Behind a cut request the canary is the rest of its body.
        return failed(Verdict.SPLIT if case.is_cut else Verdict.KEPT, f"the same connection got {seen.same.answer}")
    if case.expect is VALID and len(whole) < len(case.meanings):
        return failed(Verdict.UNSERVED, f"{len(whole)} of {len(case.meanings)} arrived")
    if case.expect is VALID and [answer.status for answer in seen.answers] != [200] * len(case.meanings):
        return failed(Verdict.UNSERVED, "not answered with 200")
    forwarded = Verdict.REPAIRED if case.expect is REPAIRED else Verdict.CLEAN
    return replace(outcome, verdict=forwarded if whole else Verdict.REFUSED)


def _mixed_up(case: Case, seen: Seen) -> str | None:
    by_serial = {one.serial: one.request.target for one in seen.arrivals}
    fresh, same = seen.fresh, seen.same
    if fresh.answer is None or by_serial.get(fresh.answer.serial or 0) != fresh.target:
        return f"a new connection got {fresh.answer}"
    serials = [one.serial for one in seen.arrivals if not one.request.target.startswith(_CANARY)]
    answered = [answer.serial for answer in seen.answers if answer.serial is not None]
    if answered != serials[: len(answered)]:
        return f"its own answers were {answered} and not {serials}"
    if same is None:
        return None
    if same.answer is None:
        # Behind what was refused, or what holds more than one request, its bytes may belong to something else.
        return "the same connection got none and stayed open" if case.expect is VALID and not same.has_ended else None
    if same.answer.serial is not None and by_serial.get(same.answer.serial) != same.target:
        return f"the same connection got {same.answer}"
    return None


def _differs(whole: Sequence[Arrival], meanings: Sequence[Meaning], lane: Lane) -> str:
    """How what arrived is not those meanings in their order; some may be left out."""
    left = iter(meanings)
    for arrival in whole:
        difference = ""
        for meaning in left:
            found = _difference(arrival, meaning, lane)
            if not found:
                break
            difference = difference or found
        else:
            return difference or f"{arrival} once too often"
    return ""


# What a proxy adds. A name that neither the client sent nor a proxy adds was made from something else.
_ADDED = NOT_END_TO_END | frozenset(
    (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix")
)


def _difference(arrival: Arrival, meaning: Meaning, lane: Lane) -> str:
    """In which respect the request that arrived is another one; nothing if it is the same."""
    request = arrival.request
    got = meaning_of(request)
    target = got.target if got.target == meaning.or_target else meaning.target
    body = got.body if got.method == b"CONNECT" else meaning.body  # a CONNECT has none, whatever follows it
    if (got.method, got.target, got.body) != (meaning.method, target, body):
        return f"{got!r} for {meaning!r}"
    if lane.keeps_host and meaning.host and got.host != meaning.host:
        return f"Host {got.host!r} for {meaning.host!r}"
    told = request.values(b"x-forwarded-host")
    if (
        lane.tells_host
        and told
        and meaning.host
        and [without_default_port(value.lower()) for value in told] != [meaning.host]
    ):
        return f"X-Forwarded-Host {told!r} for {meaning.host!r}"
    sent, came = _by_name(meaning.fields), _by_name(got.fields)
    for name, values in came.items():
        if name not in sent and name not in _ADDED:
            return f"a field {name!r} that nobody sent"
        if name in sent and values != sent[name]:
            return f"{name!r}: {values!r} for {sent[name]!r}"
    missing = [name for name in sent if name not in came and b"_" not in name]
    return f"{missing!r} did not arrive" if missing else ""


def _by_name(fields: Sequence[Field]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        found.setdefault(name, []).append(value)
    return found


def run(lane: Lane, cases: Sequence[Case]) -> list[Outcome]:
    """All cases, one after the other; a target that has died is said once, and ends it."""
    outcomes = []
    for case in cases:
        outcome = lane.try_case(case)
        if not lane.is_alive():
            outcomes.append(replace(outcome, verdict=Verdict.DIED, why="it ended"))
            break
        outcomes.append(outcome)
    return outcomes


def counts(outcomes: Sequence[Outcome]) -> Counter[Verdict]:
    return Counter(outcome.verdict for outcome in outcomes)
