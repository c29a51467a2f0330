"""The parts of one request while they are asked for: whatever can run runs, all under one deadline.

Which parts there are and in which order they can run is decided in `merging`. The first required failure ends it all.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

import msgspec

from gateway.errors import GatewayError, Reason
from gateway.fanout import plan, raw_json
from gateway.fanout.part_result import Outcome
from gateway.fanout.plan import Fan, Part
from gateway.http import codings, negotiation
from gateway.http.headers import encoded_changes, set_fields
from gateway.http.problem import error_of_view
from gateway.http.request import GatewayRequest
from gateway.legacy.view import Legacy, NoSuchValue
from gateway.proxy.fetch import Fetched, Leg, ask, ask_cached
from gateway.proxy.outgoing import own_pairs
from gateway.upstreams.options import Overrides, ProxyOptions, effective
from gateway.upstreams.pool import Pool, pools_of
from gateway.upstreams.records import Upstream
from gateway.upstreams.targets import Reference, TargetValueError

# Of a longer list nothing is called, however few of its items differ.
_MOST_ITEMS = 100_000
# RFC 9110: without these a client cannot act on 401, 405, 429 or 503.
_ADVICE = frozenset({b"www-authenticate", b"allow", b"retry-after"})


@dataclass(frozen=True, slots=True)
class Step:
    """What a part needs of the configuration, worked out once: its upstream, or the function that makes it."""

    part: Part
    needs: frozenset[str]
    upstream: Upstream | None
    function: Legacy | None
    options: ProxyOptions
    changes: Sequence[tuple[bytes, bytes | None]]
    timeout_s: float  # of a call
    decode: Callable[[bytes], Any] | None = None
    default: Any = None


class Plan(Protocol):
    """What a view says of its parts. `decoders` and `defaults` are those of a typed one."""

    fan: Fan
    own: Overrides
    decoders: Mapping[str, Any]
    defaults: Mapping[str, Any]
    functions: Mapping[str, Legacy]


def whole_time_s(options: ProxyOptions) -> float:
    """The time for an answer that is read whole."""
    return min(options.timeout_s, options.total_timeout_s or options.timeout_s)


def steps_for(view: Plan, pools: Mapping[str, Pool]) -> tuple[Step, ...]:
    """The steps of a route: what it says itself holds for each of its parts, but for its time, which is the whole's."""
    own = view.own
    names = [part.name for part in view.fan.parts]
    steps = []
    for part in view.fan.parts:
        upstream = None if part.target.is_function else pools[part.target.upstream].upstream
        said = replace(own, timeout_s=None, headers=(*own.headers, *part.headers))
        options = effective(Overrides() if upstream is None else upstream.overrides, said)
        needs = plan.needs(part.target, names)
        changes, decoder = encoded_changes(options.headers), view.decoders.get(part.name)
        decode = None if decoder is None else decoder.decode
        function, default = view.functions.get(part.name), view.defaults.get(part.name)
        steps.append(Step(part, needs, upstream, function, options, changes, whole_time_s(options), decode, default))
    return tuple(steps)


