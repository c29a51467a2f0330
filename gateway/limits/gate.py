"""The gates of a route's stack, the fields that they add to each answer, and `limited()` for views.

The limits that a request has met are kept with it, so that any answer to it shows what is left.
"""

from collections.abc import Awaitable, Callable, Sequence

from gateway.errors import GatewayError, Reason
from gateway.http.gate import Gate
from gateway.http.headers import Pair
from gateway.http.request import GatewayRequest
from gateway.limits.fields import least, policy_field, state_field
from gateway.limits.gcra import Rate, left, retry_after_s, wait_s
from gateway.limits.grammar import BY_CLIENT, window_text
from gateway.limits.keys import client_text, text_of
from gateway.limits.limiter import Limiter
from gateway.limits.policies import Policy
from gateway.limits.store import Away, Taken

PASSED, REFUSED = "passed", "refused"


class Met:
    """The limits that a request has met: all that apply, as their field; and of each that was asked, what is left."""

    __slots__ = ("field", "policies", "refused", "states")

    def __init__(self, policies: Sequence[Policy], field: Pair) -> None:
        self.policies = policies
        self.field = field
        self.states: list[tuple[Policy, float | None]] = []
        self.refused: tuple[str, Rate, float, int] | None = None  # with Retry-After in seconds

    def add(self, policies: Sequence[Policy], taken: Taken) -> None:
        """Add policies that let it pass, with what is left of them, where that is known."""
        if len(policies) == 1:  # as nearly always: the way for many costs a microsecond more
            self.states.append((policies[0], taken.ahead_s[0]))
        else:
            self.states.extend(zip(policies, taken.ahead_s, strict=True))

    def pairs(self) -> list[Pair]:
        """RateLimit-Policy and RateLimit, the latter of the limit that refused, else of the one with the least left."""
        if self.refused is not None:
            return [self.field, state_field(*self.refused)]
        if len(self.states) == 1:
            policy, ahead_s = self.states[0]
            return [self.field] if ahead_s is None else [self.field, state_field(policy.name, policy.rate, ahead_s)]
        states = [(policy.name, policy.rate, ahead_s) for policy, ahead_s in self.states if ahead_s is not None]
        return [self.field, state_field(*least(states))] if states else [self.field]


def limiter_of(request: GatewayRequest) -> Limiter:
    """The limits of the worker that serves a request."""
    return request.services.limits  # type: ignore[return-value]  # the `http` room does not know the type


# -- in the stack of a route --------------------------------------------------------------------------------------


def all_limits_gate(policies: Sequence[Policy], cost: int = 1) -> Gate | None:
    """All limits in one decision, for a route without authentication."""
    return _gate(policies, policies, cost)


def client_limits_gate(policies: Sequence[Policy], cost: int = 1) -> Gate | None:
    """The limits of a route by client or host, which are asked before auth."""
    return _gate(policies, [policy for policy in policies if policy.is_before_auth], cost)


def limits_gate(policies: Sequence[Policy], cost: int = 1) -> Gate | None:
    """All other limits, which are asked after auth."""
    return _gate(policies, [policy for policy in policies if not policy.is_before_auth], cost)


def _gate(every: Sequence[Policy], asked: Sequence[Policy], cost: int) -> Gate | None:
    if not asked:
        return None
    field = policy_field((policy.name, policy.rate) for policy in every)
    texts_of = _texts_of(asked)
    passed = tuple((limit, PASSED) for limit in dict.fromkeys(policy.limit for policy in asked))

    def gate(request: GatewayRequest) -> Awaitable[None] | None:
        met: Met | None = request.limits_met
        if met is None:
            met = request.limits_met = Met(every, field)
        limiter, texts = limiter_of(request), texts_of(request)
        try:
            taken = limiter.store.taken(asked, texts, cost)
        except Away:
            taken = None
        if taken is None:
            return wait(limiter, met, texts)
        settle(limiter, met, taken)
        return None

    async def wait(limiter: Limiter, met: Met, texts: Sequence[str]) -> None:
        settle(limiter, met, await limiter.take(asked, texts, cost))

    def settle(limiter: Limiter, met: Met, taken: Taken) -> None:
        if not taken.passed:
            raise _refusal(limiter, met, asked, taken, cost)
        counts = limiter.counts
        for key in passed:
            counts[key] = counts.get(key, 0) + 1
        met.add(asked, taken)

    return gate


def _texts_of(policies: Sequence[Policy]) -> Callable[[GatewayRequest], list[str]]:
    """The keys of a request, one for each policy; equal ones are made once."""
    keys = [policy.key for policy in policies]
    if keys == [BY_CLIENT]:
        return lambda request: [client_text(request.exchange.client)]
    if len(set(keys)) == 1:
        key, count = keys[0], len(keys)
        return lambda request: [text_of(key, request)] * count
    return lambda request: [text_of(key, request) for key in keys]


def _refusal(limiter: Limiter, met: Met, policies: Sequence[Policy], taken: Taken, cost: int) -> GatewayError:
    """The 429 of the limit for which a request must wait longest."""
    waits = [
        (wait_s(ahead_s, policy.rate, cost), policy, ahead_s)
        for policy, ahead_s in zip(policies, taken.ahead_s, strict=True)
        if ahead_s is not None and (left(ahead_s, policy.rate) < cost)
    ]
    for limit in dict.fromkeys(policy.limit for _, policy, _ in waits):
        limiter.count(limit, REFUSED)
    seconds, policy, ahead_s = max(waits, key=lambda one: one[0])
    retry_s = retry_after_s(seconds)
    met.refused = (policy.name, policy.rate, ahead_s, retry_s)
    window = window_text(policy.rate.window_s)
    detail = f"At most {policy.rate.units} in {window}: the next one may come in {retry_s} s."
    if cost > policy.rate.burst:
        detail = f"It counts as {cost}, more than may ever come at once."
    return GatewayError(Reason.RATE_LIMITED, detail, headers=[(b"retry-after", b"%d" % retry_s)])


# -- for views ----------------------------------------------------------------------------------------------------


async def limited(request: GatewayRequest, name: str, cost: int = 1) -> None:
    """Count `cost` units of the limit of that name, GATEWAY_RATE_LIMIT_<NAME>, for a request: `await limited(request,
    "api", cost=5)`.

    Raises GatewayError: RATE_LIMITED if they may not pass now, which becomes the 429 unless it is caught;
    RATE_LIMIT_UNAVAILABLE if the limit is `closed` and its store away. Raises LookupError for a name that the
    environment does not have, ValueError for a cost that is no whole number above zero.
    """
    limiter = limiter_of(request)
    policies = limiter.policies.named.get(name)
    if policies is None:
        raise LookupError(f"there is no limit {name}: set GATEWAY_RATE_LIMIT_{name.upper()}")
    given: object = cost  # a person may write anything here
    if not isinstance(given, int) or given < 1:
        raise ValueError(f"expected a cost of whole units, at least 1, not {given!r}")
    met: Met | None = request.limits_met
    every = tuple(dict.fromkeys([*(() if met is None else met.policies), *policies]))
    field = policy_field((policy.name, policy.rate) for policy in every)
    if met is None:
        met = request.limits_met = Met(every, field)
    met.policies, met.field = every, field
    texts = _texts_of(policies)(request)
    taken = await limiter.take(policies, texts, cost)
    if not taken.passed:
        raise _refusal(limiter, met, policies, taken, cost)
    limiter.count(name, PASSED)
    met.add(policies, taken)
