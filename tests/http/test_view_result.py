"""What a view returned becomes an answer that can be sent, or a failure that names the view."""

import asyncio
import contextlib
import dataclasses
import os
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from gateway.http.headers import Pairs
from gateway.http.response import GatewayResponse
from gateway.http.view_result import check_lines, corrections, exactly, finished, promised_bytes, response_of


async def home() -> None: ...


NAME = re.escape(f"{__name__}.home")


class User(msgspec.Struct):
    id: int


@dataclasses.dataclass
class Team:
    name: str


class Model:
    """As pydantic's models are, for who does not know them."""

    def model_dump_json(self) -> str:
        return '{"of": "pydantic"}'

    def model_dump(self, mode: str) -> dict[str, str]:
        return {"of": mode}


# -- of a kind we know ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "body"),
    [
        ({"a": [1, None]}, b'{"a":[1,null]}'),
        ({}, b"{}"),
        ([{"a": 1}], b'[{"a":1}]'),
        (User(7), b'{"id":7}'),
        (Team("a"), b'{"name":"a"}'),
        (Model(), b'{"of": "pydantic"}'),
        ({"model": Model()}, b'{"model":{"of":"json"}}'),
    ],
)
def test_values_that_are_documents_become_json(result: object, body: bytes) -> None:
    response = response_of(result, home)
    assert isinstance(response, GatewayResponse)
    assert (response.status_code, response.body) == (200, body)
    assert response.pairs == [(b"content-type", b"application/json")]


async def coroutine() -> HttpResponse:
    return HttpResponse()


async def generator() -> AsyncIterator[bytes]:
    yield b""


@pytest.mark.parametrize(
    ("result", "word"),
    [
        (None, "None"),
        ("a text", "str"),
        (b"bytes", "bytes"),
        (7, "int"),
        (True, "bool"),
        (({"a": 1}, 201), "tuple"),
        (iter(()), "tuple_iterator"),
        (generator(), "async_generator"),
        (User, "StructMeta"),
        (Team, "type"),
        (HttpResponse, "type"),
    ],
)
def test_anything_else_is_a_failure_that_names_the_view(result: object, word: str) -> None:
    with pytest.raises(TypeError, match=rf"the view {NAME} returned .*{word}"):
        response_of(result, home)


def test_a_coroutine_that_nobody_awaited_is_closed_and_named() -> None:
    with pytest.raises(TypeError, match="home returned a coroutine that nobody awaited"):  # and no RuntimeWarning
        response_of(coroutine(), home)


# -- rendered ---------------------------------------------------------------------------------------------------------


class Rendered(HttpResponse):
    """As SimpleTemplateResponse: with what is called once it is rendered."""

    is_rendered = False

    def __init__(self, after: HttpResponseBase | None = None) -> None:
        super().__init__()
        self.after = after

    def render(self) -> HttpResponseBase:
        self.is_rendered = True
        self.content = b"rendered"
        return self.after or self


class RendersAsync(Rendered):
    async def render(self) -> HttpResponseBase:  # type: ignore[override]
        return super().render()


async def here(work: Any) -> Any:
    return work()


@pytest.mark.parametrize("kind", [Rendered, RendersAsync])
async def test_a_response_that_renders_itself_is_rendered(kind: type[Rendered]) -> None:
    response = kind()
    answer = await finished(response, home, is_head=False, in_thread=here)
    assert (answer is response, response.content) == (True, b"rendered")


async def test_what_stands_for_it_once_it_is_rendered_is_the_answer() -> None:
    other = HttpResponse("other")
    assert await finished(Rendered(other), home, is_head=False, in_thread=here) is other


async def test_one_that_is_rendered_is_not_rendered_again() -> None:
    response = Rendered()
    response.is_rendered = True
    await finished(response, home, is_head=False, in_thread=here)
    assert response.content == b""


