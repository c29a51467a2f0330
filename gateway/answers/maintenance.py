"""The gate that closes routes for a while: MAINTENANCE."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic

from gateway.errors import GatewayError, Reason
from gateway.http.gate import Gate
from gateway.http.request import GatewayRequest

RETRY_AFTER_S = 60
_LOOK_S = 1.0  # how often the file is checked


def there(path: str) -> bool:
    """Whether there is such a file. One check per second costs less than a call in a thread."""
    return Path(path).exists()


def maintenance_gate(value: bool | str | None, now: Callable[[], float] = monotonic) -> Gate | None:
    """`value` is True, or the path of a file: while it exists, requests are refused. None where neither is set."""
    if not value:
        return None
    path = value if isinstance(value, str) else ""
    looked_s, is_closed = float("-inf"), not path

    def gate(request: GatewayRequest) -> None:
        nonlocal looked_s, is_closed
        if path and now() - looked_s >= _LOOK_S:
            looked_s, is_closed = now(), there(path)
        if is_closed:
            raise GatewayError(Reason.MAINTENANCE, headers=[(b"retry-after", b"%d" % RETRY_AFTER_S)])

    return gate