class Gathering:
    """The parts of one request while they are asked for."""

    def __init__(self, fan: Fan, steps: Sequence[Step], timeout_s: float, request: GatewayRequest) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.failed: Outcome | None = None
        self._fan, self._request = fan, request
        self._loop = asyncio.get_running_loop()
        self._ends_s = self._loop.time() + timeout_s
        self._pairs = own_pairs(request, fan.forward)
        self._waiting = list(steps)
        self._values: dict[Reference, str | None] = {}  # of other parts, None for what cannot stand in a URL
        self._tasks: list[asyncio.Task[None]] = []
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._listen: Callable[[Outcome | None], None] | None = None

    async def run(self) -> None:
        """Until every part has ended, or a required one failed: then the others are cancelled at once."""
        try:
            self._start_ready()
            await self._over
        finally:
            self._end()

    async def as_they_end(self) -> AsyncGenerator[Outcome, None]:
        """As `run`, giving each outcome when it is there."""
        arrived: asyncio.Queue[Outcome | None] = asyncio.Queue()
        self._listen = arrived.put_nowait
        try:
            self._start_ready()
            while (outcome := await arrived.get()) is not None:
                yield outcome
        finally:
            self._end()

    def in_order(self) -> Iterator[Outcome]:
        """The outcomes that there are, in the order of the parts."""
        return (self.outcomes[part.name] for part in self._fan.parts if part.name in self.outcomes)

    @property
    def is_complete(self) -> bool:
        return all(outcome.is_good for outcome in self.outcomes.values())

    def problem(self) -> GatewayError | None:
        """The failure of the whole, if a required part failed."""
        return None if self.failed is None else self.failed.problem(self._fan.passes)

    def _start_ready(self) -> None:
        ready: list[Step] = []
        waiting: list[Step] = []
        for step in self._waiting:
            (ready if step.needs <= self.outcomes.keys() else waiting).append(step)
        self._waiting = waiting
        for step in ready:
            self._tasks.append(self._loop.create_task(self._part(step), name=f"portway-part-{step.part.name}"))

    def _ended(self, outcome: Outcome) -> None:
        if self._over.done():
            return
        self.outcomes[outcome.part.name] = outcome
        if self._listen is not None:
            self._listen(outcome)
        if outcome.reason is not None and not outcome.part.optional:
            self.failed = outcome
        elif self._waiting:
            self._start_ready()
        if self.failed is not None or len(self.outcomes) == len(self._fan.parts):
            self._over.set_result(None)
            if self._listen is not None:
                self._listen(None)

    def _end(self) -> None:
        self._over.cancel()
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()  # what a cancelled one raises would hold this, and this it
        exchange = self._request.exchange
        exchange.parts = [outcome.logged for outcome in self.in_order()]
        exchange.attempts = sum(outcome.attempts for outcome in self.outcomes.values())
        if self.failed is not None:
            exchange.upstream, exchange.endpoint = self.failed.part.target.upstream, self.failed.endpoint

    # -- one part -------------------------------------------------------------------------------------------------

    async def _part(self, step: Step) -> None:
        part = step.part
        outcome, began = Outcome(part), perf_counter()
        try:
            failed = sorted(name for name in step.needs if self.outcomes[name].reason is not None)
            if failed:
                raise GatewayError(Reason.SKIPPED, f"It waits for {', '.join(failed)}, which failed.")
            ends_s = self._ends_s
            if part.timeout_s is not None:
                ends_s = min(ends_s, self._loop.time() + part.timeout_s)
            if step.function is not None:
                outcome.whole = await self._ask(step, "", ends_s, outcome)
            elif part.target.mapped is None:
                target = part.target.template.fill(self.raw, self.text_of)
                outcome.whole = await self._ask(step, target, ends_s, outcome)
            else:
                await self._map(step, part.target.mapped, ends_s, outcome)
            outcome.text = raw_json.picked(outcome.whole, part.pick) if part.pick else outcome.whole
            if step.decode is not None:
                outcome.value = step.decode(outcome.text)
        except BaseException as error:  # whatever it is, the others must not wait for it
            if isinstance(error, asyncio.CancelledError) and self._over.done():
                raise
            outcome.failed(self._failure(error, part), step.default)
        outcome.ms = (perf_counter() - began) * 1000
        self._ended(outcome)

    def _failure(self, error: BaseException, part: Part) -> GatewayError:
        if isinstance(error, GatewayError):
            return error
        if isinstance(error, TargetValueError):
            of_part = any(one.name == error.reference.owner for one in self._fan.parts)
            reason = Reason.PART_VALUE if of_part else Reason.TEMPLATE_VALUE  # an upstream's doing, or the client's
            return GatewayError(reason, f"The value of {error.reference.text} cannot stand in its URL.")
        if isinstance(error, (raw_json.NotJson, msgspec.DecodeError, RecursionError)):
            return GatewayError(Reason.PART_INVALID, f"Its answer is not the JSON that was expected: {error}.")
        return GatewayError(Reason.INTERNAL_ERROR, cause=error_of_view(error).cause)

    async def _map(self, step: Step, mapped: Reference, ends_s: float, outcome: Outcome) -> None:
        """One call for each distinct target, some at a time; the results stand in the list's order."""
        part = step.part
        try:
            most = max(_MOST_ITEMS, self._fan.max_items)
            items = raw_json.items_of(self.outcomes[mapped.owner].whole, mapped.fields, most)
        except raw_json.NoValue:
            raise TargetValueError(mapped) from None
        except raw_json.TooMany:
            raise GatewayError(Reason.PART_TOO_MANY, f"It maps over a list of more than {most} items.") from None
        targets = await self._targets(part, items)
        times = Counter(target for target in targets if target is not None)
        results: dict[str, bytes] = {}
        queue, size = iter(times), 0

        async def work() -> None:
            nonlocal size
            for target in queue:
                one = Outcome(part)
                try:
                    results[target] = await self._ask(step, target, ends_s, one)
                except (GatewayError, raw_json.NotJson) as error:
                    if outcome.item_failure is None:
                        outcome.item_failure = self._failure(error, part).reason
                        outcome.status, outcome.endpoint, outcome.advice = one.status, one.endpoint, one.advice
                    if not part.optional:
                        raise
                finally:
                    outcome.attempts += one.attempts
                    outcome.answers += one.answers
                    outcome.endpoint = one.endpoint if outcome.item_failure is None else outcome.endpoint
                size += len(results.get(target, b"")) * times[target]
                if size > part.max_body_bytes:
                    raise GatewayError(Reason.PART_TOO_LARGE, upstream=part.target.upstream)

        workers = [asyncio.ensure_future(work()) for _ in range(min(self._fan.concurrency, len(times)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        if None in targets:
            outcome.item_failure = outcome.item_failure or Reason.PART_VALUE
        found = [results.get(target) if target is not None else None for target in targets]
        outcome.status = None
        outcome.items = (len(found), sum(text is not None for text in found))
        outcome.whole = raw_json.joined(b"null" if text is None else text for text in found)

    async def _targets(self, part: Part, items: Sequence[bytes]) -> list[str | None]:
        """The target for each item. A service may send a list of millions: meanwhile others have their turn."""
        found: list[str | None] = []
        distinct: set[str | None] = {None}
        for item in items:
            if len(found) % 1000 == 999:
                await asyncio.sleep(0)
            found.append(self._item_target(part, item))
            distinct.add(found[-1])
            if len(distinct) > self._fan.max_items + 1:
                detail = f"It maps over {self._fan.max_items + 1} items or more; at most {self._fan.max_items} may be."
                raise GatewayError(Reason.PART_TOO_MANY, detail)
        return found

    def _item_target(self, part: Part, item: bytes) -> str | None:
        """The target for one item; None where its value cannot stand there and the part can do without."""

        def text_of(reference: Reference) -> str:
            if reference.item_fields is None:
                return self.text_of(reference)
            try:
                return raw_json.scalar(item, reference.item_fields)
            except raw_json.NoValue:
                raise TargetValueError(reference) from None

        try:
            return part.target.template.fill(self.raw, text_of)
        except TargetValueError:
            if part.optional:
                return None
            raise

    async def _ask(self, step: Step, target: str, ends_s: float, outcome: Outcome) -> bytes:
        """The JSON of one call's answer. Raises GatewayError, NotJson."""
        left_s = ends_s - self._loop.time()
        if left_s <= 0:
            raise GatewayError(Reason.RESPONSE_TIMEOUT, upstream=step.part.target.upstream or None)
        if step.function is not None:
            fetched = await self._call(step.part, step.function, left_s)
        else:
            fetched = await self._fetch(step, target, left_s, outcome)
        outcome.answers.append(fetched.pairs)
        outcome.status = fetched.status
        if not 200 <= fetched.status <= 299:
            outcome.advice = [pair for pair in fetched.pairs if pair[0] in _ADVICE]
            raise GatewayError(Reason.PART_STATUS, f"It was answered with {fetched.status}.")
        if fetched.status == 204:
            return b"null"
        media = (fetched.field("content-type") or "").partition(";")[0].strip().lower()
        if media != negotiation.JSON and not media.endswith("+json"):
            raise raw_json.NotJson(f"Content-Type is {media or 'missing'}")
        if coded := codings.of(fetched.pairs):  # what is known was undone
            raise raw_json.NotJson(f"it is coded as {', '.join(coded)}, which cannot be undone")
        self._request.services.bodies.take(self._request.lifetime, len(fetched.body))
        return raw_json.checked(fetched.body)

    async def _fetch(self, step: Step, target: str, left_s: float, outcome: Outcome) -> Fetched:
        part, leg = step.part, Leg()
        pairs = set_fields(self._pairs, step.changes) if step.changes else self._pairs
        try:
            said: dict[str, Any] = {"target": target, "pairs": pairs, "options": step.options}
            said |= {"timeout_s": min(left_s, step.timeout_s), "max_body_bytes": part.max_body_bytes}
            pool = pools_of(self._request)[part.target.upstream]
            if pool.tracer is not None:
                pool.tracer.part(part.name)
            if part.cache is None or part.method != "GET":
                return await ask(self._request, pool, leg, method=part.method, **said)
            return await ask_cached(self._request, pool, leg, part.cache, configured=step.changes, **said)
        finally:
            outcome.attempts += leg.attempts or 0
            outcome.cache, outcome.endpoint = leg.cache, leg.endpoint

    async def _call(self, part: Part, function: Legacy, left_s: float) -> Fetched:
        """What a function says, as if a service did."""
        given: dict[str, Any] = {name: self.parameter(name) for name in self.raw if name in function.parameters}
        others = [one.owner for one in part.target.references if one.owner not in given]
        given |= {name: msgspec.json.decode(self.outcomes[name].whole) for name in others}
        try:
            status, pairs, body = await function.as_service(self._request, given, left_s)
        except NoSuchValue as error:
            reason = Reason.PART_VALUE if error.name in others else Reason.TEMPLATE_VALUE
            raise GatewayError(reason, f"The value of {{{error.name}}} is not of the type that it should be.") from None
        if len(body) > part.max_body_bytes:
            raise GatewayError(Reason.PART_TOO_LARGE)
        return Fetched(status, tuple(pairs), body)

    def parameter(self, name: str) -> str:
        """A parameter of the path, decoded."""
        return unquote(self.raw[name], errors="replace")

    # -- values ---------------------------------------------------------------------------------------------------

    @property
    def raw(self) -> Mapping[str, str]:
        return self._request.raw_values or {}

    def text_of(self, reference: Reference) -> str:
        owner, fields = reference.owner, reference.fields
        if owner in self.raw:
            return self.parameter(owner)
        if owner == "query":
            return self._query.get(fields[0], "")
        if owner == "header":
            name = fields[0].encode("ascii")
            return self._request.believed(name).decode("utf-8", "surrogateescape")
        if reference not in self._values:  # of a large part it is found once, not for each item of another one
            try:
                self._values[reference] = raw_json.scalar(self.outcomes[owner].whole, fields)
            except raw_json.NoValue:
                self._values[reference] = None
        value = self._values[reference]
        if value is None:
            raise TargetValueError(reference)
        return value

    @cached_property
    def _query(self) -> dict[str, str]:
        """The client's query; of a name that comes twice the first value."""
        found: dict[str, str] = {}
        for name, value in parse_qsl(self._request.query, keep_blank_values=True, errors="surrogateescape"):
            found.setdefault(name, value)
        return found
