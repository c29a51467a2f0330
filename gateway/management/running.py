"""Commands ask the running gateway: by GATEWAY_BIND, or by a URL, through its endpoints under `/-/`."""

import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from django.core.management import CommandError

from gateway.config.records import Settings

_TIMEOUT_S = 10.0
_ON_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to ask, not to bind


def ask(
    settings: Settings, method: str, target: str, url: str = "", within_s: float = _TIMEOUT_S, *, member: str
) -> dict[str, Any]:
    """The answer of the gateway, an object with that member. Raises CommandError with the reason if there is none.

    `url` is the base of another gateway; without it the one of this environment is asked. The name in its certificate
    is not checked then, since it is on this machine.
    """
    place = url or f"the gateway on {settings.bind[0]}:{settings.bind[1]}"
    connection = _to_url(url) if url else _to_own(settings)
    connection.timeout = within_s
    fields = {} if settings.admin_token is None else {"Authorization": f"Bearer {settings.admin_token}"}
    try:
        connection.request(method, target, headers=fields)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"{place} does not answer: {error}") from None
    finally:
        connection.close()
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    refused = response.status >= 400
    if not isinstance(answer, dict) or ("detail" if refused else member) not in answer:
        raise CommandError(f"{place} answers {response.status}, and not as a gateway of ours does")
    if refused:
        raise CommandError(f"{place} answers {response.status}: {answer['detail']}")
    return answer


def _to_own(settings: Settings) -> http.client.HTTPConnection:
    host, port = settings.bind
    host = _ON_EVERY_ADDRESS.get(host, host)
    if not getattr(settings, "tls_cert_pem", None):
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)


def _to_url(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
        raise CommandError("--url is the base of a gateway, such as http://10.0.0.7:8000")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, port, timeout=_TIMEOUT_S)
