"""Runs the parts of a fan-out for one request: each as soon as its inputs are there, all under one deadline.

`plan` decides which parts there are and in which order they can run. The first failure of a required part ends the run.
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

from gateway.errors import GatewayError, Reason, drop_frames
from gateway.fanout import plan, raw_json
from gateway.fanout.part_result import PartResult, cause_of
from gateway.fanout.plan import Fan, Part
from gateway.http import codings, negotiation
from gateway.http.headers import Pairs, first_of, set_fields
from gateway.http.problem import error_of_view
from gateway.http.request import GatewayRequest
from gateway.http.values import OWN, value_of
from gateway.legacy.parameters import NoSuchValue
from gateway.legacy.view import Legacy
from gateway.observe.signals import view_failed
from gateway.proxy.fetch import CallRecord, Fetched, ask, ask_cached
from gateway.proxy.outgoing import Fields, own_pairs, rendered
from gateway.proxy.sent import Sent
from gateway.upstreams.options import Overrides, ProxyOptions, effective, place_of
from gateway.upstreams.pool import Pool, pools_of
from gateway.upstreams.records import Upstream
from gateway.upstreams.targets import Reference, TargetValueError

# A longer list is refused before any call is made, however few distinct items it has.
_MOST_ITEMS = 100_000
_JSON = negotiation.JSON.encode()
# RFC 9110: without these a client cannot act on 401, 405, 429 or 503.
_ADVICE = frozenset({b"www-authenticate", b"allow", b"retry-after"})


@dataclass(frozen=True, slots=True)
class Step:
    """A part with its configuration, computed once per route: its upstream or function, options, and time limit."""

    part: Part
    needs: frozenset[str]
    upstream: Upstream | None
    function: Legacy | None
    options: ProxyOptions
    sent: Sent
    timeout_s: float  # of a call
    task_name: str
    mapped: Reference | None  # the reference to the list that the part is mapped over
    decode: Callable[[bytes], Any] | None = None
    default: Any = None


class FanoutView(Protocol):
    """The view's side of a fan-out. `decoders` and `defaults` are those of typed parts."""

    fan: Fan
    own: Overrides
    decoders: Mapping[str, Any]
    defaults: Mapping[str, Any]
    functions: Mapping[str, Legacy]


def whole_time_s(options: ProxyOptions) -> float:
    """The time limit for a response that is read whole, in seconds."""
    return min(options.timeout_s, options.total_timeout_s or options.timeout_s)


def steps_for(view: FanoutView, pools: Mapping[str, Pool]) -> tuple[Step, ...]:
    """The steps of a route. The route's options apply to each part, except its timeout, which is for the whole."""
    own = view.own
    names = [part.name for part in view.fan.parts]
    steps = []
    for part in view.fan.parts:
        upstream = None if part.target.is_function else pools[part.target.upstream].upstream
        of_route = replace(own, timeout_s=None, headers=(*own.headers, *part.headers))
        options = effective(Overrides() if upstream is None else upstream.overrides, of_route)
        sent = Sent(options, forward=view.fan.forward)
        needs = plan.needs(part.target, names)
        decoder = view.decoders.get(part.name)
        decode = None if decoder is None else decoder.decode
        function, default = view.functions.get(part.name), view.defaults.get(part.name)
        name, time_s, mapped = f"portway-part-{part.name}", whole_time_s(options), part.target.mapped
        steps.append(Step(part, needs, upstream, function, options, sent, time_s, name, mapped, decode, default))
    return tuple(steps)


