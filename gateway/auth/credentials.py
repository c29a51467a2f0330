"""The credential that a request carries: where a way looks for it, and what is ambiguous.

Two services that read one request must not see two credentials: a field that comes twice, a cookie of two values, a
credential in two places are refused with 400 (RFC 6750, section 2: one method for each request).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.auth.records import Carrier
from gateway.errors import GatewayError, Reason
from gateway.http.headers import OWS, Pair

_INVALID_REQUEST = (b"www-authenticate", b'Bearer error="invalid_request"')


_AUTHORIZATION = (Carrier("header", "authorization"),)


class Carried(NamedTuple):
    """A credential as it came, and where it stood."""

    value: bytes
    carrier: Carrier


def find(carriers: Sequence[Carrier], scheme: bytes, pairs: Sequence[Pair], query: bytes) -> Carried | None:
    """The credential, or None. `scheme` is that of Authorization in lower case, which other fields may have too.

    Raises HEADER_INVALID where there are two, whatever they say.
    """
    if carriers == _AUTHORIZATION:  # the usual place, of which there is one line at most (`check_authorization`)
        for name, value in pairs:
            if name == b"authorization":
                credential = _of_scheme(value, scheme, carriers[0])
                return None if credential is None else Carried(credential, carriers[0])
        return None
    found: Carried | None = None
    for carrier in carriers:
        for value in _values(carrier, pairs, query):
            credential = _of_scheme(value, scheme, carrier)
            if credential is None:
                continue
            if found is not None:
                where = str(carrier) if carrier == found.carrier else f"{found.carrier} and {carrier}"
                raise GatewayError(
                    Reason.HEADER_INVALID, f"A credential came twice, in {where}.", headers=[_INVALID_REQUEST]
                )
            found = Carried(credential, carrier)
    return found


def check_authorization(pairs: Iterable[Pair]) -> None:
    """Raises HEADER_INVALID for two Authorization lines: who reads the other one would believe somebody else."""
    if [name for name, _ in pairs].count(b"authorization") > 1:
        raise GatewayError(Reason.HEADER_INVALID, "Authorization came twice.", headers=[_INVALID_REQUEST])


def _values(carrier: Carrier, pairs: Sequence[Pair], query: bytes) -> Iterator[bytes]:
    name = carrier.name.encode("ascii")
    if carrier.kind == "header":
        return (value for found, value in pairs if found == name)
    if carrier.kind == "cookie":
        return _cookies(name, pairs)
    return _parameters(name, query)


def _cookies(name: bytes, pairs: Sequence[Pair]) -> Iterator[bytes]:
    for field, line in pairs:
        if field != b"cookie":
            continue
        for cookie in line.split(b";"):
            found, equals, value = cookie.strip(OWS).partition(b"=")
            if equals and found == name:
                yield value[1:-1] if len(value) > 1 and value[:1] == value[-1:] == b'"' else value


def _parameters(name: bytes, query: bytes) -> Iterator[bytes]:
    for parameter in query.split(b"&"):
        found, _, value = parameter.partition(b"=")
        if unquote_to_bytes(found.replace(b"+", b" ")) == name:
            yield unquote_to_bytes(value.replace(b"+", b" "))


def _of_scheme(value: bytes, scheme: bytes, carrier: Carrier) -> bytes | None:
    """The credential without its scheme; None where there is none, or one of another scheme."""
    found, _, rest = value.partition(b" ")
    if found.lower() == scheme:
        return rest.strip(OWS) or None
    if carrier.kind == "header" and carrier.name == "authorization":
        return None
    return value.strip(OWS) or None
