"""The credential that a request carries: where a way looks for it, and what is ambiguous.

Two services that read one request must not see two credentials: a repeated field, a cookie with two values, and
credentials in two places are refused with 400 (RFC 6750, section 2: one method for each request).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.auth.records import Carrier
from gateway.errors import GatewayError, Reason
from gateway.http.carried import values_in
from gateway.http.headers import OWS, Pair

_INVALID_REQUEST = (b"www-authenticate", b'Bearer error="invalid_request"')


_AUTHORIZATION = (Carrier("header", "authorization"),)


class Carried(NamedTuple):
    """A credential, where it stood, and the whole value there, with its scheme."""

    value: bytes
    carrier: Carrier
    line: bytes


def find(carriers: Sequence[Carrier], scheme: bytes, pairs: Sequence[Pair], query: bytes) -> Carried | None:
    """The credential, or None. `scheme` is that of Authorization in lower case, which other fields may have too.

    Raises HEADER_INVALID where there are two, even if they are equal.
    """
    if carriers == _AUTHORIZATION:  # the usual place, of which there is one line at most (`authorization_of`)
        for name, value in pairs:
            if name == b"authorization":
                credential = _of_scheme(value, scheme, carriers[0])
                return None if credential is None else Carried(credential, carriers[0], value)
        return None
    found: Carried | None = None
    for carrier in carriers:
        came = list(values_in(carrier.kind, carrier.name.encode("ascii"), pairs, query))
        carried = [(one, value) for value in came if (one := _of_scheme(value, scheme, carrier)) is not None]
        if len(came) > 1 and carried:  # an empty one too: it is unknown which of the two another service reads
            raise _twice(str(carrier))
        for credential, value in carried:
            if found is not None:
                raise _twice(f"{found.carrier} and {carrier}")
            found = Carried(credential, carrier, value)
    return found


def _twice(where: str) -> GatewayError:
    detail = f"A credential came twice, in {where}."
    return GatewayError(Reason.HEADER_INVALID, detail, headers=[_INVALID_REQUEST])


def authorization_of(pairs: Iterable[Pair]) -> bytes | None:
    """The value of Authorization, if present.

    Raises HEADER_INVALID for two lines: a service that reads the other one would see another client.
    """
    values = [value for name, value in pairs if name == b"authorization"]
    if len(values) > 1:
        raise GatewayError(Reason.HEADER_INVALID, "Authorization came twice.", headers=[_INVALID_REQUEST])
    return values[0] if values else None


def reads_authorization(carriers: Sequence[Carrier]) -> bool:
    """Whether the credential is read only from Authorization, as nearly always."""
    return tuple(carriers) == _AUTHORIZATION


def _of_scheme(value: bytes, scheme: bytes, carrier: Carrier) -> bytes | None:
    """The credential without its scheme; None where there is none, or one of another scheme."""
    found, _, rest = value.partition(b" ")
    if found.lower() == scheme:
        return rest.strip(OWS) or None
    if carrier.kind == "header" and carrier.name == "authorization":
        return None
    return value.strip(OWS) or None