class Gathering:
    """One run of a fan-out's parts."""

    def __init__(
        self, fan: Fan, steps: Sequence[Step], timeout_s: float, request: GatewayRequest, own: Overrides
    ) -> None:
        self.results: dict[str, PartResult] = {}
        self.failed: PartResult | None = None
        self._fan, self._request, self._own = fan, request, own
        self._names = frozenset(part.name for part in fan.parts)
        self._loop = asyncio.get_running_loop()
        self._timeout_s, self._ends_s = timeout_s, self._loop.time() + timeout_s
        self._sent: dict[Sequence[str] | None, tuple[Pairs, Fields]] = {}  # in calls, by the client's fields that pass
        self._waiting = list(steps)
        self._values: dict[Reference, str | None] = {}  # values of other parts; None where one cannot stand in a URL
        self._tasks: list[asyncio.Task[None]] = []
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._listen: Callable[[PartResult | None], None] | None = None

    async def run(self) -> None:
        """Run until every part has ended, or a required one has failed; then the others are cancelled at once."""
        try:
            self._start_ready()
            await self._over
        finally:
            self._end()

    async def as_they_end(self) -> AsyncGenerator[PartResult, None]:
        """Like `run`, but yields each result as soon as it is there."""
        arrived: asyncio.Queue[PartResult | None] = asyncio.Queue()
        self._listen = arrived.put_nowait
        try:
            self._start_ready()
            while (result := await arrived.get()) is not None:
                yield result
        finally:
            self._end()

    def in_order(self) -> Iterator[PartResult]:
        """The results so far, in the order of the parts."""
        return (self.results[part.name] for part in self._fan.parts if part.name in self.results)

    @property
    def is_complete(self) -> bool:
        return all(result.is_good for result in self.results.values())

    def problem(self) -> GatewayError | None:
        """The failure of the whole, if a required part failed."""
        return None if self.failed is None else self.failed.problem(self._fan.passes)

    def _start_ready(self) -> None:
        ready: list[Step] = []
        waiting: list[Step] = []
        for step in self._waiting:
            (ready if step.needs <= self.results.keys() else waiting).append(step)
        self._waiting = waiting
        for step in ready:
            self._tasks.append(self._loop.create_task(self._part(step), name=step.task_name))

    def _ended(self, result: PartResult) -> None:
        if self._over.done():
            return
        self.results[result.part.name] = result
        if self._listen is not None:
            self._listen(result)
        if result.reason is not None and not result.part.optional:
            self.failed = result
        elif self._waiting:
            self._start_ready()
        if self.failed is not None or len(self.results) == len(self._fan.parts):
            self._over.set_result(None)
            if self._listen is not None:
                self._listen(None)

    def _end(self) -> None:
        self._over.cancel()
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()  # breaks a reference cycle through the exception of a cancelled task
        exchange = self._request.exchange
        exchange.parts = [result.log_fields for result in self.in_order()]
        exchange.attempts = sum(result.attempts for result in self.results.values())
        if self.failed is not None:
            exchange.upstream, exchange.endpoint = self.failed.part.target.upstream, self.failed.endpoint

    # -- one part -------------------------------------------------------------------------------------------------

    async def _part(self, step: Step) -> None:
        part = step.part
        result, began, ends_s = PartResult(part), perf_counter(), self._ends_s
        try:
            if step.needs:
                failed = sorted(name for name in step.needs if self.results[name].reason is not None)
                if failed:
                    raise GatewayError(Reason.SKIPPED, f"It waits for {', '.join(failed)}, which failed.")
            if part.timeout_s is not None:
                ends_s = min(ends_s, self._loop.time() + part.timeout_s)
            if step.function is not None:
                result.whole = await self._ask(step, "", ends_s, result)
            elif step.mapped is None:
                target = part.target.template.fill(self.raw, self.text_of)
                result.whole = await self._ask(step, target, ends_s, result)
            else:
                await self._map(step, step.mapped, ends_s, result)
            result.text = raw_json.picked(result.whole, part.pick) if part.pick else result.whole
            if step.decode is not None:
                result.value = step.decode(result.text)
        except BaseException as error:  # whatever it is, other parts must not wait for this one
            if isinstance(error, asyncio.CancelledError) and self._over.done():
                raise
            failure = self._failure(error, part)
            self._name_limit(failure, step, is_whole=ends_s == self._ends_s)
            await view_failed(self._request, failure)
            drop_frames(failure)  # one of its frames refers to it
            result.failed(failure, step.default)
        result.ms = (perf_counter() - began) * 1000
        self._ended(result)

    def _failure(self, error: BaseException, part: Part) -> GatewayError:
        if isinstance(error, GatewayError):
            return error
        if isinstance(error, TargetValueError):
            of_part = any(one.name == error.reference.owner for one in self._fan.parts)
            reason = Reason.PART_VALUE if of_part else Reason.TEMPLATE_VALUE  # the upstream's fault, or the client's
            return GatewayError(reason, f"The value of {error.reference.text} cannot stand in its URL.")
        if isinstance(error, (raw_json.NotJson, msgspec.DecodeError, RecursionError)):
            return GatewayError(Reason.PART_INVALID, f"Its answer is not the JSON that was expected: {error}.")
        return GatewayError(Reason.INTERNAL_ERROR, cause=error_of_view(error).cause)

    def _name_limit(self, failure: GatewayError, step: Step, *, is_whole: bool) -> None:
        """Name the time limit that a failure exceeded: the upstream's, the part's, or that of the whole."""
        if failure.limit is None:
            return
        part, route, own = step.part, self._request.route, self._own
        attribute, seconds = failure.limit
        place, origin = "", "" if route is None else route.origin.removesuffix("_FILE")
        is_time = attribute == "timeout_s"
        if is_time and seconds != step.timeout_s:
            failure.limit = (attribute, self._timeout_s if is_whole or part.timeout_s is None else part.timeout_s)
            if not is_whole:
                of_part = f"{origin}__PART_{part.name.upper()}__TIMEOUT"
                place = of_part if origin.startswith("GATEWAY_") else f"{origin}: timeout= of the part {part.name}"
            elif route is not None:
                place = place_of(origin, route.level, own, attribute)
        else:
            if route is not None and not is_time:
                place = place_of(origin, route.level, own, attribute)
            if not place and step.upstream is not None:
                place = step.upstream.level.variable(attribute)
        failure.name_limit(lambda _: place)

    async def _map(self, step: Step, mapped: Reference, ends_s: float, result: PartResult) -> None:
        """One call for each distinct target, with bounded concurrency; the results keep the order of the list."""
        part = step.part
        try:
            most = max(_MOST_ITEMS, self._fan.max_items)
            items = raw_json.items_of(self.results[mapped.owner].whole, mapped.fields, most)
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
                one = PartResult(part)
                try:
                    results[target] = await self._ask(step, target, ends_s, one)
                except (GatewayError, raw_json.NotJson) as error:
                    await view_failed(self._request, self._failure(error, part))
                    if result.item_failure is None:
                        failure = self._failure(error, part)
                        self._name_limit(failure, step, is_whole=ends_s == self._ends_s)
                        result.item_failure, result.cause = failure.reason, cause_of(failure)
                        result.status, result.endpoint, result.advice = one.status, one.endpoint, one.advice
                    if not part.optional:
                        raise
                finally:
                    result.attempts += one.attempts
                    result.answers += one.answers
                    result.endpoint = one.endpoint if result.item_failure is None else result.endpoint
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
            result.item_failure = result.item_failure or Reason.PART_VALUE
        found = [results.get(target) if target is not None else None for target in targets]
        result.status = None
        result.items = (len(found), sum(text is not None for text in found))
        result.whole = raw_json.joined(b"null" if text is None else text for text in found)

    async def _targets(self, part: Part, items: Sequence[bytes]) -> list[str | None]:
        """The target for each item; lets the event loop go on in between, since the list may be long."""
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
        """The target for one item; None if its value cannot stand there and the part is optional."""

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

    async def _ask(self, step: Step, target: str, ends_s: float, result: PartResult) -> bytes:
        """Make one call; returns the JSON of its response. Raises GatewayError, NotJson."""
        left_s = ends_s - self._loop.time()
        if left_s <= 0:
            limit = ("timeout_s", left_s)
            raise GatewayError(Reason.RESPONSE_TIMEOUT, upstream=step.part.target.upstream or None, limit=limit)
        if step.function is not None:
            fetched = await self._call(step.part, step.function, left_s)
        else:
            fetched = await self._fetch(step, target, left_s, result)
        result.answers.append(fetched.pairs)
        result.status = fetched.status
        if not 200 <= fetched.status <= 299:
            result.advice = [pair for pair in fetched.pairs if pair[0] in _ADVICE]
            raise GatewayError(Reason.PART_STATUS, f"It was answered with {fetched.status}.")
        if fetched.status == 204:
            return b"null"
        media = (first_of(fetched.pairs, b"content-type") or b"").partition(b";")[0].strip().lower()
        if media != _JSON and not media.endswith(b"+json"):
            raise raw_json.NotJson(f"Content-Type is {media.decode('latin-1') or 'missing'}")
        if coded := codings.of(fetched.pairs):  # known codings were decoded
            raise raw_json.NotJson(f"it is coded as {', '.join(coded)}, which cannot be undone")
        self._request.services.bodies.take(self._request.lifetime, len(fetched.body))
        return raw_json.checked(fetched.body)

    async def _fetch(self, step: Step, target: str, left_s: float, result: PartResult) -> Fetched:
        part, record = step.part, CallRecord()
        sent, request = step.sent, self._request
        pairs, as_sent = self._sent.get(sent.forward) or self._sent_for(sent.forward)
        changes = request.going_up(sent.changes_for(request))
        call: dict[str, Any] = {
            "target": sent.target_for(request, target),
            "pairs": set_fields(pairs, changes) if changes else pairs,
            "options": step.options,
            "timeout_s": min(left_s, step.timeout_s),
            "max_body_bytes": part.max_body_bytes,
        }
        try:
            pool = pools_of(self._request)[part.target.upstream]
            if pool.tracer is not None:
                pool.tracer.part(part.name)
            if part.cache is None or part.method != "GET":
                fields = None if changes else as_sent
                return await ask(self._request, pool, record, method=part.method, fields=fields, **call)
            return await ask_cached(self._request, pool, record, part.cache, configured=changes, **call)
        finally:
            result.attempts += record.attempts or 0
            result.cache, result.endpoint = record.cache, record.endpoint

    def _sent_for(self, forward: Sequence[str] | None) -> tuple[Pairs, Fields]:
        """The field lines of calls that pass on these fields of the client; made once for all of them."""
        pairs = own_pairs(self._request, forward)
        self._sent[forward] = made = (pairs, rendered(pairs))
        return made

    async def _call(self, part: Part, function: Legacy, left_s: float) -> Fetched:
        """Call a function, and make its result look like a service's response."""
        given: dict[str, Any] = {name: self.parameter(name) for name in self.raw if name in function.parameters}
        others = [one.owner for one in part.target.references if one.owner not in given]
        given |= {name: msgspec.json.decode(self.results[name].whole) for name in others}
        try:
            status, pairs, body = await function.as_service(self._request, given, left_s)
        except NoSuchValue as error:
            reason = Reason.PART_VALUE if error.name in others else Reason.TEMPLATE_VALUE
            raise GatewayError(reason, f"The value of {{{error.name}}} is not of the type that it should be.") from None
        if len(body) > part.max_body_bytes:
            raise GatewayError(Reason.PART_TOO_LARGE)
        return Fetched(status, tuple(pairs), body)

    def parameter(self, name: str) -> str:
        """A path parameter, percent-decoded."""
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
        if owner in OWN and owner not in self._names:
            return value_of(self._request, (owner, *fields))
        if reference not in self._values:  # looked up once, not for each item of a mapped part
            try:
                self._values[reference] = raw_json.scalar(self.results[owner].whole, fields)
            except raw_json.NoValue:
                self._values[reference] = None
        value = self._values[reference]
        if value is None:
            raise TargetValueError(reference)
        return value

    @cached_property
    def _query(self) -> dict[str, str]:
        """The client's query; the first value of a repeated name."""
        found: dict[str, str] = {}
        for name, value in parse_qsl(self._request.query, keep_blank_values=True, errors="surrogateescape"):
            found.setdefault(name, value)
        return found
