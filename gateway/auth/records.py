"""Ways to authenticate as the configuration has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.auth.basic import User
from gateway.auth.keys import Key
from gateway.http.field_template import FieldTemplate

SIGNED_BY_KEYS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
SIGNED_BY_SECRET = ("HS256", "HS384", "HS512")


@dataclass(frozen=True, slots=True)
class Carrier:
    """Where a credential stands: `kind` is header, cookie or query; a header's name is in lower case."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where keys come from: `kind` is upstream, url, file, document or discovery; `place` is the place there.

    For an upstream it is the name, with the path in `path`; for a document it is the JSON itself.
    """

    kind: str
    place: str = field(repr=False)
    path: str = ""

    def __str__(self) -> str:
        """As it may be shown."""
        if self.kind == "document":
            return "the document of __JWKS"
        return f"{self.place}:{self.path}" if self.kind == "upstream" else self.place


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way. `kind` is jwt, keys, basic, ask or python; attributes of other kinds are empty.

    `sets` are the fields that go up for clients of this way: a template, a text, or None where a field is deleted.
    """

    name: str
    kind: str
    variable: str = ""
    source: str = ""  # the issuer; `upstream:/path` of ask; the dotted path of python
    carriers: tuple[Carrier, ...] = ()
    sets: tuple[tuple[str, FieldTemplate | str | None], ...] = field(default=(), repr=False)
    roles_claim: str = "roles"
    timeout_s: float | None = None
    # jwt
    issuers: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    leeway_s: float = 30.0
    keys_from: KeySource | None = None
    secret: bytes | None = field(default=None, repr=False)
    ca_pem: str | None = field(default=None, repr=False)
    # keys, basic
    keys: tuple[Key, ...] = field(default=(), repr=False)
    users: tuple[User, ...] = field(default=(), repr=False)
    # ask
    upstream: str = ""
    path: str = ""
    send: tuple[str, ...] = ()
    copy: tuple[str, ...] = ()
    cache_s: float = 0.0

    @property
    def field_names(self) -> frozenset[str]:
        """The fields that it sets or copies, in lower case."""
        return frozenset(name for name, _ in self.sets) | frozenset(self.copy)

    @property
    def reads_cookies(self) -> bool:
        """Whether a browser may send its credential by itself; true for code of a team's own, which may read any."""
        return (
            self.kind == "python" or any(carrier.kind == "cookie" for carrier in self.carriers) or "cookie" in self.send
        )


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """All ways by name."""

    ways: Mapping[str, Way] = field(default_factory=dict)

    @property
    def credential_fields(self) -> frozenset[str]:
        """Fields in which clients send credentials, in lower case."""
        carried = {carrier.name for way in self.ways.values() for carrier in way.carriers if carrier.kind == "header"}
        carried |= {"cookie" for way in self.ways.values() if way.reads_cookies}
        return frozenset(carried | {name for way in self.ways.values() for name in way.send})

    @property
    def hidden_fields(self) -> frozenset[bytes]:
        """Fields that no client may send on any route, since a way sets them; without those of credentials."""
        names = {name for way in self.ways.values() for name in way.field_names}
        return frozenset(name.encode("ascii") for name in names - self.credential_fields)

    @property
    def hashes_passwords(self) -> bool:
        """Whether a way has passwords that are slow to check."""
        return any(user.bcrypt for way in self.ways.values() for user in way.users)


NO_AUTH = AuthConfig()


def roles_in(value: Any) -> tuple[str, ...]:
    """Roles or scopes: a list of texts, or words in a text."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    if isinstance(value, (list, tuple)):
        return tuple(member for member in value if isinstance(member, str))
    return ()
