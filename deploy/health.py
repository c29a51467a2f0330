"""The image's HEALTHCHECK: exit 0 if the gateway at GATEWAY_BIND answers /-/live. Standard library only.

Live, not ready: a draining gateway is not ready on purpose, and whoever restarts unhealthy containers would cut off
the very requests that it is finishing. At start both mean the same: nothing answers before start-up has ended.
"""

import http.client
import os
import sys
from pathlib import Path

ON_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to ask, not to bind


def main() -> int:
    bind = os.environ.get("GATEWAY_BIND", "").strip()
    if not bind and (file := os.environ.get("GATEWAY_BIND_FILE", "").strip()):
        bind = Path(file).read_text(encoding="utf-8-sig").strip()
    host, _, port = (bind or "127.0.0.1:8000").rpartition(":")
    host = host.strip("[]")
    connection = http.client.HTTPConnection(ON_EVERY_ADDRESS.get(host, host), int(port), timeout=2)
    try:
        connection.request("GET", "/-/live")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"{host}:{port}: {error!r}")
        return 1
    print(f"{host}:{port}: {status}")
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
