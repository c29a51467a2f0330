"""The gate of authentication: it identifies the client and checks its rights, before anything else sees the request.

A refusal sends no byte to any service of the route and reads nothing of the body. Its answer follows RFC 6750 and RFC
7617: 401 with a challenge for each accepted way, 403, or 503 where the identity cannot be checked.
"""

from collections.abc import Awaitable, Iterable, Sequence

from django.http.response import HttpResponseBase

from gateway.auth.credentials import authorization_of
from gateway.auth.records import AuthConfig, Carrier, Way
from gateway.auth.rules import Outcome, Refused, Requirement, Rule, Verdict, decide, missing_of
from gateway.auth.ways import Ways, ways_of
from gateway.errors import GatewayError, Reason
from gateway.http import cors
from gateway.http.carried import values_in
from gateway.http.gate import Gate
from gateway.http.headers import Pair
from gateway.http.identity import IdentityFields
from gateway.http.methods import SAFE_METHODS
from gateway.http.request import GatewayRequest

_REASONS = {
    Verdict.MISSING: Reason.AUTH_MISSING,
    Verdict.FOREIGN: Reason.AUTH_INVALID,
    Verdict.INVALID: Reason.AUTH_INVALID,
    Verdict.EXPIRED: Reason.AUTH_EXPIRED,
    Verdict.FORBIDDEN: Reason.AUTH_FORBIDDEN,
    Verdict.UNAVAILABLE: Reason.AUTH_UNAVAILABLE,
}
_NOBODY = "-"  # the way in the metric for a request without a credential; no way can have this name


def auth_gate(requirements: Sequence[Requirement], origins: Sequence[str] = ()) -> Gate | None:
    """The gate of a route with all of these requirements; None where there are none.

    `origins` are those allowed by CORS: a credential that browsers send by themselves counts from there too.
    """
    if not requirements:
        return None
    only = requirements[0].rule.only_way if len(requirements) == 1 else None
    if only is not None and requirements[0].is_for_all:
        return _gate_of_one(only, requirements, origins)

    async def gate(request: GatewayRequest) -> HttpResponseBase | None:
        authorization_of(request.scope["headers"])
        return await _admit(request, ways_of(request), requirements, origins, {})

    return gate


def _gate_of_one(name: str, requirements: Sequence[Requirement], origins: Sequence[str]) -> Gate:
    """The gate of a route that accepts one way without further conditions. Most routes have it, and most requests pass
    it with a credential that was good a moment ago."""
    passed = (name, Verdict.PASSED.word)

    def gate(request: GatewayRequest) -> Awaitable[HttpResponseBase | None] | None:
        ways = ways_of(request)
        outcome = ways[name].known(request, authorization_of(request.scope["headers"]))
        if outcome is None or request.method not in SAFE_METHODS or request.scope["type"] != "http":
            return _admit(request, ways, requirements, origins, {} if outcome is None else {name: outcome})
        request.admit(outcome.identity, outcome.fields, in_query=outcome.in_query)
        _note(request, outcome)
        ways.counts[passed] = ways.counts.get(passed, 0) + 1
        return None

    return gate


async def _admit(
    request: GatewayRequest,
    ways: Ways,
    requirements: Sequence[Requirement],
    origins: Sequence[str],
    known: dict[str, Outcome],
) -> HttpResponseBase | None:
    """Let the request in, or return the answer to a refusal. `known` are outcomes so far. Raises GatewayError."""
    passed: dict[str, Outcome] = {}
    for requirement in requirements:
        try:
            found = await passing(request, ways, requirement, known)
        except Refusal as refusal:
            return _refused(request, ways, refusal)
        passed |= {outcome.way: outcome for outcome in found}
    if not passed:
        ways.count(_NOBODY, Verdict.PASSED.word)
        return None
    outcomes = tuple(passed.values())
    _note(request, outcomes[0])
    if is_origin_refused(request, ways, outcomes, origins):
        ways.count(outcomes[0].way, Verdict.FORBIDDEN.word)
        raise GatewayError(Reason.ORIGIN_REFUSED, "A page of another origin sent it, with what the browser keeps.")
    in_query = any(one.in_query for one in outcomes)
    request.admit(outcomes[0].identity, fields_of(outcomes), in_query=in_query)
    request.admitted_until_s = until_s_of(outcomes)
    for outcome in outcomes:
        ways.count(outcome.way, Verdict.PASSED.word)
    return None


