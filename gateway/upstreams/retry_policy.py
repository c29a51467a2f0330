"""Whether a request may be sent again: what failed, what had been sent, how often, and within which budget."""

from collections import deque
from collections.abc import Iterable
from typing import Final

from gateway.errors import GatewayError, Reason
from gateway.http.headers import Pair, all_of
from gateway.http.methods import IDEMPOTENT_METHODS

# The largest body that is kept to be sent again.
MAX_KEPT_BYTES: Final = 64 * 1024

# Statuses of an upstream that count as failures of the endpoint, and may be retried.
FAILED_STATUSES: Final = frozenset({502, 503, 504})
RETRIABLE: Final = frozenset(
    {
        Reason.CONNECTION_REFUSED,
        Reason.CONNECTION_FAILED,
        Reason.CONNECT_TIMEOUT,
        Reason.TLS_FAILED,
        Reason.TLS_CERTIFICATE,
        Reason.CONNECTION_RESET,
        Reason.RESPONSE_INVALID,
        Reason.RESPONSE_INCOMPLETE,
        Reason.RESPONSE_TIMEOUT,
    }
)
# Failures that count against an endpoint. An answer that is too large does not: another endpoint would send it too.
FAULTS: Final = RETRIABLE | {Reason.REQUEST_WRITE_TIMEOUT, Reason.RESPONSE_IDLE_TIMEOUT}


class Unsent(GatewayError):
    """No connection could be made: nothing of the request was sent."""


class StaleConnection(GatewayError):
    """A kept-alive connection turned out dead: the upstream may have closed it just as it was used again."""


Failure = Reason | int  # what went wrong, or the status that the upstream answered
DEFAULT_RETRY_ON: Final[frozenset[Failure]] = RETRIABLE | FAILED_STATUSES


def failure_of(text: str) -> Failure:
    """A word of `__RETRY_ON`: a reason (`connection_reset`) or a status (`503`). Raises ValueError."""
    for reason in RETRIABLE:
        if reason.word == text:
            return reason
    if len(text) == 3 and text.isascii() and text.isdigit() and 400 <= int(text) <= 599:
        return int(text)
    words = ", ".join(sorted(reason.word for reason in RETRIABLE))
    raise ValueError(f"expected statuses from 400 to 599 and any of {words}")


def is_repeatable(method: str, pairs: Iterable[Pair]) -> bool:
    """Whether a request may be sent again although the first one may have been acted on."""
    # draft-ietf-httpapi-idempotency-key-header: the upstream recognises a repetition by it.
    if method in IDEMPOTENT_METHODS:
        return True
    keys = all_of(pairs, b"idempotency-key")
    return len(keys) == 1 and bool(keys[0].strip())


def is_retriable(
    failure: Failure, on: frozenset[Failure], *, sent: bool, repeatable: bool, is_busy: bool = False
) -> bool:
    """Whether a failed attempt may be repeated. `repeatable`: the request and its body could be sent again now.

    `is_busy` is a 503 with Retry-After: the client is to decide when to come again.
    """
    return failure in on and not is_busy and (repeatable or not sent)


def pause_s(retry: int, chance: float) -> float:
    """How long to wait before a retry, by its number (from 1): random, up to 20 ms at first, doubling up to 320 ms."""
    return min(0.32, 0.01 * 2.0**retry) * chance


class Budget:
    """Limits the retries of the last ten seconds to a share of the requests of that time; a few are always allowed.

    Without it retries would multiply the load of an upstream that fails because of its load.
    """

    WINDOW_S: Final = 10
    MINIMUM: Final = 50

    def __init__(self, share: float) -> None:
        self._share = share
        self._second = 0
        self._requests = 0
        self._retries = 0
        self._past: deque[tuple[int, int, int]] = deque()  # (second, requests, retries)

    def request(self, now_s: float) -> None:
        """Count a request."""
        if int(now_s) != self._second:
            self._turn(int(now_s))
        self._requests += 1

    def spend(self, now_s: float) -> bool:
        """Whether one more retry is allowed; if so, it is counted."""
        if int(now_s) != self._second:
            self._turn(int(now_s))
        requests = self._requests + sum(one[1] for one in self._past)
        retries = self._retries + sum(one[2] for one in self._past)
        allowed = max(self.MINIMUM, self._share * requests) if self._share else 0
        if retries + 1 > allowed:
            return False
        self._retries += 1
        return True

    def _turn(self, second: int) -> None:
        self._past.append((self._second, self._requests, self._retries))
        self._second, self._requests, self._retries = second, 0, 0
        while self._past and self._past[0][0] <= second - self.WINDOW_S:
            self._past.popleft()
