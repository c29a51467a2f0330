"""The image's HEALTHCHECK: exit 0 if the gateway at GATEWAY_BIND answers /-/live. Standard library only.

Live, not ready: a draining gateway is not ready on purpose, and whoever restarts unhealthy containers would cut off
the very requests that it is finishing. At start both mean the same: nothing answers before start-up has ended.

With GATEWAY_TLS_CERT it asks by https, and takes whatever certificate there is: it asks its own machine, and whether
clients trust the certificate is no question of life. With GATEWAY_TLS_CLIENT_CA it has no certificate to show, and asks
the plain port of GATEWAY_TLS_REDIRECT.
"""

import http.client
import os
import ssl
import sys
from pathlib import Path

ON_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to ask, not to bind


def value(name: str) -> str:
    """What the environment, or the file that its twin names, says."""
    text = os.environ.get(name, "").strip()
    if not text and (file := os.environ.get(f"{name}_FILE", "").strip()):
        text = Path(file).read_text(encoding="utf-8-sig").strip()
    return text


def connection(at: str, *, speaks_tls: bool) -> http.client.HTTPConnection:
    """To `host:port`, or to this machine where that is every address."""
    host, _, port = at.rpartition(":")
    host = host.strip("[]")
    host = ON_EVERY_ADDRESS.get(host, host)
    if not speaks_tls:
        return http.client.HTTPConnection(host, int(port), timeout=2)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, int(port), timeout=2, context=context)


def main() -> int:
    at, speaks_tls = value("GATEWAY_BIND") or "127.0.0.1:8000", bool(value("GATEWAY_TLS_CERT"))
    if speaks_tls and value("GATEWAY_TLS_CLIENT_CA"):
        at, speaks_tls = value("GATEWAY_TLS_REDIRECT"), False
        if not at:
            print("GATEWAY_TLS_CLIENT_CA asks every client for a certificate; set GATEWAY_TLS_REDIRECT for probes")
            return 1
    try:
        asked = connection(at, speaks_tls=speaks_tls)
        asked.request("GET", "/-/live")
        status = asked.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"{at}: {error!r}")
        return 1
    print(f"{at}: {status}")
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
