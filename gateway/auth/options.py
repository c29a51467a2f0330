"""The options of ways to authenticate, and the requirements of a route, an upstream or all routes."""

import re
from functools import partial

from gateway import units
from gateway.auth.basic import parse_users
from gateway.auth.keys import parse_keys
from gateway.auth.records import SIGNED_BY_KEYS, SIGNED_BY_SECRET, Carrier, KeySource
from gateway.auth.rules import parse_rule
from gateway.http.settable import forwardable, settable
from gateway.options import DURATION, FIELD, LEVELS, TIMEOUT, Option, Unit, list_of, nearest
from gateway.upstreams.options import CERTIFICATE
from gateway.upstreams.targets import TargetError, parse_target

KINDS = ("jwt", "keys", "basic", "ask", "python")
_WAY = "expected jwt ISSUER, keys, basic, ask UPSTREAM:/path or python MODULE.FUNCTION"
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_PATH_OF_CLAIM = re.compile(r"[^\s.]+(\.[^\s.]+)*")
_LEAST_SECRET_BYTES = 32


def way(text: str) -> tuple[str, str]:
    """`jwt https://id.example.com`, `keys` -> kind and source. Raises ValueError."""
    kind, *rest = text.split()
    if kind not in KINDS or len(rest) != (0 if kind in {"keys", "basic"} else 1):
        raise ValueError(_WAY)
    source = rest[0] if rest else ""
    if kind == "ask":
        _upstream_path(source, "ask UPSTREAM:/path, such as ask sso:/verify")
    if kind == "python":
        source = units.function_path(source)
    return kind, source


def _mask_way(text: str) -> str:
    """Masked, since the variable may be mistaken for the credential itself."""
    kind, _, source = text.partition(" ")
    if kind in KINDS:
        return f"{kind} {units.mask_url(source)}".strip()
    return kind if not source and nearest(kind, KINDS) else "***"  # `key` is a typing mistake, and no secret


def _mask_keys(text: str) -> str:
    return "***" if text.startswith("{") else units.mask_url(text)


def _upstream_path(text: str, expected: str) -> tuple[str, str]:
    try:
        target = parse_target(text)
    except TargetError:
        raise ValueError(f"expected {expected}") from None
    if target.template is None or target.template.rest or target.template.references:
        raise ValueError(f"expected {expected}, without braces and **")
    return target.upstream, text.partition(":")[2]


def carrier(text: str) -> Carrier:
    """`header:authorization` -> Carrier. Raises ValueError."""
    kind, _, name = text.partition(":")
    if kind == "header" and name:
        return Carrier(kind, forwardable(name))
    if kind in {"cookie", "query"} and _NAME.fullmatch(name):
        return Carrier(kind, name)
    raise ValueError("expected where a credential stands: header:authorization, cookie:token or query:key")


def key_source(text: str) -> KeySource:
    """`keycloak:/certs`, `https://...`, `file:/run/keys.json` or the JSON itself -> KeySource. Raises ValueError."""
    if text.startswith("{"):
        return KeySource("document", text)
    if text.startswith("file:"):
        path = text.removeprefix("file:")
        if not path.startswith("/"):
            raise ValueError("expected an absolute path, such as file:/run/keys.json")
        return KeySource("file", path)
    if text.startswith(("https://", "http://")):
        units.base_url(text.partition("?")[0])
        return KeySource("url", text)
    upstream, path = _upstream_path(
        text, "an upstream and a path, such as keycloak:/certs, a URL, or file:/run/keys.json"
    )
    return KeySource("upstream", upstream, path)


def algorithm(text: str) -> str:
    if text in SIGNED_BY_KEYS or text in SIGNED_BY_SECRET:
        return text
    if text.lower() == "none":
        raise ValueError("none is no signature: anybody could make such a token")
    raise ValueError(f"expected some of {', '.join(SIGNED_BY_KEYS)}, {', '.join(SIGNED_BY_SECRET)}")


def secret(text: str) -> bytes:
    """RFC 7518, section 3.2: no shorter than the hash, else it could be guessed from one token."""
    raw = text.encode()
    if len(raw) < _LEAST_SECRET_BYTES:
        raise ValueError(
            f"expected a secret of at least {_LEAST_SECRET_BYTES} bytes, such as openssl rand -hex 32 makes"
        )
    return raw


