"""The result of one part of a fan-out, and how it is shown: in Gateway-Parts, in a stream, in the log line."""

import copy
from collections.abc import Sequence
from typing import Any

from gateway.errors import GatewayError, Reason
from gateway.fanout.plan import Part
from gateway.http.headers import Pair, Pairs


def cause_of(error: GatewayError) -> str | None:
    """The cause of a part's failure in the log, beside its word."""
    return error.cause or (error.detail if error.is_specific else None)


class PartResult:
    """The result of one part. `text` is its JSON, or its default; `reason` is None if it did not fail."""

    __slots__ = (
        *("advice", "answers", "attempts", "cache", "cause", "detail", "endpoint", "items"),
        *("item_failure", "ms", "part", "reason", "status", "text", "value", "whole"),
    )

    def __init__(self, part: Part) -> None:
        self.part = part
        self.whole = b"null"  # as received: other parts may refer to members that PICK leaves out
        self.text = b"null"
        self.value: Any = None  # decoded, for typed parts
        self.status: int | None = None
        self.reason: Reason | None = None
        self.detail = ""
        self.cause: str | None = None
        self.item_failure: Reason | None = None  # the first one of an optional mapped part
        self.items: tuple[int, int] | None = None  # of a mapped part: how many items, and how many succeeded
        self.ms = 0.0
        self.attempts = 0
        self.endpoint: str | None = None
        self.cache: str | None = None
        self.answers: list[Sequence[Pair]] = []  # the fields of its responses
        self.advice: Pairs = []  # fields that are sent with a status that is passed on

    @property
    def is_good(self) -> bool:
        return self.reason is None and (self.items is None or self.items[0] == self.items[1])

    @property
    def params(self) -> dict[str, int | str]:
        """Its parameters in Gateway-Parts. `e` is left out where the status alone is the failure."""
        params: dict[str, int | str] = {}
        if self.items is not None:
            params |= {"n": self.items[0], "ok": self.items[1]}
        elif self.status is not None:
            params["s"] = self.status
        word = self.reason or self.item_failure
        if word is not None and (word is not Reason.PART_STATUS or self.items is not None):
            params["e"] = word.word
        if self.reason is not Reason.SKIPPED:
            params["ms"] = round(self.ms)
        return params

    def stream_fields(self, *, timed: bool) -> dict[str, Any]:
        """Its members in a stream, next to `data`."""
        members: dict[str, Any] = {"part": self.part.name, "status": self.status}
        word = self.reason or self.item_failure
        if word is not None:
            members["reason"] = word.word
        if self.items is not None:
            members |= {"n": self.items[0], "ok": self.items[1]}
        return {**members, "ms": round(self.ms)} if timed else members

    @property
    def log_fields(self) -> dict[str, Any]:
        """Its object in `parts` of the log line."""
        word = self.reason or self.item_failure
        fields = {
            "part": self.part.name,
            "upstream": self.part.target.upstream or None,
            "endpoint": self.endpoint,
            "status": self.status,
            "reason": word.word if word is not None else None,
            "attempts": self.attempts,
            "cache": self.cache,
            "ms": round(self.ms, 2),
        }
        return fields if self.cause is None else {**fields, "cause": self.cause}

    def failed(self, error: GatewayError, value: Any) -> None:
        self.reason, self.detail = error.reason, error.detail if error.is_specific else error.reason.title
        self.cause = cause_of(error)
        self.text = self.whole = self.part.default
        self.value = copy.deepcopy(value)  # requests must not share a mutable default

    def problem(self, passes: frozenset[int]) -> GatewayError:
        """The error of the whole fan-out, for a required part; a status in `passes` becomes the response's own."""
        reason = self.reason or Reason.INTERNAL_ERROR
        is_passed = self.status in passes
        return GatewayError(
            reason,
            f"The part {self.part.name} failed: {self.detail[:1].lower()}{self.detail[1:]}",
            upstream=self.part.target.upstream or None,
            cause=f"{self.part.name}: {self.cause}" if self.cause else None,
            headers=self.advice if is_passed else [(b"retry-after", b"1")] if reason.status == 503 else (),
            status=self.status if is_passed else None,
            members={"part": self.part.name, "part_status": self.status},
        )