class Refusal(GatewayError):
    """The client is not let in; `outcome` is what was found, and `word` the word of the metric."""

    outcome: Outcome
    word: str

    @classmethod
    def of(cls, error: GatewayError, outcome: Outcome, word: str) -> "Refusal":
        """The same failure with its outcome."""
        refusal = cls(error.reason, error.detail, upstream=error.upstream, cause=error.cause, headers=error.headers)
        refusal.outcome, refusal.word = outcome, word
        return refusal


async def passing(
    request: GatewayRequest, ways: Ways, requirement: Requirement, known: dict[str, Outcome]
) -> tuple[Outcome, ...]:
    """The outcomes by which a request passes; empty where no identity is needed. `known` are the outcomes so far; more
    are added to it. Raises Refusal, and GatewayError for an ambiguous credential."""
    rule = requirement.rule
    while isinstance(step := decide(rule, known), str):
        is_optional = any(term.way == step and term.optional for chain in rule.chains for term in chain)
        known[step] = await ways[step].outcome(request, is_optional=is_optional)
    if isinstance(step, Refused):
        raise _refusal(rule, step.outcome, ways.config)
    if requirement.is_for_all:
        return step.outcomes
    if not step.outcomes:
        raise _refusal(rule, Outcome(Verdict.MISSING, rule.ways[0]), ways.config)
    outcome = step.outcomes[0]
    assert outcome.identity is not None  # noqa: S101 - it has passed
    lacking = missing_of(requirement, outcome.identity)
    if lacking is not None:
        error = _forbidden(requirement, ways.config.ways[outcome.way], lacking)
        raise Refusal.of(error, outcome, Verdict.FORBIDDEN.word)
    return step.outcomes


def _note(request: GatewayRequest, outcome: Outcome) -> None:
    """Note the client for the log line, as far as it is known."""
    request.exchange.auth = outcome.way
    request.exchange.identity = None if outcome.identity is None else outcome.identity.name or None


def fields_of(outcomes: Sequence[Outcome]) -> IdentityFields:
    """The fields of all ways that the request passed; the first way wins."""
    if len(outcomes) == 1:
        return outcomes[0].fields
    merged = {name: value for outcome in reversed(outcomes) for name, value in outcome.fields}
    return tuple(merged.items())


def until_s_of(outcomes: Iterable[Outcome]) -> float | None:
    """When the first of the tokens expires, over all ways; None if none does."""
    ends = [one.identity.claims.get("exp") for one in outcomes if one.identity is not None]
    return min((end for end in ends if isinstance(end, (int, float))), default=None)


def is_origin_refused(request: GatewayRequest, ways: Ways, outcomes: Iterable[Outcome], origins: Sequence[str]) -> bool:
    """Whether an unsafe request came from a page of another origin, by a credential that browsers send by themselves.

    A WebSocket handshake is a GET too, but the messages after it are not safe; a page that may open sockets by its name
    may do so with its visitor's cookies.
    """
    if request.page_is_named or (request.method in SAFE_METHODS and request.scope["type"] != "websocket"):
        return False
    if not any(_is_sent_unasked(request, ways.config.ways[one.way]) for one in outcomes):
        return False
    hosts = [host for host in (request.forwarded_host, request.host_field) if host]
    return not cors.is_own_origin(request.raw_headers, hosts, origins)


