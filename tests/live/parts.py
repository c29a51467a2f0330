"""What the tests of fan-outs share: services that are told apart by the path, and what is read out of the answers.

u.script(user__1='{"name":"Ada"}', orders=silent, team=status(404))    # what /user/1, /orders, /team meet
answer = gateway.get("/home/1")
assert parts_of(answer) == "orders;e=response_timeout, team;s=404, user;s=200"
"""

import json
import re
from typing import Any

from .harness import Answer, Gateway, Request, Upstream, Wire, eventually, request_bytes
from .stage import Act, message, says

NDJSON, EVENTS = "application/x-ndjson", "text/event-stream"


def said(body: bytes | str, *fields: str) -> bytes:
    """A good answer with this JSON."""
    raw = body.encode() if isinstance(body, str) else body
    return message("200 OK", raw, "Content-Type: application/json", *fields)


class Parts(Upstream):
    """Answers by the path: what the test scripted for it, or with the target that was asked for."""

    def __init__(self, **options: Any) -> None:
        self.acts: dict[str, Act] = {}
        super().__init__(**options)

    def on_request(self, request: Request) -> None:
        act = self.acts.get(request.target.partition("?")[0])
        (act or says(said(json.dumps({"at": request.target}))))(request)

    def script(self, **acts: Act | str | bytes) -> None:
        """What the paths meet, `a__1` is `/a/1`; a text is the JSON of a good answer."""
        for name, act in acts.items():
            self.acts["/" + name.replace("__", "/")] = says(said(act)) if isinstance(act, (str, bytes)) else act

    def asked(self, under: str = "/") -> list[Request]:
        return [request for request in self.requests if request.target.startswith(under)]

    def wait_for_part_of(self, request_id: str, path: str) -> Request:
        """The part of that very request; a call that an earlier test left may still come in."""

        def those() -> list[Request]:
            return [one for one in self.asked(path) if one.all("x-request-id") == [request_id]]

        return eventually(those)[0]

    def clear(self) -> None:
        """As new, for the next test."""
        self.acts.clear()
        self.forget()


def begin(gateway: Gateway, target: str, *fields: str) -> Wire:
    """Send a request; its answer is still to be read from the wire."""
    wire = gateway.connect()
    wire.send(request_bytes("GET", target, *fields))
    return wire


def all_close(requests: list[Request]) -> None:
    """Wait until the gateway has closed the connections of all of them."""
    eventually(lambda: not any(request.connection.is_open for request in requests), 3)


# -- answers ------------------------------------------------------------------------------------------------------


def parts_of(answer: Answer) -> str:
    """Gateway-Parts without the times."""
    value = answer.one("gateway-parts")
    assert all(re.search(r";ms=\d+$", one) or one.endswith(";e=skipped") for one in value.split(", "))
    return re.sub(r";ms=\d+", "", value)


def problem_of(answer: Answer) -> dict[str, Any]:
    assert answer.one("content-type") == "application/problem+json"
    assert answer.one("cache-control") == "no-store"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status
    return problem


def lines_of(answer: Answer) -> list[Any]:
    assert answer.body.endswith(b"\n")
    return [json.loads(line) for line in answer.body.splitlines()]


def events_of(answer: Answer) -> list[tuple[str, Any]]:
    """(id, data) of each event."""
    assert answer.body.endswith(b"\n\n")
    found = []
    for event in answer.body.decode().removesuffix("\n\n").split("\n\n"):
        (first, second) = event.split("\n")
        assert first.startswith("id: ")
        assert second.startswith("data: ")
        found.append((first.removeprefix("id: "), json.loads(second.removeprefix("data: "))))
    return found


def told_by(answer: Answer, media: str) -> list[Any]:
    """What the lines or events of a stream say."""
    return lines_of(answer) if media == NDJSON else [data for _, data in events_of(answer)]


def timeless(told: dict[str, Any]) -> dict[str, Any]:
    assert told["ms"] >= 0
    return {name: value for name, value in told.items() if name != "ms"}
