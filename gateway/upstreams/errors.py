"""An exception of aiohttp or the system on the way to an upstream becomes our word for it, here and nowhere else."""

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
        # aiohttp has its own error for a line that is too long, but passes on only its text.
        too_long = "Got more than" in error.message or "Too many headers" in error.message
        return Reason.RESPONSE_HEADERS_TOO_LARGE if too_long else Reason.RESPONSE_INVALID
    if otherwise is Reason.CONNECTION_FAILED and isinstance(error, ConnectionRefusedError):
        return Reason.CONNECTION_REFUSED
    return otherwise


def _is_tls(error: BaseException) -> bool:
    """With TLS 1.3 a peer refuses our certificate after the handshake, as an error of the connection."""
    return isinstance(error, ssl.SSLError) or (isinstance(error, OSError) and "[SSL" in str(error))


def _cause(error: BaseException) -> str:
    """The error as a log line shows it: its kind and text, on one line, bounded."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
