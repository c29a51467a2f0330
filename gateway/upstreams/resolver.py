"""The addresses of a host name, as the system finds them: /etc/hosts, search domains, the name server."""

import asyncio
import contextlib
import socket
import threading

from gateway.upstreams.shortage import raise_if_short_of_descriptors


async def look_up(host: str, port: int) -> tuple[str, ...]:
    """Every A and AAAA address of a name. Raises OSError: `socket.gaierror` when there is none.

    The system does not report how long they are valid: asking again is up to the caller. Each look-up has a thread of
    its own, since a silent name server blocks it for many seconds: a few such names would use up the loop's few
    threads, and all other look-ups would wait.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def tell(found: tuple[str, ...] | OSError) -> None:
        if isinstance(found, OSError) and not answer.done():
            answer.set_exception(found)
        elif not isinstance(found, OSError) and not answer.done():
            answer.set_result(found)

    def ask() -> None:
        found: tuple[str, ...] | OSError
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            # A link-local address comes with its zone (RFC 4007), which is part of the address.
            found = tuple(dict.fromkeys(str(address[0]) for *_, address in entries))
        except OSError as error:
            found = _clearer(error)
        except UnicodeError as error:  # a label that is too long
            found = socket.gaierror(socket.EAI_NONAME, str(error))
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, found)

    try:
        threading.Thread(target=ask, name=f"portway-dns-{host}", daemon=True).start()
    except RuntimeError as error:  # no more threads
        raise OSError(str(error)) from error
    return await answer


def _clearer(error: OSError) -> OSError:
    """The failure of a look-up; a lack of descriptors where that was the cause, which the system does not report."""
    try:
        raise_if_short_of_descriptors()
    except OSError as shortage:
        return shortage
    return error