# -- field lines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "error"),
    [
        ((b"x-a", b"1\r\nx-evil: 1"), ValueError),
        ((b"x-a", b"1\nx-evil: 1"), ValueError),
        ((b"x-a", b"\0"), ValueError),
        ((b"x-a", b"\x7f"), ValueError),
        ((b"x-a: 1\r\nx-evil", b"1"), ValueError),
        ((b"content-length ", b"1"), ValueError),
        ((b"x a", b"1"), ValueError),
        ((b"x:a", b"1"), ValueError),
        ((b"", b"1"), ValueError),
        ((b"x-\xfc", b"1"), ValueError),
        (("x-a", "1"), TypeError),
        ((b"x-a", 1), TypeError),
        ((b"x-a",), TypeError),
        (b"xy", TypeError),
    ],
)
def test_a_line_that_is_none_is_refused(pair: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_lines([(b"x-good", b"1"), pair])


def test_tabs_and_bytes_above_ascii_are_values() -> None:
    check_lines([(b"x-a", b"a\tb"), (b"X-B", "ü".encode()), (b"x-c", b"\xfc"), (b"x-d", b"")])


# -- framing ----------------------------------------------------------------------------------------------------------

FIVE = (b"content-length", b"5")


@pytest.mark.parametrize(
    ("pairs", "size", "status", "is_head", "leaves"),
    [
        ([], 5, 200, False, []),
        ([FIVE], 5, 200, False, [FIVE]),
        ([(b"content-length", b"3")], 5, 200, False, [FIVE]),
        ([(b"content-length", b"3"), FIVE], 5, 200, False, [FIVE]),
        ([FIVE, FIVE], 5, 200, False, [FIVE]),
        ([(b"content-length", b"+5")], 5, 200, False, [FIVE]),
        ([(b"content-length", b"5, 5")], 5, 200, False, [FIVE]),
        ([(b"content-length", b"")], 5, 200, False, [FIVE]),
        ([FIVE], None, 200, False, [FIVE]),
        ([FIVE, FIVE], None, 200, False, [FIVE]),
        ([FIVE], 0, 200, True, [FIVE]),  # what a GET would be answered with
        ([(b"content-length", b"3")], 5, 200, True, [FIVE]),
        ([FIVE], 0, 204, False, []),
        ([FIVE], 0, 204, True, []),
        ([FIVE], 0, 304, False, []),
        ([FIVE], None, 304, False, []),
        ([(b"content-length", b"9")], 5, 204, False, []),
        ([(b"transfer-encoding", b"chunked")], 5, 200, False, []),
        ([(b"transfer-encoding", b"chunked"), FIVE], 5, 200, False, [FIVE]),
        ([(b"connection", b"keep-alive, x-a"), (b"keep-alive", b"timeout=5"), (b"x-a", b"1")], 5, 200, False, []),
        ([(b"connection", b"Close")], 5, 200, False, [(b"connection", b"close")]),
    ],
)
def test_framing_is_made_true(pairs: Pairs, size: int | None, status: int, is_head: bool, leaves: Pairs) -> None:
    drop, add = corrections(pairs, size, status, is_head=is_head)
    assert [*(pair for pair in pairs if pair[0] not in drop), *add] == leaves


@pytest.mark.parametrize(
    ("pairs", "size"),
    [
        ([(b"content-length", b"9")], 5),
        ([FIVE, (b"content-length", b"9")], 5),
        ([FIVE], 0),
        ([FIVE, (b"content-length", b"9")], None),
        ([(b"content-length", b"abc")], None),
        ([(b"content-length", b"-1")], None),
        ([(b"content-length", b"")], None),
        ([(b"content-length", "٣".encode())], None),
        ([(b"content-length", b"9" * 5000)], None),
    ],
)
def test_a_length_that_cannot_be_made_true_is_refused(pairs: Pairs, size: int | None) -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        corrections(pairs, size, 200, is_head=False)


def test_setting_the_content_sets_its_length() -> None:
    """As a wrapper does that changes what came from an upstream."""
    response = GatewayResponse(200, [FIVE, (b"x-a", b"1")], b"price")
    response.content = b"the price"
    assert sorted(response.pairs) == [(b"content-length", b"9"), (b"x-a", b"1")]
    plain = GatewayResponse(200, [], b"price")
    plain.content = b"the price"
    assert plain.pairs == []


async def test_a_response_of_django_is_framed_too() -> None:
    response = HttpResponse("5 €", headers={"Content-Length": "3", "Transfer-Encoding": "chunked"})
    await finished(response, home, is_head=False)
    assert dict(response.items()) == {"Content-Type": "text/html; charset=utf-8", "content-length": "5"}
    streams = StreamingHttpResponse([b"a"], headers={"Content-Length": "many"})
    with pytest.raises(ValueError, match=f"the view {NAME} answered with a Content-Length"):
        await finished(streams, home, is_head=False)


async def test_a_body_is_bytes_or_gives_them() -> None:
    response = await finished(GatewayResponse(200, [], bytearray(b"ab")), home, is_head=False)  # type: ignore[arg-type]
    assert isinstance(response, GatewayResponse)
    assert response.body == b"ab"
    for body in ("text", [b"a"], None, iter([b"a"])):
        with pytest.raises(TypeError, match=f"the view {NAME} answered with a body of the type"):
            await finished(GatewayResponse(200, [], body), home, is_head=False)  # type: ignore[arg-type]


class Pieces:
    """A body that tells whether it was closed."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = iter(pieces)
        self.is_closed = False

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> bytes:
        for piece in self.pieces:
            await asyncio.sleep(0)
            return piece  # type: ignore[no-any-return]
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize(
    ("pieces", "length", "given", "error"),
    [
        ((b"ab", b"cde"), 5, [b"ab", b"cde"], None),
        ((b"ab", b"cde"), None, [b"ab", b"cde"], None),
        ((), 0, [], None),
        ((b"ab", bytearray(b"c"), memoryview(b"de")), 5, [b"ab", b"c", b"de"], None),
        ((b"ab", b"cde"), 4, [b"ab"], ValueError),
        ((b"ab", b"cde"), 2, [b"ab"], ValueError),
        ((b"ab",), 0, [], ValueError),
        ((b"ab", b"cde"), 9, [b"ab", b"cde"], ValueError),
        ((b"ab", "text"), None, [b"ab"], TypeError),
        ((b"ab", None), None, [b"ab"], TypeError),
    ],
)
async def test_a_stream_gives_what_was_promised_and_never_more(
    pieces: tuple[Any, ...], length: int | None, given: list[bytes], error: type[Exception] | None
) -> None:
    body, taken = Pieces(*pieces), []
    with pytest.raises(error) if error is not None else contextlib.nullcontext():
        async for piece in exactly(body, length):
            taken.append(piece)  # noqa: PERF401 - kept also where it fails
    assert taken == given
    assert body.is_closed


def test_a_length_that_is_promised() -> None:
    assert promised_bytes([]) is None
    assert promised_bytes([FIVE, FIVE, (b"x-a", b"9")]) == 5