def _is_sent_unasked(request: GatewayRequest, way: Way) -> bool:
    """Whether browsers send the credential of this way by themselves: a cookie, or Basic once it was entered.

    No page can send a field of its own without CORS, so what else a request has does not count.
    """
    if not way.carriers:
        return way.reads_cookies and any(name == b"cookie" for name, _ in request.raw_headers)
    return any(_has(request, one) for one in way.carriers if one.kind == "cookie" or _is_browsers_own(one, way))


def _is_browsers_own(carrier: Carrier, way: Way) -> bool:
    """Whether browsers put Basic there."""
    return way.kind == "basic" and (carrier.kind, carrier.name) == ("header", "authorization")


def _has(request: GatewayRequest, carrier: Carrier) -> bool:
    return any(True for _ in values_in(carrier.kind, carrier.name.encode("ascii"), request.raw_headers, b""))


# -- refusals -----------------------------------------------------------------------------------------------------


def _refused(request: GatewayRequest, ways: Ways, refusal: Refusal) -> HttpResponseBase:
    """The answer of another service. Raises the refusal if it is the gateway's own."""
    ways.count(refusal.outcome.way, refusal.word)
    _note(request, refusal.outcome)
    if refusal.outcome.answer is None:
        raise refusal
    request.exchange.fail(refusal)
    answer: HttpResponseBase = refusal.outcome.answer
    return answer


def _refusal(rule: Rule, outcome: Outcome, config: AuthConfig) -> Refusal:
    """The failure for an outcome."""
    reason = _REASONS[outcome.verdict]
    headers: list[Pair] = []
    if reason.status == 401:
        wrong = outcome.verdict is not Verdict.MISSING
        headers = challenges([config.ways[way] for way in rule.ways], wrong=outcome.way if wrong else None)
    elif reason is Reason.AUTH_FORBIDDEN and _is_bearer(config.ways[outcome.way]):
        headers = [(b"www-authenticate", b'Bearer error="insufficient_scope"')]
    elif reason is Reason.AUTH_UNAVAILABLE:
        headers = [(b"retry-after", b"%d" % outcome.retry_after_s)]
    error = GatewayError(reason, outcome.detail, upstream=outcome.upstream, cause=outcome.cause, headers=headers)
    return Refusal.of(error, outcome, outcome.verdict.word)


def challenges(ways: Iterable[Way], wrong: str | None = None) -> list[Pair]:
    """A challenge for each way that has one (RFC 9110, section 11.6.1), without repetition; `wrong` is the way that
    refused its credential (RFC 6750, section 3: `error` only where there was one)."""
    found: dict[bytes, None] = {}
    for way in ways:
        if way.kind == "basic":
            found[b'Basic realm="portway", charset="UTF-8"'] = None
        elif _is_bearer(way):
            found[b'Bearer error="invalid_token"' if way.name == wrong else b'Bearer realm="portway"'] = None
        elif way.kind == "keys":
            found[b'ApiKey realm="portway"'] = None
    if b'Bearer error="invalid_token"' in found:
        found.pop(b'Bearer realm="portway"', None)
    if not found:  # RFC 9110, section 15.5.2: a 401 has one; only the service or code of such a way knows its challenge
        found[b'Bearer realm="portway"'] = None
    return [(b"www-authenticate", value) for value in found]


def _is_bearer(way: Way) -> bool:
    return way.kind == "jwt" or any(str(carrier) == "header:authorization" for carrier in way.carriers)


def _forbidden(requirement: Requirement, way: Way, lacking: str) -> GatewayError:
    """The failure of a known client that lacks a right."""
    headers: list[Pair] = []
    if way.kind == "jwt":
        scopes = f', scope="{" ".join(requirement.scopes)}"' if requirement.scopes else ""
        headers = [(b"www-authenticate", f'Bearer error="insufficient_scope"{scopes}'.encode("ascii"))]
    return GatewayError(Reason.AUTH_FORBIDDEN, lacking, headers=headers)
