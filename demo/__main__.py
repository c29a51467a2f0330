"""`python -m demo`."""

import sys
from contextlib import suppress

if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # from here on, so that a Ctrl-C while it is still importing shows no traceback
        import asyncio

        from demo import stage

        sys.exit(asyncio.run(stage.main()))
