"""The addresses of a host name, as the system finds them: /etc/hosts, search domains, the name server."""

import asyncio
import socket


async def look_up(host: str, port: int) -> tuple[str, ...]:
    """Every A and AAAA address of a name. Raises OSError (`socket.gaierror`) when there is none.

    The system does not tell how long they hold: asking again is up to the caller. It blocks a thread of the loop's
    own, never the loop.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    # RFC 6874: a link-local address comes with its zone, which is part of where it is.
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))
