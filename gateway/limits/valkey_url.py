"""GATEWAY_VALKEY_URL as a record: the server's address, and the user."""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from gateway.units import bind

_URL = re.compile(
    r"(?P<scheme>redis|valkey)(?P<tls>s?)://(?:(?P<user>[^:/?#@]*)(?::(?P<password>[^/?#]*))?@)?"
    r"(?P<authority>[^/?#@]+)(?:/(?P<database>[0-9]{0,4}))?"
)
_EXPECTED = (
    "expected redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS, such as redis://valkey:6379/0; "
    "write /, ? and # in a password percent-encoded"
)
_PORT = 6379


@dataclass(frozen=True, slots=True)
class ValkeyUrl:
    """One server of Valkey or Redis."""

    host: str
    port: int
    database: int = 0
    is_tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        """Without the user: `valkey:6379/0`."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/{self.database}"


def valkey_url(text: str) -> ValkeyUrl:
    """`redis://valkey:6379/0`, `rediss://user:secret@valkey:6380` as a record. Raises ValueError."""
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError(_EXPECTED)
    authority = match["authority"]
    has_port = re.search(r":[0-9]+$", authority) is not None and not authority.endswith("]")
    try:
        host, port = bind(authority if has_port else f"{authority}:{_PORT}")
    except ValueError:
        raise ValueError(_EXPECTED) from None
    user, password = unquote(match["user"] or ""), unquote(match["password"] or "")
    return ValkeyUrl(host, port, int(match["database"] or 0), match["tls"] == "s", user, password)
