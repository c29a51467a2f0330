"""The view of a fan-out: it calls several services, merges their responses, and names the missing ones.

`Gathering` runs the parts of one request; this module makes the response: one JSON object, or a stream of parts.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from asgiref.sync import markcoroutinefunction
from django.http.response import HttpResponseBase

from gateway.cache.cache import cache_for
from gateway.errors import GatewayError, Reason
from gateway.fanout import answer as fanout_answer
from gateway.fanout import plan, raw_json
from gateway.fanout.plan import Fan, with_functions
from gateway.fanout.run import Gathering, Step, steps_for, whole_time_s
from gateway.http import negotiation
from gateway.http.any_request import GatewayView
from gateway.http.headers import FieldLines, Pairs, all_of, encoded_changes, first_of, set_fields
from gateway.http.problem import problem_members
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse
from gateway.http.values import OWN, vary_of
from gateway.legacy.view import Legacy
from gateway.options import NO_LEVEL, Level, without_plain_fields
from gateway.proxy.outgoing import FORWARDED
from gateway.proxy.sent import Changes
from gateway.upstreams import targets
from gateway.upstreams.options import Overrides, effective, overrides_of
from gateway.upstreams.pool import Pool, pools_of

_COMPLETE = (b"gateway-complete", b"?1")
_OF_CACHING = frozenset({b"cache-control", b"cdn-cache-control", b"surrogate-control", b"expires"})


class Fanout(GatewayView):
    """An async Django view that merges its parts into one JSON object, or streams them as they end."""

    streams = True
    decoders: Mapping[str, Any] = {}
    defaults: Mapping[str, Any] = {}

    def __init__(self, fan: Fan, own: Overrides, name: str, functions: Mapping[str, Legacy] | None = None) -> None:
        self.functions = functions or {}
        self.fan = fan = with_functions(fan, self.functions)
        self.own = own
        self.reads_body = any(function.takes_request for function in self.functions.values())
        self.__name__ = self.__qualname__ = name  # Django's resolver asks for both
        self.inherit(NO_LEVEL)
        self._steps: tuple[Step, ...] = ()
        self._pools: Mapping[str, Pool] | None = None  # the pools that `_steps` were made for
        read = {
            reference.fields[0]
            for part in fan.parts
            for reference in part.target.references
            if reference.owner == "header"
        }
        chosen_by = ("accept",) if self.streams else ()
        self._read = (*chosen_by, *sorted(read))
        self._vary = b""
        markcoroutinefunction(self)

    def inherit(self, plain: Level) -> None:
        """Take the options for all routes where it has none itself. Its parts have those from their upstreams."""
        self.whole = whole = effective(overrides_of(without_plain_fields(plain, plain).flat()), self.own)
        self._timeout_s, self._max_body_bytes = whole_time_s(whole), whole.max_body_bytes
        self._changes = encoded_changes(whole.response_headers)

    def problems(self, params: Sequence[str]) -> Iterator[str]:
        """Why it cannot serve a route with these path parameters."""
        targets = {part.name: part.target for part in self.fan.parts}
        yield from (fault for _, fault in plan.problems(targets, params, merge=self.fan.merge))

    @property
    def upstreams(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(part.target.upstream for part in self.fan.parts if not part.target.is_function))

    async def serve(self, request: GatewayRequest, **params: str) -> HttpResponseBase:
        steps = self._steps
        pools = pools_of(request)
        if self._pools is not pools:
            steps = self._steps_anew(pools)
        if request.raw_values is None:  # one of Django's own path() lines
            request.raw_values = {name: quote(str(value), safe="") for name, value in params.items()}
        if not request.inbox.complete:  # an unread body would hide that the client disconnects
            request.inbox.max_bytes = self._max_body_bytes
            await (request.read_body() if self.reads_body else request.drop_body())
        gathering = Gathering(self.fan, steps, self._timeout_s, request, self.own)
        media = negotiation.representation(all_of(request.scope["headers"], b"accept"))
        if media != negotiation.JSON and self.streams:
            return self._stream(request, gathering, media)
        await gathering.run()
        error = gathering.problem()
        if error is not None:
            raise error
        return await self.answer(request, gathering)

    def _steps_anew(self, pools: Mapping[str, Pool]) -> tuple[Step, ...]:
        self._pools, self._steps = pools, steps_for(self, pools)
        names = list(self._read)
        for step in self._steps:
            passing = step.sent.forward
            names += [*FORWARDED, *(passing or ())] if passing is None or passing else []
            names += vary_of((*step.sent.words, *self._words_of_targets))
        # Which fields will come is not known beforehand: no Vary could name them all.
        is_open = any(name.endswith("*") for name in names)
        self._vary = b"*" if is_open else fanout_answer.vary(name.title() for name in dict.fromkeys(names))
        return self._steps

    @property
    def _words_of_targets(self) -> tuple[Sequence[str], ...]:
        names = {part.name for part in self.fan.parts}
        references = (one for part in self.fan.parts for one in part.target.references if one.owner not in names)
        return tuple((one.owner, *one.fields) for one in references if one.owner in OWN)

    def words_read(self, pools: Mapping[str, Pool]) -> tuple[Sequence[str], ...]:
        """The words of the values in its calls, except parameters of the path."""
        words = (one for step in self._steps_anew(pools) for one in step.sent.words)
        return (*words, *self._words_of_targets)

    async def answer(self, request: GatewayRequest, gathering: Gathering) -> HttpResponseBase:
        """The response once no required part has failed."""
        parts = {result.part.name: result.text for result in gathering.in_order()}
        try:
            keyed = self.fan.merge == "keyed"
            body = raw_json.as_object(parts.items()) if keyed else raw_json.flat(parts)
        except raw_json.NotJson as error:
            detail = f"{str(error)[:1].upper()}{str(error)[1:]}." if request.services.disclose_names else ""
            raise GatewayError(Reason.PARTS_CLASH, detail) from None
        return GatewayResponse(200, FieldLines(self.pairs(request, gathering)), body)

    def pairs(self, request: GatewayRequest, gathering: Gathering) -> Pairs:
        pairs = [(b"content-type", b"application/json"), (b"vary", self._vary)]
        complete = gathering.is_complete
        if complete:
            answers = [pairs for result in gathering.in_order() for pairs in result.answers]
            cache_control = fanout_answer.cache_control(answers, cache_for(request).time())
        else:
            cache_control = b"no-store"
        if cache_control is not None:
            pairs.append((b"cache-control", cache_control))
        pairs.append(_COMPLETE if complete else (b"gateway-complete", b"?0"))
        if request.services.disclose_names:
            results = list(gathering.in_order())
            parts = fanout_answer.parts_field((result.part.name, result.params) for result in results)
            timing = ", ".join(f"{result.part.name};dur={result.ms:.1f}" for result in results)
            pairs += [(b"gateway-parts", parts), (b"server-timing", timing.encode("ascii"))]
        return self._changed(request, pairs)

    def _changed(self, request: GatewayRequest, pairs: Pairs) -> Pairs:
        """The fields after the changes that the route's options make."""
        if not self._changes or request.defers_fields_of is self:
            return pairs
        return set_fields(pairs, self.fitting(self._changes, pairs))

    def fields_set(self, pools: Mapping[str, Pool]) -> Changes:
        """The response fields that its options set."""
        return self._changes

    def fitting(self, changes: Changes, pairs: Pairs) -> Changes:
        """The changes that fit a response: an incomplete one must not become cacheable."""
        if _COMPLETE in pairs:
            return changes
        return tuple(change for change in changes if change[0] not in _OF_CACHING)

    # -- as they end ----------------------------------------------------------------------------------------------

    def _stream(self, request: GatewayRequest, gathering: Gathering, media: str) -> GatewayResponse:
        pairs = [(b"cache-control", b"no-store"), (b"vary", self._vary)]
        last = first_of(request.scope["headers"], b"last-event-id") or b""
        if media == negotiation.EVENTS and last == targets.LAST.encode():
            # The stream is complete: 204 keeps EventSource from asking again.
            return GatewayResponse(204, self._changed(request, pairs))
        framed = _event if media == negotiation.EVENTS else _line
        pairs = self._changed(request, [(b"content-type", media.encode("ascii")), *pairs])
        return GatewayResponse(200, pairs, self._events(request, gathering, framed))

    async def _events(
        self, request: GatewayRequest, gathering: Gathering, framed: Callable[[str, bytes], bytes]
    ) -> AsyncIterator[bytes]:
        timed = request.services.disclose_names
        # An inner generator would otherwise be closed only later, after the log line was written.
        async with aclosing(gathering.as_they_end()) as results:
            async for result in results:
                members = raw_json.encoded(result.stream_fields(timed=timed))
                text = members[:-1] + b',"data":' + raw_json.on_one_line(result.text) + b"}"
                yield framed(result.part.name, text)
        summary: dict[str, Any] = {
            "parts": [result.stream_fields(timed=timed) for result in gathering.in_order()],
            "complete": gathering.failed is None and gathering.is_complete,
        }
        error = gathering.problem()
        if error is not None:
            request.exchange.fail(error)
            summary["problem"] = problem_members(
                error, request.exchange.request_id, disclose_names=request.services.disclose_names
            )
        yield framed(targets.LAST, raw_json.encoded(summary))


def _line(name: str, text: bytes) -> bytes:
    return text + b"\n"


def _event(name: str, text: bytes) -> bytes:
    """A server-sent event without a type, so that `onmessage` gets it."""
    return b"id: " + name.encode("ascii") + b"\ndata: " + text + b"\n\n"
