"""A thousand fan-outs at once with one dead upstream leave nothing behind: no task, no socket."""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import PATIENCE_S, Gateway, Refuses
from tests.live.parts import NDJSON

CROWD = 1000
ROUTES = """
import asyncio
import os
from typing import Annotated

from django.http import JsonResponse

from gateway.routing import fanout, from_environment, part, route


@fanout(timeout="20s")
async def typed(
    a: Annotated[int, part("u:/a")], b: Annotated[int | None, part("dead:/b", timeout="PATIENCE", optional=True)]
) -> list[int | None]:
    return [a, b]


async def seen(request):
    tasks = sorted(task.get_name().rstrip("0123456789") for task in asyncio.all_tasks())
    return JsonResponse({"pid": os.getpid(), "tasks": tasks})


urlpatterns = [*from_environment(), route("GET /typed", typed), route("GET /-seen", seen)]
"""
ENVIRONMENT = {
    # The optional one gives up on the dead upstream; the required one is ended by it while another part still waits.
    "GATEWAY_ROUTE_SOFT": "/soft",
    "GATEWAY_ROUTE_SOFT__PART_A": "u:/a",
    "GATEWAY_ROUTE_SOFT__PART_B": "dead:/b",
    "GATEWAY_ROUTE_SOFT__OPTIONAL": "b",
    "GATEWAY_ROUTE_HARD": "/hard",
    "GATEWAY_ROUTE_HARD__PART_A": "u:/never",
    "GATEWAY_ROUTE_HARD__PART_B": "dead:/b",
    "GATEWAY_UPSTREAM_U__KEEPALIVE": "200ms",
    "GATEWAY_UPSTREAM_U__CONNECT_TIMEOUT": "15s",
    "GATEWAY_UPSTREAM_DEAD__KEEPALIVE": "200ms",
}


@asynccontextmanager
async def service(never: bytes) -> AsyncIterator[str]:
    """A service that says `1` to all but what begins with `never`, which it does not answer. Gives its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"GET " + never):
                    await reader.read()
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n1")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4 * CROWD)
    async with server:
        yield "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())


async def answer_of(gateway: Gateway, target: str, accept: str) -> tuple[int, bytes]:
    """The status and the raw body of one request over a connection of its own."""
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    head = f"GET {target} HTTP/1.1\r\nHost: gateway.test\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    raw = await reader.read()
    writer.close()
    head_lines, _, body = raw.partition(b"\r\n\r\n")
    return int(head_lines.split(b" ")[1]), body


async def eventually(question: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(question):  # noqa: ASYNC110 - nobody tells when a socket is gone
            await asyncio.sleep(0.05)


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize(("dead", "patience", "code"), [("refuses", "20s", 502), ("hangs", "1s", 504)])
async def test_a_thousand_fan_outs_leave_nothing_behind(tmp_path: Path, dead: str, patience: str, code: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 6 * CROWD:
        pytest.skip(f"at most {hard} open files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    (tmp_path / "routes.py").write_text(ROUTES.replace("PATIENCE", patience), encoding="utf-8")
    async with AsyncExitStack() as stack:
        if dead == "refuses":
            refuses = Refuses()
            stack.callback(refuses.close)
            url = refuses.url
        else:
            url = await stack.enter_async_context(service(never=b"/"))
        own = {
            "GATEWAY_ROUTE_SOFT__PART_B__TIMEOUT": patience,
            "GATEWAY_ROUTE_HARD__PART_B__TIMEOUT": patience,
            "GATEWAY_UPSTREAM_U": await stack.enter_async_context(service(never=b"/never")),
            "GATEWAY_UPSTREAM_DEAD": url,
        }
        gateway = Gateway({**ENVIRONMENT, **own}, cwd=tmp_path)
        stack.callback(gateway.kill)
        await asyncio.to_thread(gateway.start)

        def seen() -> tuple[list[str], int]:
            told = gateway.get("/-seen").json()
            return told["tasks"], open_files(told["pid"])

        assert (await answer_of(gateway, "/soft", "*/*"))[0] == 200  # what is made once is there
        await eventually(lambda: len(gateway.log) > 0)
        tasks, files = await asyncio.to_thread(seen)
        kinds = [("/soft", "*/*"), ("/hard", "*/*"), ("/soft", NDJSON), ("/hard", NDJSON), ("/typed", "*/*")]
        answers = await asyncio.gather(*(answer_of(gateway, *kinds[at % len(kinds)]) for at in range(CROWD)))
        soft, failed, lines, failed_lines, typed = (set(answers[at :: len(kinds)]) for at in range(len(kinds)))
        assert soft == {(200, b'{"a":1,"b":null}')}
        assert {status for status, _ in failed} == {code}
        assert all(status == 200 and b'"complete":false' in body for status, body in lines | failed_lines)
        assert all(b'"problem":' in body for _, body in failed_lines)
        assert typed == {(200, b"[1,null]")}
        # As before but for what is still being noticed: idle connections end, clients are seen to be gone.
        await eventually(lambda: (now := seen())[0] == tasks and now[1] <= files)
        await asyncio.to_thread(gateway.stop)
    assert len([line for line in gateway.log if line["event"] == "request" and line["parts"]]) == CROWD + 1
