"""JSON Web Tokens (RFC 7515, RFC 7519), read strictly and checked against a way, by the list of RFC 8725.

A token is parsed here and its values are compared, with the time as an argument. Its signature is checked elsewhere
(`signatures`), between `header_fault` and `claims_fault`. Nothing in a token itself chooses an algorithm, the address
of a key (`jku`, `x5u`, `jwk`, `x5c` are not read), or whether it is signed.
"""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.auth.records import SIGNED_BY_KEYS, SIGNED_BY_SECRET, Way, roles_in
from gateway.auth.rules import Verdict
from gateway.http.identity import Identity, claim_at

LONGEST_TOKEN = 32 * 1024
_LONGEST_KID = 1024
# RFC 8725, section 3.11: other kinds of tokens are marked by these, and are not accepted as access or identity tokens.
_TYPES = frozenset({"jwt", "at+jwt"})
# OpenID Connect Back-Channel Logout 1.0, section 2.4: older providers call theirs a plain JWT.
_LOGOUT = "http://schemas.openid.net/event/backchannel-logout"
# An honest NumericDate has eleven digits; a larger one is a mistake of units or an attack on arithmetic.
_LATEST_S = 1e12


class TokenError(Exception):
    """A text that is no token; the message says why."""


class Fault(NamedTuple):
    """Why a token is not accepted: a sentence for the client, and details for the log, if any."""

    verdict: Verdict
    detail: str
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A token in pieces, none of which is verified yet."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def algorithm(self) -> Any:
        return self.header.get("alg")

    @property
    def kid(self) -> str | None:
        """The name of its key; None if it has none, or one that no key can have."""
        kid = self.header.get("kid")
        return kid if isinstance(kid, str) and len(kid) <= _LONGEST_KID else None


def parse(text: bytes) -> Token:
    """A token in the compact form -> its pieces. Raises TokenError."""
    if len(text) > LONGEST_TOKEN:
        raise TokenError(f"it has more than {LONGEST_TOKEN // 1024} KiB")
    if text.count(b".") != 2:
        raise TokenError("it has no three parts between dots")
    signed, _, signature = text.rpartition(b".")
    head, _, body = signed.partition(b".")
    return Token(_object(head, "header"), _object(body, "claims"), signed, _decoded(signature, "signature"))


def _decoded(part: bytes, name: str) -> bytes:
    """base64url without padding, in its one spelling (RFC 7515, section 2)."""
    try:
        raw = urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise TokenError(f"its {name} is no base64url") from None
    # The library skips characters outside its alphabet, and accepts `+` and `/`, padding, and unused bits.
    if urlsafe_b64encode(raw).rstrip(b"=") != part:
        raise TokenError(f"its {name} is no base64url")
    return raw


