"""A service that answers with what it was asked: `python -m demo.echo 9001 9002`. The recipes in docs/ stand before it.

As the other services of the demo it waits with `?delay=300ms` and fails with `?status=503`; `?location=/login`
redirects there.
"""

import asyncio
import sys
from contextlib import suppress

from aiohttp import web

from demo.services import play


def echo() -> web.Application:
    app = web.Application(middlewares=[play])
    app.router.add_route("*", "/{path:.*}", told)
    return app


async def told(request: web.Request) -> web.Response:
    """The request's line and fields as they arrived, and how much of a body came with them."""
    lines = [f"{request.method} {request.raw_path}"]
    lines += [f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in request.raw_headers]
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
    if request.body_exists:
        lines += ["", f"{size} bytes of body"]
    headers = {"Location": request.query["location"]} if "location" in request.query else None
    return web.Response(text="\n".join([*lines, ""]), status=302 if headers else 200, headers=headers)


async def main(ports: list[str]) -> int:
    if not ports or not all(port.isdecimal() for port in ports):
        print("usage: python -m demo.echo PORT...", file=sys.stderr)
        return 2
    runner = web.AppRunner(echo(), access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    try:
        for port in ports:
            await web.TCPSite(runner, "127.0.0.1", int(port)).start()
        print(f"Echo on {', '.join(f'http://127.0.0.1:{port}' for port in ports)}; Ctrl-C ends it.", flush=True)
        await asyncio.Event().wait()
    except OSError as error:
        print(f"echo: {error.strerror}", file=sys.stderr)
        return 1
    finally:
        await runner.cleanup()
    return 0


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(main(sys.argv[1:])))
