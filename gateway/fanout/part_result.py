"""How one part of a fan-out ended: its text, and what the answer, a stream and the log line say of it."""

import copy
from collections.abc import Sequence
from typing import Any

from gateway.errors import GatewayError, Reason
from gateway.fanout.plan import Part
from gateway.http.headers import Pair, Pairs


class Outcome:
    """How one part ended. `text` is its JSON, or what stands for it; `reason` is None where it did not fail."""

    __slots__ = (
        *("advice", "answers", "attempts", "cache", "cause", "detail", "endpoint", "items"),
        *("item_failure", "ms", "part", "reason", "status", "text", "value", "whole"),
    )

    def __init__(self, part: Part) -> None:
        self.part = part
        self.whole = b"null"  # as it came: other parts may refer to what is not picked
        self.text = b"null"
        self.value: Any = None  # decoded, where the view is typed
        self.status: int | None = None
        self.reason: Reason | None = None
        self.detail = ""
        self.cause: str | None = None
        self.item_failure: Reason | None = None  # the first one of an optional mapped part
        self.items: tuple[int, int] | None = None  # of a mapped part: how many, and how many good ones
        self.ms = 0.0
        self.attempts = 0
        self.endpoint: str | None = None
        self.cache: str | None = None
        self.answers: list[Sequence[Pair]] = []  # their field lines
        self.advice: Pairs = []  # what a status that is passed on comes with

    @property
    def is_good(self) -> bool:
        return self.reason is None and (self.items is None or self.items[0] == self.items[1])

    @property
    def params(self) -> dict[str, int | str]:
        """What Gateway-Parts says of it. A status tells all of a failure that it is."""
        said: dict[str, int | str] = {}
        if self.items is not None:
            said |= {"n": self.items[0], "ok": self.items[1]}
        elif self.status is not None:
            said["s"] = self.status
        word = self.reason or self.item_failure
        if word is not None and (word is not Reason.PART_STATUS or self.items is not None):
            said["e"] = word.word
        if self.reason is not Reason.SKIPPED:
            said["ms"] = round(self.ms)
        return said

    def told(self, *, timed: bool) -> dict[str, Any]:
        """What a stream says of it."""
        said: dict[str, Any] = {"part": self.part.name, "status": self.status}
        word = self.reason or self.item_failure
        if word is not None:
            said["reason"] = word.word
        if self.items is not None:
            said |= {"n": self.items[0], "ok": self.items[1]}
        return {**said, "ms": round(self.ms)} if timed else said

    @property
    def logged(self) -> dict[str, Any]:
        """What the log line says of it."""
        word = self.reason or self.item_failure
        return {
            "part": self.part.name,
            "upstream": self.part.target.upstream or None,
            "endpoint": self.endpoint,
            "status": self.status,
            "reason": word.word if word is not None else None,
            "attempts": self.attempts,
            "cache": self.cache,
            "ms": round(self.ms, 2),
        }

    def failed(self, error: GatewayError, value: Any) -> None:
        self.reason, self.detail, self.cause = error.reason, error.detail, error.cause
        self.text = self.whole = self.part.default
        self.value = copy.deepcopy(value)  # a list of one request is not the next one's

    def problem(self, passes: frozenset[int]) -> GatewayError:
        """The failure of the whole, since the part is required; statuses in `passes` become the answer's own."""
        reason = self.reason or Reason.INTERNAL_ERROR
        is_passed = self.status in passes
        return GatewayError(
            reason,
            f"The part {self.part.name} failed: {self.detail[:1].lower()}{self.detail[1:]}",
            upstream=self.part.target.upstream or None,
            cause=self.cause,
            headers=self.advice if is_passed else [(b"retry-after", b"1")] if reason.status == 503 else (),
            status=self.status if is_passed else None,
            members={"part": self.part.name, "part_status": self.status},
        )