def _object(part: bytes, name: str) -> Mapping[str, Any]:
    """A JSON object without repeated names (RFC 7519, section 4)."""
    raw = _decoded(part, name)  # only UTF-8 (RFC 8725, section 3.7): json would accept UTF-16 too
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_refuse_constant)
        if b"\\u" in raw:  # half of a surrogate pair is no text: it could not be logged, or counted by
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # also UnicodeError, and a number of ten thousand digits
        raise TokenError(f"its {name} is no JSON") from None
    if not isinstance(value, dict):
        raise TokenError(f"its {name} is no JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def shown(value: object) -> str:
    """A value of a token as a log may show it."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}..."


# -- the issuer ---------------------------------------------------------------------------------------------------


def foreign(token: Token, way: Way) -> Fault | None:
    """Why it is not this way's token, if so: it is from another issuer (RFC 8725, section 3.8)."""
    issuer = token.claims.get("iss")
    if isinstance(issuer, str) and issuer in way.issuers:
        return None
    cause = f"iss is {shown(issuer)}, not {' or '.join(way.issuers)}"
    if isinstance(issuer, str) and any(issuer.rstrip("/") == one.rstrip("/") for one in way.issuers):
        cause += "; they differ by the slash at the end"
    return Fault(Verdict.FOREIGN, "The token is not one of the issuers that are accepted.", cause)


# -- before its signature is looked at ----------------------------------------------------------------------------


def header_fault(token: Token, way: Way) -> Fault | None:
    """Why its header is not accepted, if so (RFC 8725, sections 3.1, 3.2, 3.10, 3.11)."""
    algorithm, kind = token.algorithm, token.header.get("typ")
    if not isinstance(algorithm, str) or algorithm not in way.algorithms:
        known = algorithm in SIGNED_BY_KEYS or algorithm in SIGNED_BY_SECRET
        hint = f"; {way.variable}__ALGORITHMS would have to name it" if known else ""
        cause = f"alg is {shown(algorithm)}, not one of {', '.join(way.algorithms)}{hint}"
        return Fault(Verdict.INVALID, "The token is signed by an algorithm that is not accepted.", cause)
    if kind is not None and (not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES):
        return Fault(Verdict.INVALID, "The token is of another type.", f"typ is {shown(kind)}, not JWT or at+jwt")
    if "crit" in token.header or "b64" in token.header:
        # RFC 7515, section 4.1.11: an extension that is not understood must be refused; none is understood here.
        return Fault(Verdict.INVALID, "The token has extensions that are not understood.", "crit or b64 in its header")
    if "kid" in token.header and token.kid is None:
        return Fault(Verdict.INVALID, "The token names its key by something that is no name.", "kid is no short text")
    return None


# -- after it -----------------------------------------------------------------------------------------------------


def claims_fault(token: Token, way: Way, now_s: float) -> Fault | None:
    """Why its claims are not accepted at this time, if so; seconds since the epoch (RFC 7519, section 4.1)."""
    claims, leeway_s = token.claims, way.leeway_s
    dates = {}
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name)
        if value is None and name != "exp":
            continue
        seconds = _date(value)
        if seconds is None:
            missing = name not in claims
            cause = "there is no exp" if missing else f"{name} is {shown(value)}, which is no time"
            detail = "The token never expires." if missing else "The token has a time that is none."
            return Fault(Verdict.INVALID, detail, cause)
        dates[name] = seconds
    if "events" in claims and isinstance(claims["events"], dict) and _LOGOUT in claims["events"]:
        return Fault(Verdict.INVALID, "The token is of another type.", "it is a logout token")
    if way.audience and not set(way.audience) & set(_texts(claims.get("aud"))):
        cause = f"aud is {shown(claims.get('aud'))}, not {' or '.join(way.audience)}"
        return Fault(Verdict.INVALID, "The token is for another audience.", cause)
    if now_s >= dates["exp"] + leeway_s:
        return Fault(Verdict.EXPIRED, "The token has expired.", f"exp was {now_s - dates['exp']:.0f} s ago")
    for name in ("nbf", "iat"):
        if name in dates and dates[name] > now_s + leeway_s:
            cause = f"{name} is {dates[name] - now_s:.0f} s ahead; is a clock wrong?"
            return Fault(Verdict.INVALID, "The token is not valid yet.", cause)
    if claims.get("sub") is not None and not isinstance(claims["sub"], str):
        return Fault(Verdict.INVALID, "The token's subject is no text.", f"sub is {shown(claims['sub'])}")
    return None


def _date(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < _LATEST_S else None  # False for NaN; an int may be too large for a float


def _texts(value: Any) -> list[str]:
    members = value if isinstance(value, list) else [value]
    return [member for member in members if isinstance(member, str)]


def expires_s(token: Token) -> float:
    """When a token that passed `claims_fault` expires, without any leeway."""
    return float(token.claims["exp"])


def identity_of(token: Token, way: Way) -> Identity:
    """The identity in an accepted token. Scopes are `scope` (RFC 8693, section 4.2) and `scp`."""
    claims = token.claims
    return Identity(
        name=claims.get("sub") or "",
        way=way.name,
        roles=roles_in(claim_at(claims, way.roles_claim.split("."))),
        scopes=tuple(dict.fromkeys((*roles_in(claims.get("scope")), *roles_in(claims.get("scp"))))),
        claims=claims,
    )
