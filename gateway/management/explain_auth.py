"""Whether a client would be let in, and why: the ways of a route are asked as the gateway asks them.

As in the gateway, keys of issuers may be fetched, services of kind ask are asked, and functions of a team's own run;
nothing is sent to the service of the route.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from gateway.auth import tokens
from gateway.auth.gate import fields_of, is_origin_refused, passing
from gateway.auth.rules import Outcome, Requirement
from gateway.auth.ways import JwtWay, Ways
from gateway.config.records import Config
from gateway.errors import GatewayError, Reason
from gateway.http.identity import Identity
from gateway.http.request import GatewayRequest
from gateway.management.explain_call import Section
from gateway.upstreams.pool import Pool


@asynccontextmanager
async def asking(ways: Ways, config: Config) -> AsyncIterator[Ways]:
    """The ways with their pools, for the duration of the context."""
    names = {way.upstream for way in config.auth.ways.values()}
    names |= {way.keys_from.place for way in config.auth.ways.values() if way.keys_from is not None}
    pools = {name: Pool(upstream) for name, upstream in config.upstreams.items() if name in names}
    for pool in pools.values():
        pool.start()
    ways.make(pools)
    try:
        yield ways
    finally:
        await ways.aclose()
        for pool in pools.values():
            await pool.aclose()


async def who_asks(
    request: GatewayRequest, ways: Ways, requirements: Sequence[Requirement], origins: Sequence[str]
) -> Section:
    """The requirement of a route, and each way's outcome for a request, which is let in as by the gateway."""
    known: dict[str, Outcome] = {}
    rows = [["asks for", str(one.rule), _limits(one)] for one in requirements]
    refusal: GatewayError | None = None
    passed: dict[str, Outcome] = {}
    for requirement in requirements:
        try:
            found = await passing(request, ways, requirement, known)
        except GatewayError as error:
            refusal = refusal or error
        else:
            passed |= {outcome.way: outcome for outcome in found}
    rows += [[name, one.verdict.word, _why(one)] for name, one in known.items()]
    outcomes = tuple(passed.values())
    if refusal is None and is_origin_refused(request, ways, outcomes, origins):
        refusal = GatewayError(Reason.ORIGIN_REFUSED)
    if refusal is not None:
        lacks = "" if refusal.reason is not Reason.AUTH_FORBIDDEN else f"{refusal.detail} "
        word = f"{refusal.status} {refusal.reason.word}"
        rows.append(["refused", word, f"{lacks}What follows is for who is let in."])
    elif outcomes:
        request.admit(outcomes[0].identity, fields_of(outcomes))
        rows.append(["let in", _named(outcomes[0].identity), ""])
    else:
        rows.append(["let in", "nobody need be known", ""])
    return Section("Who asks", rows)


def _limits(requirement: Requirement) -> str:
    parts = []
    if requirement.roles:
        parts.append(f"one of the roles {' '.join(requirement.roles)}")
    if requirement.scopes:
        parts.append(f"the scopes {' '.join(requirement.scopes)}")
    return ", ".join(parts)


def _why(outcome: Outcome) -> str:
    if outcome.identity is not None:
        return _named(outcome.identity)
    return " ".join(filter(None, (outcome.detail, outcome.cause)))


def _named(identity: Identity | None) -> str:
    if identity is None:
        return ""
    roles = f", roles {' '.join(identity.roles)}" if identity.roles else ""
    scopes = f", scopes {' '.join(identity.scopes)}" if identity.scopes else ""
    return f"{identity.name or 'somebody without a name'} by {identity.way}{roles}{scopes}"


async def examined_tokens(config: Config, text: bytes, now_s: float) -> Mapping[str, Identity | Outcome]:
    """The result of each way of kind jwt for a token, by the name of the way."""
    found: dict[str, Identity | Outcome] = {}
    async with asking(Ways(config.auth, {}, _no_thread), config) as ways:
        for way in config.auth.ways.values():
            running = ways[way.name] if way.kind == "jwt" else None
            if isinstance(running, JwtWay):
                one = await running.examine(text, now_s)
                found[way.name] = one if isinstance(one, Outcome) else tokens.identity_of(one, way)
    return found


async def _no_thread(work: object) -> bool:
    raise RuntimeError("no password is looked at to examine a token")
