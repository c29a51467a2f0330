"""What print() writes: a line each, however it is cut, and nobody's lines in those of others."""

import asyncio
import io
import sys
from contextvars import copy_context

import pytest

from gateway.observe.own_output import Prints, end_line


def printing() -> tuple[Prints, list[str]]:
    lines: list[str] = []
    return Prints(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), lines.append), lines


def test_each_line_is_told_once_it_is_whole() -> None:
    prints, lines = printing()
    print("a", "b", file=prints)
    print("c", end="", file=prints)
    assert lines == ["a b"]
    print("d\n\ne", file=prints)
    assert lines == ["a b", "cd", "e"]


def test_what_has_no_end_is_told_when_it_is_flushed() -> None:
    prints, lines = printing()
    print("a", end="", file=prints, flush=True)
    prints.flush()
    assert lines == ["a"]


def test_what_a_request_leaves_without_an_end_is_told_with_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    prints, lines = printing()
    monkeypatch.setattr(sys, "stdout", prints)
    print("a", end="", file=prints)
    end_line()
    end_line()
    assert lines == ["a"]


def test_what_never_ends_is_told_in_pieces() -> None:
    prints, lines = printing()
    for _ in range(100):
        prints.write("x" * 100)
    assert sum(map(len, lines)) >= 8000
    assert max(map(len, lines)) <= 4100


def test_requests_do_not_finish_each_others_lines() -> None:
    prints, lines = printing()

    async def one(name: str) -> None:
        print(name, end=" ", file=prints)
        await asyncio.sleep(0)
        print(name, file=prints)

    async def both() -> None:
        await asyncio.gather(one("a"), one("b"))

    copy_context().run(asyncio.run, both())
    assert lines == ["a a", "b b"]


def test_bytes_pass_as_they_are() -> None:
    below = io.BytesIO()
    prints = Prints(io.TextIOWrapper(below, encoding="utf-8"), lambda _: None)
    prints.buffer.write(b"\x00\xff")
    assert below.getvalue() == b"\x00\xff"
