"""Authentication by another service: `ask sso:/verify`, the convention of nginx's auth_request and forward auth.

It gets a GET without a body: some of the client's fields, and the request's method and URL in X-Forwarded-Method, -Uri
and the other X-Forwarded-*. With 2xx the request goes on, with fields of that answer. A 401, a 403 and a redirect are
passed to the client as they are, with every Set-Cookie. Anything else decides nothing: 503.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

from gateway.auth.identity import fields_for, of_answer
from gateway.auth.records import Way
from gateway.auth.rules import Outcome, Verdict
from gateway.auth.verdicts import Verdicts, digest
from gateway.errors import GatewayError
from gateway.http.forwarding import forwarding_pairs
from gateway.http.headers import OWS, Pair, Pairs, as_cgi, set_fields, strip_hop_by_hop
from gateway.http.identity import IdentityFields
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse
from gateway.proxy.outgoing import trace_pairs, via_pairs
from gateway.proxy.sent import Changes, Sent
from gateway.upstreams import calls
from gateway.upstreams.heads import has_controls
from gateway.upstreams.options import Overrides, effective
from gateway.upstreams.pool import Pool

_MOST_BYTES = 2**20  # of an answer that is passed on


def asking_pairs(request: GatewayRequest, way: Way) -> Pairs:
    """The fields that describe the request to the service; nothing of its body."""
    wanted = {name.encode("ascii") for name in way.send}
    pairs = [pair for pair in request.scope["headers"] if pair[0] in wanted]
    target = request.raw_path + ("?" + request.query if request.query else "")
    asked = (request.forwarded_scheme, request.forwarded_host)
    trusted = request.fields.x_forwarded if request.from_trusted_peer else None
    forwarding = forwarding_pairs(request.peer, request.scope["scheme"], request.host_field, "", trusted, asked=asked)
    described = [
        (b"x-forwarded-method", request.method.encode("ascii")),
        (b"x-forwarded-uri", target.encode("latin-1")),
    ]
    names = {name for name, _ in described}
    return [*pairs, *(pair for pair in forwarding if pair[0] not in names), *described]


class Reading(NamedTuple):
    """The meaning of an answer."""

    verdict: Verdict
    passes_on: bool


def reading_of(status: int, *, had_credential: bool) -> Reading:
    """The meaning of a status of the service: passed, refused (then its answer is passed on), or nothing."""
    if 200 <= status <= 299:
        return Reading(Verdict.PASSED, passes_on=False)
    if status == HTTPStatus.FORBIDDEN:
        return Reading(Verdict.FORBIDDEN, passes_on=True)
    if status == HTTPStatus.UNAUTHORIZED or (300 <= status <= 399 and status != HTTPStatus.NOT_MODIFIED):
        # Only the service knows whether the credential is its own: another way may know it too.
        return Reading(Verdict.FOREIGN if had_credential else Verdict.MISSING, passes_on=True)
    return Reading(Verdict.UNAVAILABLE, passes_on=False)


def copied(pairs: Sequence[Pair], names: Sequence[str]) -> tuple[IdentityFields, Mapping[str, str]]:
    """The fields of an answer that go up, None for missing ones, and their values as text."""
    fields: list[tuple[bytes, bytes | None]] = []
    values: dict[str, str] = {}
    for name in names:
        raw = name.encode("ascii")
        found = [value.strip(OWS) for given, value in pairs if as_cgi(given) == as_cgi(raw)]
        joined = b",".join(found) if found and not any(map(has_controls, found)) else None
        fields.append((raw, joined or None))
        if joined:
            values[name] = joined.decode("utf-8", "replace")
    return tuple(fields), values


class AskWay:
    """One way of this kind while the gateway runs."""

    def __init__(self, way: Way, pool: Pool, now: Callable[[], float]) -> None:
        self.way = way
        self.verdicts = Verdicts()
        self._pool, self._now = pool, now
        options = effective(pool.upstream.overrides, Overrides())
        self._sent = Sent(options)
        self._timeout_s = way.timeout_s or options.timeout_s

    def known(self, request: GatewayRequest, authorization: bytes | None) -> Outcome | None:
        """None: the service decides by more than the credential."""
        return None

    async def outcome(self, request: GatewayRequest, *, is_optional: bool = False) -> Outcome:
        """The decision of the service; if a credential is optional and missing, the service is not asked."""
        way = self.way
        pairs = asking_pairs(request, way)
        sent = {name.encode("ascii") for name in way.send}
        had_credential = any(name in sent for name, _ in pairs)
        if is_optional and not had_credential:
            return Outcome(Verdict.MISSING, way.name)
        sets = self._sent.changes_for(request)
        target = self._sent.target_for(request, way.path)
        parts = (*(part for pair in pairs for part in pair), repr(sets).encode(), target.encode())
        name = digest(*parts) if way.cache_s else b""
        if way.cache_s and (kept := self.verdicts.get(name, self._now())) is not None:
            return kept
        outcome = await self._ask(request, target, pairs, sets, had_credential=had_credential)
        if way.cache_s and outcome.verdict is Verdict.PASSED:
            self.verdicts.put(name, outcome, self._now() + way.cache_s)
        return outcome

    async def _ask(
        self, request: GatewayRequest, target: str, pairs: Pairs, sets: Changes, *, had_credential: bool
    ) -> Outcome:
        way, pool = self.way, self._pool
        request_id = (b"x-request-id", request.exchange.request_id.encode("ascii"))
        pairs = [*pairs, *trace_pairs(request), request_id, *via_pairs(request)]
        if sets:
            pairs = set_fields(pairs, sets)
        try:
            reply = await calls.get(
                pool, target, pairs, timeout_s=self._timeout_s, max_bytes=_MOST_BYTES, lifetime=request.lifetime
            )
        except GatewayError as error:
            if request.lifetime.interruption is not None:
                raise
            cause = f"{error.reason.word}: {error.cause}" if error.cause else error.reason.word
            return Outcome(Verdict.UNAVAILABLE, way.name, cause=cause, upstream=pool.name, retry_after_s=1)
        reading = reading_of(reply.status, had_credential=had_credential)
        if reading.verdict is Verdict.PASSED:
            fields, values = copied(reply.pairs, way.copy)
            identity = of_answer(values, way)
            return Outcome(Verdict.PASSED, way.name, identity, (*fields, *fields_for(way, identity)))
        cause = f"{pool.name} answered {reply.status}"
        if not reading.passes_on:
            return Outcome(reading.verdict, way.name, cause=cause, upstream=pool.name, retry_after_s=1)
        kept = [pair for pair in strip_hop_by_hop(reply.pairs) if pair[0] not in _NOT_PASSED_ON]
        answer = GatewayResponse(reply.status, [*kept, _NO_STORE], reply.body)
        return Outcome(reading.verdict, way.name, cause=cause, answer=answer)


_NO_STORE = (b"cache-control", b"no-store")
_NOT_PASSED_ON = frozenset({b"cache-control", b"expires", b"pragma", b"content-length", b"x-request-id"})
