"""The sockets of a worker: how many are open, and how they close while it drains."""

import asyncio
from collections import Counter
from typing import Final

from gateway.errors import GatewayError, Reason
from gateway.sockets import codes
from gateway.sockets.codes import Closing
from gateway.sockets.session import Session

# Closed clients reconnect elsewhere: not all at once.
_APART_S: Final = 0.002


class OpenSockets:
    """Handshakes under way and open sockets, `most` of them at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._open: dict[Session, str] = {}  # with their routes
        self._closing: Closing | None = None
        self._none_left: asyncio.Event | None = None

    def take(self) -> None:
        """A handshake begins; `give` back the place at its end, or at the end of its socket.

        Raises WEBSOCKETS_FULL, and DRAIN_CUT where the worker stops.
        """
        retry_later = [(b"retry-after", b"1")]
        if self._closing is not None:
            raise GatewayError(Reason.DRAIN_CUT, headers=retry_later)
        if self._taken >= self._most:
            raise GatewayError(Reason.WEBSOCKETS_FULL, headers=retry_later)
        self._taken += 1

    def give(self) -> None:
        self._taken -= 1
        if not self._taken and self._none_left is not None:
            self._none_left.set()

    def add(self, session: Session, route: str) -> None:
        """The socket is open; `remove` it at its end."""
        self._open[session] = route
        if self._closing is not None:
            session.end(self._closing)

    def remove(self, session: Session) -> None:
        self._open.pop(session, None)

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def taken(self) -> int:
        """How many are open or in their handshake."""
        return self._taken

    def by_route(self) -> dict[str, int]:
        return dict(Counter(self._open.values()))

    def close_all(self) -> None:
        """Close all now, and those that are about to open."""
        self._closing = Closing(codes.GOING_AWAY, "the gateway stops", codes.GATEWAY)
        for session in list(self._open):
            session.end(self._closing)

    async def drain(self, within_s: float) -> None:
        """Close all, spread over at most `within_s`, accept no more, and wait until they have ended."""
        self._closing = Closing(codes.GOING_AWAY, "the gateway stops", codes.GATEWAY)
        sessions = list(self._open)
        apart_s = min(_APART_S, within_s / max(1, len(sessions)))
        for number, session in enumerate(sessions, start=1):
            session.end(self._closing)
            if number % 10 == 0:
                await asyncio.sleep(10 * apart_s)
        if self._taken:
            self._none_left = asyncio.Event()
            await self._none_left.wait()
