"""Whether an endpoint may be asked, by the results of requests and probes: pure moves between few states.

Requests and probes decide independently. Requests eject an endpoint that fails several times in a row, for a pause;
then one request is its trial. Probes take an endpoint out and bring it back after several equal results in a row.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

# In a row; Envoy's default for consecutive 5xx and gateway errors.
FAILURES_TO_EJECT: Final = 5
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 60.0


class EndpointState(Enum):
    """Whether requests go to an endpoint, in the words of circuit breakers; the values are what /-/status shows."""

    HEALTHY = "in"
    EJECTED = "out"
    HALF_OPEN = "trial"  # out, while one request tries it


class Event(Enum):
    """What happens to an endpoint that has been failing."""

    EJECT = "eject"
    TRY = "try"
    SUCCEED = "succeed"
    FAIL = "fail"
    ABANDON = "abandon"  # the trial ended without a result: its client left


# All legal moves; any other changes nothing.
MOVES: Final = {
    (EndpointState.HEALTHY, Event.EJECT): EndpointState.EJECTED,
    (EndpointState.EJECTED, Event.TRY): EndpointState.HALF_OPEN,
    (EndpointState.EJECTED, Event.SUCCEED): EndpointState.HEALTHY,  # of a request that had nowhere else to go
    (EndpointState.HALF_OPEN, Event.SUCCEED): EndpointState.HEALTHY,
    (EndpointState.HALF_OPEN, Event.FAIL): EndpointState.EJECTED,
    (EndpointState.HALF_OPEN, Event.ABANDON): EndpointState.EJECTED,
}


@dataclass(frozen=True, slots=True)
class Health:
    """The state by requests. `failures` are in a row; `until_s` ends a pause, `back_s` is the end of the last one."""

    state: EndpointState = EndpointState.HEALTHY
    failures: int = 0
    pause_s: float = 0.0
    until_s: float = 0.0
    back_s: float = float("-inf")


HEALTHY: Final = Health()


def succeeded(health: Health, now_s: float, *, sent_in: bool) -> Health:
    """After a good answer. `sent_in`: the endpoint was healthy when it was asked, so that the answer is no news."""
    if health.state is EndpointState.HEALTHY:
        return replace(health, failures=0)
    if sent_in or (health.state, Event.SUCCEED) not in MOVES:
        return health
    return replace(health, state=EndpointState.HEALTHY, failures=0, back_s=now_s)


def failed(health: Health, now_s: float, chance: float, *, sent_in: bool, may_leave: bool) -> Health:
    """After a failure. `chance` (from 0 up to 1) spreads the pauses; `may_leave`: the others suffice."""
    if health.state is EndpointState.HEALTHY:
        health = replace(health, failures=health.failures + 1)
        event = Event.EJECT if health.failures >= FAILURES_TO_EJECT and may_leave else None
    else:
        event = None if sent_in else Event.FAIL
    if event is None or (health.state, event) not in MOVES:
        return health
    pause_s = _next_pause_s(health, now_s)
    until_s = now_s + pause_s * (0.8 + 0.2 * chance)
    return replace(health, state=MOVES[health.state, event], pause_s=pause_s, until_s=until_s)


def _next_pause_s(health: Health, now_s: float) -> float:
    """Twice the last pause, unless the endpoint has been healthy for as long since."""
    relapsed = health.state is EndpointState.HALF_OPEN or now_s - health.back_s < health.pause_s
    return min(LONGEST_PAUSE_S, health.pause_s * 2) if relapsed and health.pause_s else FIRST_PAUSE_S


def trial_due_s(health: Health, *, repeatable: bool) -> float:
    """When a request may be the trial; one that cannot be repeated, only a pause later: a better one may come."""
    if (health.state, Event.TRY) not in MOVES:
        return float("inf")
    return health.until_s if repeatable else health.until_s + health.pause_s


def tried(health: Health) -> Health:
    """After a request was sent as the trial."""
    return replace(health, state=MOVES.get((health.state, Event.TRY), health.state))


def abandoned(health: Health, now_s: float) -> Health:
    """After a trial that ended without a result: the next request may be the trial."""
    if (health.state, Event.ABANDON) not in MOVES:
        return health
    return replace(health, state=EndpointState.EJECTED, until_s=now_s)


def may_leave(out: int, total: int) -> bool:
    """Whether one more of `total` endpoints may be ejected: never more than half are, so never the only one."""
    return (out + 1) * 2 <= total


# -- probes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Probed:
    """The state by probes: whether it is up, and how many probes in a row contradict that."""

    up: bool = True
    against: int = 0


def probed(state: Probed, good: bool, rise: int, fall: int) -> Probed:
    """After one more probe: `rise` good ones in a row bring an endpoint back, `fall` bad ones take it out."""
    if good == state.up:
        return Probed(state.up)
    against = state.against + 1
    return Probed(not state.up) if against >= (fall if state.up else rise) else Probed(state.up, against)
