"""A response as a client of the gateway received it, with the gateway's log line of the request."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from gateway.errors import Reason
from gateway.testing.headers import Headers
from gateway.testing.wire import Pair

_SHOWN = 200


class Answer:
    """A response and the log line of its request.

    `pairs` are the field lines as they came, names in lower case; `headers` are them by name. `reason` is the gateway's
    failure, or None; `attempts` is the number of calls for a proxied request; `parts` are those of a fan-out by name,
    each as in the log; `route` is the route's name.
    """

    def __init__(self, status: int, pairs: Sequence[Pair], body: bytes, log: Mapping[str, Any]) -> None:
        self.status = status
        self.pairs = list(pairs)
        self.headers = Headers(pairs)
        self.body = body
        self.log = log

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The JSON of the body. Raises ValueError, which shows the body, if it is not JSON."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise ValueError(f"{self!r} is no JSON ({error}): {self.body[:_SHOWN]!r}") from None

    @property
    def reason(self) -> Reason | None:
        word = self.log.get("reason")
        return None if word is None else Reason[word.upper()]

    @property
    def route(self) -> str | None:
        return self.log.get("route")

    @property
    def attempts(self) -> int | None:
        return self.log.get("attempts")

    @property
    def parts(self) -> dict[str, Mapping[str, Any]]:
        return {part["part"]: part for part in self.log.get("parts") or ()}

    def __repr__(self) -> str:
        words = ["Answer", str(self.status), self.log.get("reason") or "", self.log.get("method") or ""]
        return f"<{' '.join(filter(None, [*words, self.log.get('path') or '']))}>"


class BrokenOff(Exception):
    """The answer broke off after it had begun: a client must not take it for whole. `answer` is the received part."""

    def __init__(self, answer: Answer) -> None:
        reason = answer.reason
        super().__init__(f"the answer broke off{f': {reason.word}' if reason is not None else ''}; {answer!r}")
        self.answer = answer


class SocketRefused(Exception):
    """A WebSocket was refused. `answer` is the response."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"the handshake was answered {answer!r}")
        self.answer = answer


class Stream:
    """A response as it arrives: `status` and `headers` are known, `async for piece in stream` reads its body.

    `log` is set once the body has ended.
    """

    def __init__(self, status: int, pairs: Sequence[Pair], body: AsyncIterator[bytes]) -> None:
        self.status = status
        self.pairs = list(pairs)
        self.headers = Headers(pairs)
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body

    async def events(self) -> AsyncIterator[dict[str, str]]:
        """The events of `text/event-stream`, each with its fields: `event`, `data` (of several lines), `id`."""
        left = b""
        async for piece in self._body:
            *blocks, left = (left + piece).replace(b"\r\n", b"\n").split(b"\n\n")
            for block in blocks:
                fields: dict[str, str] = {}
                for line in block.decode().split("\n"):
                    name, _, value = line.partition(":")
                    if name:
                        value = value.removeprefix(" ")
                        fields[name] = f"{fields[name]}\n{value}" if name in fields and name == "data" else value
                if fields:
                    yield fields
