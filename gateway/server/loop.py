"""The worker's event loop, which goes on when code in it asks the process to exit.

asyncio lets SystemExit and KeyboardInterrupt out of the loop, whichever task or callback raised them. Exceptions of a
view are caught around the view; this is for the rest: tasks, timers and generators that a team's code has started
itself.
"""

import asyncio

import uvloop

from gateway.observe.log import log


class Loop(uvloop.Loop):
    """uvloop's loop with another `run_forever`, which `run_until_complete` calls too."""

    def run_forever(self) -> None:
        """Returns when it is stopped. A task that raised SystemExit has ended with it, and its awaiter gets it."""
        while True:
            try:
                return super().run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                log.error("loop.exit_refused", exc_info=error)


def new_loop() -> asyncio.AbstractEventLoop:
    """The factory that Granian calls for a loop, in each worker."""
    loop = Loop()
    asyncio.set_event_loop(loop)
    return loop
