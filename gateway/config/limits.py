"""Limits and Valkey, checked before a worker starts: what cannot work, and what may not be intended."""

import ssl
from collections.abc import Iterator

from gateway.config.address import is_loopback
from gateway.config.records import Settings
from gateway.limits.grammar import CLIENT
from gateway.routing.urls import Routes


def problems(settings: Settings) -> Iterator[str]:
    """Why Valkey cannot be used as configured."""
    if settings.valkey_ca_pem is None:
        return
    if settings.valkey is None or not settings.valkey.url.is_tls:
        yield "GATEWAY_VALKEY_CA: only GATEWAY_VALKEY_URL=rediss://... takes this"
        return
    try:
        settings.valkey.context()
    except (ssl.SSLError, ValueError) as error:
        yield f"GATEWAY_VALKEY_CA: a certificate of it does not load: {getattr(error, 'reason', None) or error}"


def warnings(settings: Settings, routes: Routes | None) -> Iterator[str]:
    """Limits that work, but perhaps not as intended."""
    if routes is None:
        return
    if settings.valkey is not None and not len(routes.policies):
        yield "GATEWAY_VALKEY_URL: no limit is counted there; GATEWAY_RATE_LIMIT sets one"
    by_client = [policy.name for policy in routes.policies if any(part.kind == CLIENT for part in policy.key)]
    if by_client and not settings.trusted_proxies and not is_loopback(settings.bind[0]):
        yield (
            f"{', '.join(by_client)}: counted by client, and nobody is trusted to tell who that is: behind a balancer "
            "all clients are one; name it in GATEWAY_TRUSTED_PROXIES"
        )
