"""What a call to an endpoint is and what comes of it, in words of our own: who makes calls need not know aiohttp."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from gateway.config import Base
from gateway.errors import GatewayError
from gateway.headers import Pair


class Call(NamedTuple):
    """One request to an endpoint. `target` is the raw path and query; `pairs` hold Host and no hop-by-hop fields."""

    upstream: str
    base: Base
    method: str
    target: str
    pairs: Sequence[Pair]
    body: AsyncIterator[bytes] | None
    chunked: bool
    connect_timeout_s: float
    idle_timeout_s: float


class StaleConnection(GatewayError):
    """A kept-alive connection turned out dead: the upstream may have closed it just as it was used again."""


class Answer(Protocol):
    """An upstream's answer: its head, and a body that is read as it arrives. Read it to its end or `close` it."""

    status: int
    pairs: Sequence[Pair]

    def whole(self) -> bytes | None: ...
    def chunks(self) -> AsyncIterator[bytes]: ...
    def close(self) -> None: ...
