"""How a request ends: its task and how to cancel it, its timers, and what must be closed when it is over.

`interrupt` is the one way to break a request off: it cancels the task that serves it and keeps the reason, from which
the answer is made once the task has been cancelled.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from gateway.errors import GatewayError
from gateway.http.exchange import Exchange
from gateway.http.view_thread import ViewThread

if TYPE_CHECKING:
    from gateway.http.request import GatewayRequest

# The request being served in this context: log lines written inside a view carry its ids.
current: ContextVar["Lifetime | None"] = ContextVar("gateway_lifetime", default=None)


class Lifetime:
    """What controls the life of one request. `exchange` is its record, `request` is set while it is answered."""

    __slots__ = (
        *("closers", "exchange", "interruption", "kept_bytes", "request"),
        *("successor", "task", "timer", "view_thread", "watch"),
    )

    def __init__(self, exchange: Exchange, task: asyncio.Task[Any] | None = None) -> None:
        self.exchange = exchange
        self.task = task
        self.request: GatewayRequest | None = None
        self.interruption: GatewayError | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.watch: asyncio.Task[None] | None = None
        self.closers: list[Callable[[], None]] = []  # they release what answers still hold, sent or not
        self.kept_bytes = 0  # of bodies that are kept in memory for it, as `Bodies` counts them
        self.successor: Lifetime | None = None  # that of the request that took over this one's upstream call
        self.view_thread: ViewThread | None = None  # where a view of the team's own answers

    def interrupt(self, error: GatewayError) -> None:
        """Break the request off for this reason, once: the first reason stands."""
        if self.successor is not None:
            self.successor.interrupt(error)
        elif self.interruption is None and self.exchange.ended is None:
            self.interruption = error
            if self.task is not None:
                self.task.cancel()

    @property
    def is_over(self) -> bool:
        """Whether the request has been answered, and its task is done with it."""
        return self.exchange.ended is not None and self.task is None

    def child(self) -> "Lifetime":
        """Of a call that is made for this request, and may outlive it."""
        return Lifetime(self.exchange.child())

    def limit(self, seconds: float, error: GatewayError) -> None:
        """Interrupt it for this reason after this many seconds from now. Replaces an earlier limit."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = asyncio.get_running_loop().call_later(seconds, self.interrupt, error)

    def enter_view_thread(self, lend: Callable[[], Callable[[], None]]) -> ViewThread:
        """Give the current task the request's own thread, to call a view of the team's own in.

        `lend` returns a function, which is called once: at the end of the request and of what runs in the thread.
        """
        if self.view_thread is None:
            self.view_thread = ViewThread(lend())
            self.closers.append(self.view_thread.close)
        self.view_thread.enter()
        return self.view_thread

    def let_go(self) -> None:
        """Cancel all that still waits, and close all that is still open."""
        for waiting in (self.watch, self.timer):
            if waiting is not None:
                waiting.cancel()
        self.watch = self.timer = None
        if self.closers:
            for close in self.closers:
                close()
            self.closers.clear()  # each refers to its request, and that refers to this

    def take_over(self, other: "Lifetime") -> None:
        """Continue the call that was begun for another request: an interruption of that one now interrupts this one."""
        self.exchange.note(other.exchange)
        other.successor = self
        self.view_thread = other.view_thread or self.view_thread
        self.closers += other.closers

    def __repr__(self) -> str:
        state = "over" if self.is_over else "interrupted" if self.interruption is not None else "open"
        return f"<Lifetime {self.exchange.request_id} {state}>"
