"""The wire: one call to one endpoint through aiohttp. The only module that knows aiohttp.

`ClientSession.request` is not used: it resends an idempotent request by itself on a dead connection, which no log
line would show, invents fields, and costs a third of a proxied request. A call is the three steps that the session
itself takes: a connection from aiohttp's connector, aiohttp's request sent over it, aiohttp's response read from it.

Foreign exceptions become `GatewayError`s here and nowhere else.
"""

import asyncio
import contextlib
import errno
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Container, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp import http_exceptions
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import TimerNoop
from yarl import URL

from gateway.config import Base
from gateway.errors import GatewayError, Reason

MAX_RESPONSE_HEADERS_BYTES: Final = 64 * 1024
# Below the 5 s that the usual server keeps an idle connection, so that it is seldom closed just as it is used again.
KEEPALIVE_S: Final = 4.0
_MAX_RESPONSE_FIELDS: Final = 1000
# One read of at most this much; aiohttp pauses the socket when twice this is waiting.
_READ_BUFFER_BYTES: Final = 64 * 1024


class _Everything(Container[str]):
    def __contains__(self, item: object) -> bool:
        return True


class _Request(aiohttp.ClientRequest):
    """aiohttp's request, inventing nothing: no Accept, User-Agent, Content-Type or `Content-Length: 0`."""

    GET_METHODS = _Everything()  # type: ignore[assignment]
    POST_METHODS = frozenset()  # type: ignore[assignment]

    def update_auto_headers(self, skip_auto_headers: Any) -> None:
        return


@dataclass(frozen=True, slots=True)
class Call:
    """One request to an endpoint. `target` is the raw path and query; fields hold no hop-by-hop ones."""

    upstream: str
    base: Base
    method: str
    target: str
    fields: Sequence[tuple[str, str]]
    body: AsyncIterator[bytes] | None
    connect_timeout_s: float
    idle_timeout_s: float


class Answer:
    """An upstream's answer: its head, and a body that is read as it arrives. `close` or read it to the end."""

    __slots__ = ("_call", "_content", "_protocol", "_response", "pairs", "status")

    def __init__(self, call: Call, response: aiohttp.ClientResponse, protocol: ResponseHandler) -> None:
        self._call = call
        self._response = response
        self._protocol = protocol
        self._content = response.content
        self.status = response.status
        self.pairs: Sequence[tuple[bytes, bytes]] = response.raw_headers

    def whole(self) -> bytes | None:
        """The body if all of it is here already, else None and nothing was taken."""
        content = self._content
        if not content.is_eof() or content.exception() is not None or self._broke_off() is not None:
            return None
        return content.read_nowait()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises GatewayError RESPONSE_INCOMPLETE or RESPONSE_IDLE_TIMEOUT."""
        content = self._content
        timer = _IdleTimer(self._call, content)
        try:
            while True:
                chunk = await content.readany()
                if not chunk:
                    break
                timer.last = timer.loop.time()
                yield chunk
                # The client may have been slow to take it: the upstream's time starts when we ask again.
                timer.last = timer.loop.time()
            if (error := self._broke_off()) is not None:
                raise error
        except aiohttp.ClientError as error:
            raise _translated(error, self._call.upstream, Reason.RESPONSE_INCOMPLETE) from error
        finally:
            timer.cancel()
            self.close()

    def _broke_off(self) -> aiohttp.ClientError | None:
        """A body that ends where the connection ends is whole only if the connection ended well.

        aiohttp takes a reset for the end of such a body (RFC 9112, section 8: it must count as incomplete).
        """
        error = self._protocol.exception()
        if not isinstance(error, aiohttp.ClientOSError):
            return None
        headers = self._response.headers
        return None if "Content-Length" in headers or "Transfer-Encoding" in headers else error

    def close(self) -> None:
        """Break the answer off: its connection is closed, unless it was read to its end. Never waits."""
        if not self._response.closed:
            self._response.close()


class StaleConnection(GatewayError):
    """A kept-alive connection turned out dead: the upstream may have closed it just as it was used again."""


class _IdleTimer:
    """Fails the body when it pauses for too long. Re-arms itself lazily, so a chunk costs one clock reading."""

    __slots__ = ("_call", "_content", "_handle", "last", "loop")

    def __init__(self, call: Call, content: aiohttp.StreamReader) -> None:
        self.loop = asyncio.get_running_loop()
        self.last = self.loop.time()
        self._call = call
        self._content = content
        self._handle = self.loop.call_later(call.idle_timeout_s, self._check)

    def _check(self) -> None:
        left = self.last + self._call.idle_timeout_s - self.loop.time()
        if left > 0:
            self._handle = self.loop.call_later(left, self._check)
        else:
            self._content.set_exception(GatewayError(Reason.RESPONSE_IDLE_TIMEOUT, upstream=self._call.upstream))

    def cancel(self) -> None:
        self._handle.cancel()


class Client:
    """The connections to one upstream. Make it inside a running loop; `aclose` it there."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLContext | bool = tls or True
        self._timer = TimerNoop()
        self._connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S)

    async def aclose(self) -> None:
        await self._connector.close()

    async def send(self, call: Call) -> Answer:
        """Send a call and wait for the head of its answer.

        Raises GatewayError, `StaleConnection` where a connection that had served before was lost. Cancelling closes
        the connection, so that the upstream sees a broken request, never a whole one.
        """
        request = self._request(call)
        connection = await self._connect(request, call)
        protocol = connection.protocol
        served_before = getattr(protocol, "served_before", False)
        protocol.served_before = True
        try:
            self._set_response_params(protocol, call.method)
            response = await request.send(connection)
            await response.start(connection)
        except (aiohttp.ClientError, OSError) as error:
            connection.close()
            failure = _translated(error, call.upstream, Reason.CONNECTION_RESET)
            if served_before and failure.reason is Reason.CONNECTION_RESET:
                raise StaleConnection(failure.reason, upstream=call.upstream, cause=failure.cause) from error
            raise failure from error
        except BaseException:
            connection.close()
            raise
        _check_head(response, call)
        return Answer(call, response, protocol)

    def _request(self, call: Call) -> _Request:
        return _Request(
            call.method,
            URL(call.base.origin + call.target, encoded=True),
            headers=call.fields,
            data=call.body,
            loop=self._loop,
            timer=self._timer,
            ssl=self._tls,
        )

    async def _connect(self, request: _Request, call: Call) -> Any:
        timeout = aiohttp.ClientTimeout(total=None, connect=call.connect_timeout_s, ceil_threshold=1e9)
        try:
            return await self._connector.connect(request, traces=[], timeout=timeout)
        except TimeoutError as error:
            raise GatewayError(Reason.CONNECT_TIMEOUT, upstream=call.upstream) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error, call.upstream, Reason.CONNECTION_FAILED) from error

    def _set_response_params(self, protocol: ResponseHandler, method: str) -> None:
        protocol.set_response_params(
            timer=self._timer,
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=None,
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=MAX_RESPONSE_HEADERS_BYTES,
            max_field_size=MAX_RESPONSE_HEADERS_BYTES,
            max_headers=_MAX_RESPONSE_FIELDS,
        )


