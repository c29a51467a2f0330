"""Counts of one open WebSocket, for its line in the log and the metrics."""

from dataclasses import dataclass


@dataclass(slots=True)
class SocketCounts:
    """Messages and their bytes, `in` from the client; how it was closed, and by client, upstream or gateway."""

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    close_code: int | None = None
    closed_by: str | None = None