def word(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected words without control characters")
    return text


def claim_path(text: str) -> str:
    if not _PATH_OF_CLAIM.fullmatch(text):
        raise ValueError("expected a path in the claims, such as roles or realm_access.roles")
    return text


RULE = Unit("rule", parse_rule)
WORDS = list_of("list of words", word)
FIELDS = list_of("list of fields", settable)
ALGORITHMS = list_of("list of algorithms", algorithm)
_LINES = partial(Unit, mask=units.mask_all)

# fmt: off
# families, name, unit, default, example, sentence
OF_LEVELS: tuple[Option, ...] = (
    Option(LEVELS, "AUTH", RULE, "", "token keys",
           "Required authentication: one of these ways (`token keys`), both (`token+sso`), or optional (`token?`)."),
    Option(LEVELS, "ROLES", WORDS, "", "admin ops", "The client must have one of these roles."),
    Option(LEVELS, "SCOPES", WORDS, "", "orders:read",
           "The client must have all of these scopes (`scope` or `scp` of a token)."),
)
ADMIN: tuple[Option, ...] = (
    Option("gateway", "ADMIN_AUTH", RULE, "", "token",
           "Ways to authenticate that also open the status page and metrics; needs ADMIN_ROLES or ADMIN_SCOPES."),
    Option("gateway", "ADMIN_ROLES", WORDS, "", "ops", "ADMIN_AUTH requires one of these roles."),
    Option("gateway", "ADMIN_SCOPES", WORDS, "", "metrics:read", "ADMIN_AUTH requires all of these scopes."),
)
WAY = Option("auth", "", Unit("way", way, mask=_mask_way), "", "jwt https://id.example.com/realms/shop",
             "How clients authenticate: `jwt ISSUER`, `keys`, `basic`, `ask UPSTREAM:/path` or `python "
             "MODULE.FUNCTION`.",
             "way")
OF_WAY: tuple[Option, ...] = (
    Option("auth", "FROM", list_of("list of places", carrier), "", "header:authorization cookie:token",
           "Where the credential is; if unset, x-api-key for `keys`, Authorization for `jwt` and `basic`.", "carriers"),
    Option("auth", "JWKS", Unit("target, URL, file or JSON", key_source, mask=_mask_keys), "", "keycloak:/certs",
           "Where the keys of a jwt issuer are, also `file:/path`; if unset, its discovery document says it.",
           "keys_from"),
    Option("auth", "ISSUER", WORDS, "", "https://id.example.com/",
           "Accepted values of `iss` in a jwt; if unset, the issuer that the way names.", "issuers"),
    Option("auth", "AUDIENCE", WORDS, "", "shop-api",
           "Accepted audiences: one of these must be in the `aud` of a jwt."),
    Option("auth", "ALGORITHMS", ALGORITHMS, "RS256 ES256 EdDSA", "HS256",
           "Accepted signature algorithms, whatever a token claims. HS* needs `__SECRET_FILE`."),
    Option("auth", "SECRET", Unit("secret", secret, mask=units.mask_all), "", "",
           "The secret of HS* algorithms, of 32 bytes or more."),
    Option("auth", "LEEWAY", DURATION, "30s", "0s", "How far clocks may differ, for `exp`, `nbf` and `iat`."),
    Option("auth", "ROLES_CLAIM", Unit("path in the claims", claim_path), "roles", "realm_access.roles",
           "Where the roles are in a jwt, a list or words; for `ask`, the copied field that has them."),
    Option("auth", "KEYS", _LINES("lines", parse_keys), "", "",
           "One key per line: `name sha256:HEX [role,role] [claim=value ...]`; `gateway auth key NAME` makes it."),
    Option("auth", "USERS", _LINES("lines", parse_users), "", "",
           "One user per line: an htpasswd with bcrypt, or `name sha256:HEX [role,role] [claim=value ...]`."),
    Option("auth", "SEND", list_of("list of fields", forwardable), "authorization cookie", "x-tenant",
           "Client fields that are sent to the service of `ask`, in addition to X-Forwarded-*."),
    Option("auth", "COPY", FIELDS, "", "x-user x-groups",
           "Fields of that service's response that are sent upstream; the first one is the name in the log."),
    Option("auth", "CACHE", DURATION, "", "5s", "How long a 2xx of that service is reused for the same question."),
    Option("auth", "TIMEOUT", TIMEOUT, "", "2s",
           "The time to fetch keys by URL (5s), for the `ask` service (its own) or the function (none); then 503."),
    Option("auth", "CA", CERTIFICATE, "", "",
           "The CA certificates to verify an https issuer or JWKS with, instead of the system's."),
    Option("auth", "HEADER_*", FIELD, "", "{claim.sub}",
           "Sets a field sent upstream for clients of this way: `{claim.x}`, `{user}`, `{roles}`; clients "
           "cannot set it.",
           "headers"),
)
# fmt: on

# The options that apply to each kind.
OF_KIND = {
    "jwt": frozenset({"FROM", "JWKS", "ISSUER", "AUDIENCE", "ALGORITHMS", "SECRET", "LEEWAY", "ROLES_CLAIM"})
    | {"TIMEOUT", "CA", "HEADER_*"},
    "keys": frozenset({"FROM", "KEYS", "HEADER_*"}),
    "basic": frozenset({"FROM", "USERS", "HEADER_*"}),
    "ask": frozenset({"SEND", "COPY", "CACHE", "TIMEOUT", "ROLES_CLAIM", "HEADER_*"}),
    "python": frozenset({"TIMEOUT", "HEADER_*"}),
}
CARRIERS = {
    "jwt": (Carrier("header", "authorization"),),
    "keys": (Carrier("header", "x-api-key"),),
    "basic": (Carrier("header", "authorization"),),
}
