"""The gateway's own certificate: the facts of its chain, and its problems at a given time.

Facts come from `gateway.config.tls`, which lets OpenSSL read them; here they are checked.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

DAY_S: Final = 86_400
WARN_BEFORE_S: Final = 30 * DAY_S


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of a chain: its subject in words, the DNS names and addresses it is for, and its dates."""

    subject: str
    names: tuple[str, ...]
    begins_s: float
    ends_s: float


def ends_s(chain: Iterable[Certificate]) -> float:
    """When the first of a chain's certificates ends, as seconds since the epoch."""
    return min(certificate.ends_s for certificate in chain)


def problems(chain: Sequence[Certificate], now_s: float) -> Iterator[str]:
    """A sentence for each certificate that is not valid now: no client would accept it."""
    for certificate in chain:
        if now_s >= certificate.ends_s:
            days = int((now_s - certificate.ends_s) / DAY_S)
            yield f"the certificate of {certificate.subject} ended on {_date(certificate.ends_s)}, {_days(days)} ago"
        elif now_s < certificate.begins_s:
            yield f"the certificate of {certificate.subject} is valid from {_date(certificate.begins_s)} on, not yet"


def warnings(chain: Sequence[Certificate], hosts: Iterable[tuple[str, str]], now_s: float) -> Iterator[str]:
    """A sentence for a certificate that ends within 30 days, and for each host of a route that the first one does not
    cover.

    `hosts` are (where it is set, host).
    """
    for certificate in chain:
        left_s = certificate.ends_s - now_s
        if 0 < left_s < WARN_BEFORE_S:
            when = f"on {_date(certificate.ends_s)}, in {_days(int(left_s / DAY_S))}"
            yield f"the certificate of {certificate.subject} ends {when}; renew it"
    names = chain[0].names
    for origin, host in hosts:
        if not covers(names, host):
            known = ", ".join(names[:5]) or "no name at all"
            yield f"the certificate is for {known}; {origin} serves {host}, which clients will not accept"


def covers(names: Iterable[str], host: str) -> bool:
    """Whether a certificate with these names is for the host, an address without brackets (RFC 6125, section 6.4)."""
    host = host.lower().strip("[]").removesuffix(".")
    parent = host.partition(".")[2]
    for name in names:
        wanted = name.lower()
        if wanted == host or (parent and wanted == f"*.{parent}"):
            return True
    return False


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"
