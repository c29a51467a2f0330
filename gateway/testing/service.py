"""A service of a test: its answers by key, and the calls that it received."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from gateway.errors import Reason
from gateway.options import nearest
from gateway.testing.headers import Headers
from gateway.testing.reply import BEFORE_THE_REQUEST, Key, Reply, SocketReply, key_of, reply_of
from gateway.testing.wire import Pair, Request

Answer = Reply | SocketReply | Reason


class UnexpectedCall(AssertionError):
    """A service got a call without an answer in the test."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call that a service received, as it came over the wire. `endpoint` is the address that it went to."""

    method: str
    path: str  # raw, with the path of the base URL before it
    query: str  # raw, without the question mark
    pairs: tuple[Pair, ...] = field(repr=False)
    body: bytes = field(repr=False)
    endpoint: str

    @property
    def headers(self) -> Headers:
        return Headers(self.pairs)

    @property
    def params(self) -> dict[str, str]:
        """The parameters of its query; of several with one name, the last."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def json(self) -> Any:
        """The JSON of its body."""
        return msgspec.json.decode(self.body)


class _Values:
    """The values of a key: one for every call, or a list with one for each."""

    def __init__(self, value: object, place: str) -> None:
        self.is_list = isinstance(value, list)
        self._place = place
        values: list[Any] = value if isinstance(value, list) else [value]
        if self.is_list and not values:
            raise ValueError(f"{place}: an empty list has no answer; a list as JSON is Reply(json=[])")
        self._values = [one if callable(one) and not _is_answer(one) else reply_of(one, place) for one in values]
        self.taken = 0

    def next(self) -> Answer | Callable[[Call], Any] | None:
        """The next value; None if a list is used up."""
        number = self.taken if self.is_list else 0
        self.taken += 1
        return self._values[number] if number < len(self._values) else None

    @property
    def only_failure(self) -> Reason | None:
        """The failure, if it is the only value."""
        return self._values[0] if not self.is_list and isinstance(self._values[0], Reason) else None

    def __len__(self) -> int:
        return len(self._values)


def _is_answer(value: object) -> bool:
    return isinstance(value, (Reply, SocketReply, Reason, type))


class Service:
    """One upstream of the gateway in a test.

    `service[key] = value`: the key is `"GET /path"`, `"/path"`, `"/path?query"` or `"*"`, and the closest one answers.
    The value is JSON, a `Reply`, a failure by its word (`Reason.CONNECTION_REFUSED`), a list of those, one after the
    other, or a function of the `Call`, async or not. `calls` are the received calls, in their order.
    """

    def __init__(self, name: str, report: Callable[[BaseException], None]) -> None:
        self.name = name
        self.calls: list[Call] = []
        self._answers: dict[Key, _Values] = {}
        self._texts: dict[Key, str] = {}
        self.report = report  # takes faults of the test
        self.health: str | None = None  # the path of the health check

    def __setitem__(self, key: str, value: object) -> None:
        found = key_of(key, self.name)
        self._answers[found] = _Values(value, f"gateway.{self.name}[{key!r}]")
        self._texts[found] = key

    def clear(self) -> None:
        """Forget answers and calls, in the middle of a test."""
        self._answers.clear()
        self._texts.clear()
        self.calls.clear()

    def __repr__(self) -> str:
        return f"<Service {self.name}: {len(self.calls)} calls>"

    @property
    def fails_always(self) -> Reason | None:
        """The failure of every call, if the test defines nothing else."""
        values = list(self._answers.items())
        if len(values) != 1 or values[0][0] != (None, None, None):
            return None
        return values[0][1].only_failure

    async def answer(self, request: Request, endpoint: str) -> Answer:
        """The answer to a request. A fault of the test is reported, and the answer is 500."""
        path, _, query = request.target.partition("?")
        if self._is_probe(request) and not any(key.matches("GET", path, query) for key in self._answers):
            return Reply(200)
        call = Call(request.method, path, query, request.pairs, request.body, endpoint)
        self.calls.append(call)
        try:
            answer = await self._answer(call)
            if answer in BEFORE_THE_REQUEST:
                self.calls.remove(call)  # it never arrived
            return answer
        except BaseException as error:  # noqa: BLE001 - a function of the test may raise anything, and fails the test
            self.report(error)
            return Reply(500, body=f"{type(error).__name__}: {error}")

    def _is_probe(self, request: Request) -> bool:
        return request.target == self.health and request.values("user-agent") == ["portway-probe"]

    async def _answer(self, call: Call) -> Answer:
        matching = [key for key in self._answers if key.matches(call.method, call.path, call.query)]
        if not matching:
            raise UnexpectedCall(self._unexpected(call))
        key = max(matching, key=lambda one: one.rank)
        value = self._answers[key].next()
        if value is None:
            raise UnexpectedCall(self._exhausted(call, key))
        if isinstance(value, (Reply, SocketReply, Reason)):
            return value
        result = value(call)
        if inspect.isawaitable(result):
            result = await result
        name = getattr(value, "__name__", repr(value))
        return reply_of(result, f"gateway.{self.name}[{self._texts[key]!r}]: what {name}() returned")

    def _unexpected(self, call: Call) -> str:
        target = f"{call.path}?{call.query}" if call.query else call.path
        asked = f"{self.name} was asked for {call.method} {target}, and gateway.{self.name} has no answer to that"
        if not self._texts:
            return f"{asked}, nor any other; write gateway.{self.name}['{call.method} {call.path}'] = ..."
        keys = sorted(self._texts.values())
        near = nearest(call.path, [key.rpartition(" ")[2] for key in keys])
        meant = f"; did you mean {near}?" if near and near != call.path else ""
        return f"{asked}; it has some for {', '.join(map(repr, keys))}{meant}"

    def _exhausted(self, call: Call, key: Key) -> str:
        answers, text = self._answers[key], self._texts[key]
        several = "one answer" if len(answers) == 1 else f"{len(answers)} answers"
        return (
            f"{self.name} was asked for {call.method} {call.path} {answers.taken} times, and the list of "
            f"gateway.{self.name}[{text!r}] has {several}; a list that is the JSON is Reply(json=[...])"
        )
