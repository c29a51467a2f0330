"""The worker's event loop, which lives on when something in it asks the process to exit.

asyncio lets SystemExit and KeyboardInterrupt out of the loop, whichever task or callback raised them. What a view
raises is caught around the view; here is the rest: tasks, timers and generators that a team's code has started itself.
"""

import asyncio

import uvloop

from gateway.observe.log import log


class Loop(uvloop.Loop):
    """As uvloop's own, but for `run_forever`, which `run_until_complete` calls too."""

    def run_forever(self) -> None:
        """Returns when it is stopped. A task that raised SystemExit has ended with it; its awaiter hears of it."""
        while True:
            try:
                return super().run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                log.error("loop.exit_refused", exc_info=error)


def new_loop() -> asyncio.AbstractEventLoop:
    """What Granian asks for a loop, in each worker."""
    loop = Loop()
    asyncio.set_event_loop(loop)
    return loop