def _check_head(response: aiohttp.ClientResponse, call: Call) -> None:
    reason = None
    if response.status == 101 or not 100 <= response.status <= 599:
        reason = Reason.RESPONSE_INVALID
    elif sum(len(name) + len(value) + 4 for name, value in response.raw_headers) > MAX_RESPONSE_HEADERS_BYTES:
        reason = Reason.RESPONSE_HEADERS_TOO_LARGE
    if reason is not None:
        response.close()
        raise GatewayError(reason, upstream=call.upstream, cause=f"status {response.status}")


# -- foreign exceptions -------------------------------------------------------------------------------------------

_REFUSED: Final = frozenset((errno.ECONNREFUSED,))
_SLOW: Final = frozenset((errno.ETIMEDOUT,))


def _translated(error: BaseException, upstream: str, otherwise: Reason) -> GatewayError:
    """The word for what aiohttp or the system raised; `otherwise` is the word of the phase it was raised in."""
    if isinstance(error.__cause__, GatewayError):  # raised by the request's body and wrapped by aiohttp
        return error.__cause__
    return GatewayError(_reason(error, otherwise), upstream=upstream, cause=_cause(error))


def _reason(error: BaseException, otherwise: Reason) -> Reason:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Reason.DNS_FAILED
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Reason.TLS_CERTIFICATE
    if isinstance(error, aiohttp.ClientSSLError):
        return Reason.TLS_FAILED
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        if number in _REFUSED or _all_refused(error.os_error):
            return Reason.CONNECTION_REFUSED
        return Reason.CONNECT_TIMEOUT if number in _SLOW else Reason.CONNECTION_FAILED
    if isinstance(error, aiohttp.ClientResponseError):
        return Reason.RESPONSE_HEADERS_TOO_LARGE if _is_too_long(error) else Reason.RESPONSE_INVALID
    return otherwise


def _all_refused(error: BaseException) -> bool:
    """Several addresses were tried: asyncio joins their errors into one text without a number."""
    return "Multiple exceptions" in str(error) and str(error).count("Errno 111") == str(error).count("Errno")


def _is_too_long(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, http_exceptions.LineTooLong) or "Got more than" in str(error):
            return True
        error = error.__cause__
    return False


def _cause(error: BaseException) -> str:
    """What a log line says of it: the kind and the text, on one line, bounded."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


# -- TLS ----------------------------------------------------------------------------------------------------------


def tls_context(ca_pem: str | None, cert_pem: str | None, key_pem: str | None) -> ssl.SSLContext:
    """A context that trusts `ca_pem` (the system's authorities where it is None) and shows a certificate if given.

    Raises ssl.SSLError or OSError for texts that are no PEM.
    """
    context = ssl.create_default_context(cadata=ca_pem)
    if cert_pem is not None:
        # The ssl module reads a certificate chain from a file only: a private one that is gone at once.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            with contextlib.suppress(OSError):
                os.chmod(file.name, 0o600)
            file.write(f"{cert_pem}\n{key_pem or ''}\n")
            file.flush()
            context.load_cert_chain(file.name)
    return context
