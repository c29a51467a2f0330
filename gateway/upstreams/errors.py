"""What aiohttp or the system raised on the way to an upstream becomes our word for it, here and nowhere else."""

import ssl

from aiohttp import http_exceptions

from gateway.errors import GatewayError, Reason


def translated(error: BaseException, upstream: str, otherwise: Reason) -> GatewayError:
    """The failure that an exception stands for; `otherwise` is the word of the phase it was raised in."""
    return GatewayError(_reason(error, otherwise), upstream=upstream, cause=_cause(error))


def _reason(error: BaseException, otherwise: Reason) -> Reason:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Reason.TLS_CERTIFICATE
    if _is_tls(error):
        return Reason.TLS_FAILED
    if isinstance(error, http_exceptions.HttpProcessingError):
        # aiohttp has an error of its own for what is too long, but hands on only its text.
        too_long = "Got more than" in error.message or "Too many headers" in error.message
        return Reason.RESPONSE_HEADERS_TOO_LARGE if too_long else Reason.RESPONSE_INVALID
    if otherwise is Reason.CONNECTION_FAILED and isinstance(error, ConnectionRefusedError):
        return Reason.CONNECTION_REFUSED
    return otherwise


def _is_tls(error: BaseException) -> bool:
    """With TLS 1.3 a peer's refusal of our certificate comes after the handshake, as an error of the connection."""
    return isinstance(error, ssl.SSLError) or (isinstance(error, OSError) and "[SSL" in str(error))


def _cause(error: BaseException) -> str:
    """What a log line says of it: the kind and the text, on one line, bounded."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
