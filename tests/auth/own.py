"""Ways of a team's own."""

from django.core.exceptions import PermissionDenied

from gateway.errors import GatewayError, Reason
from gateway.http.identity import Identity
from gateway.http.request import GatewayRequest
from gateway.proxy.fetch import fetch


async def check(request: GatewayRequest) -> Identity | None:
    """Who X-Own says; it says some other things too."""
    said = request.headers.get("x-own")
    match said:
        case None:
            return None
        case "expired":
            raise GatewayError(Reason.AUTH_EXPIRED)
        case "away":
            raise GatewayError(Reason.AUTH_UNAVAILABLE)
        case "denied":
            raise PermissionDenied
        case "raises":
            raise RuntimeError("of the way")
        case "nonsense":
            return "carol"  # type: ignore[return-value]
        case "text":  # a claim `scope` as it came
            return Identity(said, roles=["boss"], scopes="orders:read-own orders:list")  # type: ignore[arg-type]
        case "letters":
            return Identity(said, roles="boss")  # type: ignore[arg-type]
        case _:
            return Identity(said, roles=("boss",) if said == "carol" else (), claims={"level": 7})


async def calls_dead(request: GatewayRequest) -> Identity | None:
    """A way that cannot find it out, since nobody answers its call."""
    return Identity((await fetch("dead:/who")).body.decode())


def synchronous(request: GatewayRequest) -> Identity | None:
    return None
