"""What the tests of the cache share: an upstream that is scripted by path, and pages of it behind a gateway.

page.answers(fresh("one"), fresh("two"))     # what the upstream says, one after the other; the last one from then on
assert page.get().body == b"one"
assert said(page.get()) == "portway; hit; ttl=60"
assert len(page.asked) == 1
"""

import itertools
import re
import threading
from collections import deque
from typing import Any

from .harness import Answer, Gateway, Request, Upstream, Wire, eventually, request_bytes
from .stage import Act, message, says

_NUMBERS = itertools.count(1)


def fresh(body: bytes | str, *fields: str, control: str = "max-age=60") -> Act:
    """A good answer, for a minute unless `control` says otherwise (nothing, if it is empty)."""
    raw = body.encode() if isinstance(body, str) else body
    return says(message("200 OK", raw, *([f"Cache-Control: {control}"] if control else []), *fields))


def chunked(*pieces: bytes, head: str = "Cache-Control: max-age=60", end: bool = True) -> bytes:
    """An answer whose length nobody knows before its end."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{head}\r\n\r\n".encode() + framed + b"0\r\n\r\n" * end


def said(answer: Answer) -> str:
    """What this cache says of an answer: the last of its Cache-Status lines."""
    return answer.all("cache-status")[-1]


def is_hit(answer: Answer) -> bool:
    return said(answer).startswith("portway; hit")


def ttl_of(answer: Answer) -> int:
    found = re.search(r"; ttl=(-?\d+)", said(answer))
    assert found is not None, said(answer)
    return int(found[1])


class Origin(Upstream):
    """Answers by the path, with or without its query; what nobody wrote a script for gets its own target back."""

    def __init__(self, **options: Any) -> None:
        self.acts: dict[str, deque[Act]] = {}
        self._lock = threading.Lock()
        super().__init__(**options)

    def answers(self, path: str, *acts: Act) -> None:
        self.acts[path] = deque(acts)

    def on_request(self, request: Request) -> None:
        with self._lock:
            acts = self.acts.get(request.target) or self.acts.get(request.target.partition("?")[0])
            act = None if acts is None else acts[0] if len(acts) == 1 else acts.popleft()
        (act or fresh(request.target))(request)

    def asked(self, path: str) -> list[Request]:
        return [request for request in list(self.requests) if request.target.partition("?")[0] == path]


class Page:
    """A path that no other test asks for: what the upstream answers there, and what clients get."""

    def __init__(self, gateway: Gateway, origin: Origin, under: str = "/c", *, at: str = "") -> None:
        self.gateway = gateway
        self.origin = origin
        self.path = at or f"{under}/{next(_NUMBERS)}"

    def answers(self, *acts: Act) -> None:
        self.origin.answers(self.path, *acts)

    @property
    def asked(self) -> list[Request]:
        """The upstream's side: what came for this path."""
        return self.origin.asked(self.path)

    def raw(self, *fields: str, method: str = "GET", more: str = "", host: str = "gateway.test") -> bytes:
        length = ["Content-Length: 0"] if method in {"POST", "PUT", "PATCH"} else []
        return request_bytes(method, self.path + more, *length, *fields, host=host)

    def get(
        self, *fields: str, method: str = "GET", more: str = "", host: str = "gateway.test", source: str | None = None
    ) -> Answer:
        """Ask, on a connection of its own. `more` is added to the path."""
        return self.gateway.ask(self.raw(*fields, method=method, more=more, host=host), source=source)

    def begin(self, *fields: str, more: str = "", receive_buffer_bytes: int = 0) -> Wire:
        """Send a request; its answer is still to be read from the wire."""
        wire = self.gateway.connect(receive_buffer_bytes=receive_buffer_bytes)
        wire.send(self.raw(*fields, more=more))
        return wire

    def line(self, answer: Answer) -> dict[str, Any]:
        return self.gateway.request_line(answer.one("x-request-id"))

    def wait_until_hit(self, *fields: str, within_s: float = 3.0) -> Answer:
        """An answer from the cache, once there is one."""
        found: list[Answer] = []

        def hits() -> bool:
            found.append(self.get(*fields))
            return is_hit(found[-1])

        eventually(hits, within_s)
        return found[-1]


def cached(origin: Upstream, **more: str) -> dict[str, str]:
    """An environment: /c/** as the upstream says, /t/** for a minute where it says nothing, /plain/** not at all."""
    return {
        "GATEWAY_UPSTREAM_U": origin.url,
        "GATEWAY_UPSTREAM_U__RETRIES": "0",
        "GATEWAY_ROUTE_C": "/c/** -> u",
        "GATEWAY_ROUTE_C__CACHE": "on",
        "GATEWAY_ROUTE_T": "/t/** -> u",
        "GATEWAY_ROUTE_T__CACHE": "60s",
        "GATEWAY_ROUTE_PLAIN": "/plain/** -> u",
        **{f"GATEWAY_{name}": value for name, value in more.items()},
    }


def workers_of(gateway: Gateway) -> list[int]:
    """The processes that serve, by what the log says of them."""
    return [line["pid"] for line in list(gateway.log) if line["event"] == "worker.ready"]
