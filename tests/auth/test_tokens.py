"""Tokens, read and judged; RFC 8725, section by section."""

import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import tokens
from gateway.auth.jwks import KeyStore
from gateway.auth.records import KeySource, Way
from gateway.auth.rules import Outcome, Verdict
from gateway.auth.ways import JwtWay
from gateway.http.identity import Identity
from tests.auth.issuer import ISSUER, claims, jwk, key_set, part, private, token

KEYS = key_set(
    jwk("RS256"), jwk("ES256", "e"), jwk("EdDSA", "d"), jwk("ES384", "e3"), jwk("PS256", "p", alg="PS256"),
    jwk("RS256", "enc", use="enc"), {"kty": "oct", "kid": "o", "k": part(b"s" * 32).decode()},
)  # fmt: skip
SECRET = b"0123456789abcdef0123456789abcdef"
LONG_AGO = 1_000_000


def way(**options: Any) -> Way:
    given: dict[str, Any] = {
        "name": "token", "kind": "jwt", "variable": "GATEWAY_AUTH_TOKEN", "issuers": (ISSUER,),
        "algorithms": ("RS256", "ES256", "EdDSA"), "keys_from": KeySource("document", ""),
    }  # fmt: skip
    return Way(**given | options)


async def told(text: bytes, now_s: float | None = None, document: bytes = KEYS, **options: Any) -> Identity | Outcome:
    """What a way says of a token: who it is, or why not."""

    async def load() -> bytes:
        return document

    one = way(**options)
    jwt = JwtWay(one, None if one.keys_from is None else KeyStore("token", load, time.monotonic))
    found = await jwt.examine(text, time.time() if now_s is None else now_s)
    return found if isinstance(found, Outcome) else tokens.identity_of(found, one)


async def refused(text: bytes, **options: Any) -> tuple[Verdict, str]:
    found = await told(text, **options)
    assert isinstance(found, Outcome), found
    assert found.identity is None
    return found.verdict, f"{found.detail} {found.cause}"


# -- what is let in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "1"), ("ES256", "e"), ("EdDSA", "d")])
async def test_a_token_that_is_signed_by_a_key_of_its_issuer(algorithm: str, kid: str) -> None:
    said = claims(roles=["admin", 7, "ops"], scope="read write", scp=["write", "delete"])
    who = await told(token(said, algorithm, kid=kid))
    assert who == Identity("alice", "token", ("admin", "ops"), ("read", "write", "delete"), said)


async def test_one_by_a_secret() -> None:
    options: dict[str, Any] = {"algorithms": ("HS256",), "secret": SECRET, "keys_from": None}
    assert isinstance(await told(token(None, "HS256", key=SECRET), **options), Identity)
    verdict, _ = await refused(token(None, "HS256", key=b"x" * 32), **options)
    assert verdict is Verdict.INVALID


async def test_one_without_the_name_of_its_key() -> None:
    assert isinstance(await told(token(kid=None)), Identity)


async def test_one_with_the_type_of_an_access_token() -> None:
    for kind in ("at+jwt", "AT+JWT", "application/at+jwt", "JWT", "jwt", None):
        assert isinstance(await told(token(typ=kind)), Identity)


@pytest.mark.parametrize(
    ("claim", "said", "roles"),
    [
        ("roles", {"roles": "admin ops"}, ("admin", "ops")),
        ("realm_access.roles", {"realm_access": {"roles": ["admin"]}}, ("admin",)),
        ("https://example.com/roles", {"https://example.com/roles": ["admin"]}, ("admin",)),
        ("roles", {}, ()),
        ("roles", {"roles": {"admin": True}}, ()),
        ("a.b.c", {"a": "x"}, ()),
    ],
)
async def test_roles_stand_where_the_way_says(claim: str, said: dict[str, Any], roles: tuple[str, ...]) -> None:
    who = await told(token(claims(**said)), roles_claim=claim)
    assert isinstance(who, Identity)
    assert who.roles == roles


# -- RFC 8725 -----------------------------------------------------------------------------------------------------


async def test_2_1_and_3_1_a_token_does_not_choose_its_algorithm() -> None:
    """`none`, a public key taken for a secret, and one that is not accepted here."""
    for text in (token(None, "none"), token(None, "RS256", alg="none"), token(None, "RS256", alg="None")):
        assert (await refused(text))[0] is Verdict.INVALID
    public = private("RS256").public_key()
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    verdict, why = await refused(token(None, "HS256", key=pem))
    assert (verdict, "alg is 'HS256', not one of RS256, ES256, EdDSA" in why) == (Verdict.INVALID, True)
    accepts_both: dict[str, Any] = {"algorithms": ("RS256", "HS256"), "secret": SECRET}
    assert (await refused(token(None, "HS256", key=pem), **accepts_both))[0] is Verdict.INVALID
    assert (await refused(token(None, "HS256", key=pem, kid="1"), **accepts_both))[0] is Verdict.INVALID


async def test_3_1_one_key_one_algorithm() -> None:
    """A key that says its algorithm signs by no other; one of another kind or curve by none."""
    every = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
    assert isinstance(await told(token(None, "PS256", kid="p"), algorithms=every), Identity)
    for text in (
        token(None, "RS256", kind="PS256", kid="p"),
        token(None, "ES256", kid="1"),
        token(None, "RS256", kid="e"),
        token(None, "ES384", kid="e"),
        token(None, "ES256", kid="e3"),
        token(None, "RS256", alg="ES256", kid="e"),
        token(None, "EdDSA", alg="ES256", kid="d"),
        token(None, "ES256", alg="EdDSA", kid="d"),
    ):
        assert (await refused(text, algorithms=every))[0] is Verdict.INVALID


async def test_2_2_a_secret_in_a_public_document_is_none() -> None:
    options: dict[str, Any] = {"algorithms": ("RS256", "HS256"), "secret": SECRET}
    assert (await refused(token(None, "HS256", key=b"s" * 32, kid="o"), **options))[0] is Verdict.INVALID


async def test_3_2_a_short_key_is_none() -> None:
    from jwt import algorithms

    short = algorithms.RSAAlgorithm.to_jwk(private("RSA1024").public_key(), as_dict=True)
    document = key_set({**short, "kid": "1"})
    assert (await refused(token(None, kind="RSA1024"), document=document))[0] is Verdict.INVALID


@pytest.mark.parametrize("where", [0, 5, -1])
async def test_3_3_every_signature_is_looked_at(where: int) -> None:
    good = token()
    signed, _, signature = good.rpartition(b".")
    changed = bytearray(signature)
    changed[where] = ord("A") if changed[where] != ord("A") else ord("B")
    for text in (signed + b"." + bytes(changed), signed + b".", signed + b"." + part(b""), token(number=7)):
        assert (await refused(text))[0] in {Verdict.INVALID, Verdict.FOREIGN}
    head, _, _ = signed.partition(b".")
    assert (await refused(head + b"." + part(claims(sub="root")) + b"." + signature))[0] is Verdict.INVALID


async def test_3_3_zeros_are_no_signature_of_a_curve() -> None:
    """CVE-2022-21449: r and s are zero."""
    signed, _, _ = token(None, "ES256", kid="e").rpartition(b".")
    assert (await refused(signed + b"." + part(b"\0" * 64)))[0] is Verdict.INVALID
    assert (await refused(signed + b"." + part(b"\0" * 63)))[0] is Verdict.INVALID


async def test_2_6_and_3_7_one_meaning_of_the_json() -> None:
    """UTF-8, no name twice, no numbers that are none, and one spelling of base64url."""
    honest = json.dumps(claims()).encode()
    for body in (
        honest[:-1] + b', "sub": "root"}',
        json.dumps(claims()).encode("utf-16"),
        b"\xef\xbb\xbf" + honest,
        honest[:-1] + b', "x": NaN}',
        honest[:-1] + b', "x": Infinity}',
        honest[:-1] + b', "exp": 1e999}',
        honest.replace(b"alice", b"\xff"),
        honest.replace(b"alice", b"\\ud800"),
        honest.replace(b"alice", b"\\udc80x"),
        b"[" * 9000,
        b'{"a":' * 5000,
        b'{"iss":' + b"9" * 20_000 + b"}",
        b"[]",
        b'"x"',
        b"null",
        b"",
    ):
        assert (await refused(token(body)))[0] in {Verdict.INVALID, Verdict.FOREIGN}
    good = token()
    for text in (good + b"=", good + b"==", b" " + good, good + b"\n", good.replace(b".", b"..", 1), good + b".x"):
        assert (await refused(text))[0] is Verdict.FOREIGN
    head, body, signature = good.split(b".")
    assert (await refused(head + b"." + body + b"=." + signature))[0] is Verdict.FOREIGN
    assert (await refused(b".".join([head, b"++//", signature])))[0] is Verdict.FOREIGN


async def test_3_8_another_issuer_is_not_ours() -> None:
    for issuer in ("https://id.example.com/realms/other", ISSUER + "/", ISSUER.upper(), "", None, 7, [ISSUER]):
        verdict, _ = await refused(token({**claims(iss=issuer)}))
        assert verdict is Verdict.FOREIGN
    assert "differ by the slash" in (await refused(token(claims(iss=ISSUER + "/"))))[1]
    assert isinstance(await told(token(claims(iss="https://b")), issuers=(ISSUER, "https://b")), Identity)


async def test_3_8_the_subject_is_a_text() -> None:
    assert (await refused(token(claims(sub=7))))[0] is Verdict.INVALID
    assert (await refused(token(claims(sub=["alice"]))))[0] is Verdict.INVALID
    nobody = await told(token(claims(sub=None)))
    assert isinstance(nobody, Identity)
    assert nobody.name == ""


@pytest.mark.parametrize(
    ("audience", "is_good"),
    [
        ("shop-api", True),
        (["other", "shop-api"], True),
        ("web", True),
        ("other", False),
        ("shop-api ", False),
        (["other"], False),
        ([], False),
        (None, False),
        (7, False),
        ({"shop-api": 1}, False),
        ("shop", False),
    ],
)
async def test_3_9_a_token_for_others_is_not_for_us(audience: Any, is_good: bool) -> None:
    found = await told(token(claims(aud=audience)), audience=("shop-api", "web"))
    assert isinstance(found, Identity) is is_good
    if isinstance(found, Outcome):
        assert (found.verdict, found.detail) == (Verdict.INVALID, "The token is for another audience.")


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.example/keys.json"},
        {"x5u": "https://evil.example/cert.pem"},
        {"jwk": jwk("RS256", "1", number=9)},
        {"x5c": ["MIIB"]},
        {"x5t": "abc"},
    ],
)
async def test_3_10_a_token_says_nothing_of_its_key_but_the_name(header: Mapping[str, Any]) -> None:
    assert isinstance(await told(token(**header)), Identity)
    assert (await refused(token(number=9, **header)))[0] is Verdict.INVALID


@pytest.mark.parametrize("kid", ["../../etc/passwd", "1' OR '1'='1", "x" * 65_536, 7, ["1"], {"a": 1}, "\0", ""])
async def test_3_10_a_strange_name_of_a_key_finds_none(kid: Any) -> None:
    verdict, why = await refused(token(kid=kid))
    assert verdict in {Verdict.INVALID, Verdict.FOREIGN}  # one of 64 KiB makes the token too long to be one
    assert len(why) < 500


@pytest.mark.parametrize("kind", ["logout+jwt", "dpop+jwt", "secevent+jwt", "jose", "JWE", 7, "", ["JWT"]])
async def test_3_11_another_type_is_refused(kind: Any) -> None:
    assert (await refused(token(typ=kind)))[0] is Verdict.INVALID


async def test_3_11_and_3_12_a_logout_token_does_not_pass() -> None:
    event: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}
    assert (await refused(token(claims(events=event))))[0] is Verdict.INVALID
    assert (await refused(token(claims(events=event, exp=None), typ="logout+jwt")))[0] is Verdict.INVALID


async def test_extensions_that_are_not_understood_are_refused() -> None:
    """RFC 7515, section 4.1.11; RFC 7797."""
    assert (await refused(token(crit=["exp"])))[0] is Verdict.INVALID
    assert (await refused(token(b64=False, crit=["b64"])))[0] is Verdict.INVALID


async def test_a_key_for_encryption_signs_nothing() -> None:
    assert (await refused(token(kid="enc")))[0] is Verdict.INVALID


async def test_an_encrypted_token_is_none_of_ours() -> None:
    assert (await refused(b"a.b.c.d.e"))[0] is Verdict.FOREIGN


# -- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "leeway_s", "verdict"),
    [
        ({"exp": LONG_AGO + 1}, 0.0, None),
        ({"exp": LONG_AGO}, 0.0, Verdict.EXPIRED),
        ({"exp": LONG_AGO}, 30.0, None),
        ({"exp": LONG_AGO - 29.9}, 30.0, None),
        ({"exp": LONG_AGO - 30}, 30.0, Verdict.EXPIRED),
        ({"exp": LONG_AGO + 0.5}, 0.0, None),
        ({"exp": None}, 30.0, Verdict.INVALID),
        ({"exp": str(LONG_AGO + 1)}, 30.0, Verdict.INVALID),
        ({"exp": True}, 30.0, Verdict.INVALID),
        ({"exp": [LONG_AGO + 1]}, 30.0, Verdict.INVALID),
        ({"exp": 10**30}, 30.0, Verdict.INVALID),
        ({"exp": -(10**30)}, 30.0, Verdict.INVALID),
        ({"exp": 10**400}, 30.0, Verdict.INVALID),  # no float is so large
        ({"nbf": -(10**400)}, 30.0, Verdict.INVALID),
        ({"nbf": LONG_AGO}, 0.0, None),
        ({"nbf": LONG_AGO + 30}, 30.0, None),
        ({"nbf": LONG_AGO + 31}, 30.0, Verdict.INVALID),
        ({"nbf": "now"}, 30.0, Verdict.INVALID),
        ({"iat": LONG_AGO + 31}, 30.0, Verdict.INVALID),
        ({"iat": None}, 0.0, None),
    ],
)
async def test_times_hold_with_leeway(said: dict[str, Any], leeway_s: float, verdict: Verdict | None) -> None:
    base = {"exp": LONG_AGO + 600, "iat": LONG_AGO - 10}
    found = await told(token(claims(**base | said)), now_s=LONG_AGO, leeway_s=leeway_s)
    assert (found.verdict if isinstance(found, Outcome) else None) is verdict


async def test_a_forged_token_is_not_called_expired() -> None:
    assert (await refused(token(claims(exp=LONG_AGO), number=9)))[0] is Verdict.INVALID


# -- whatever comes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [b"", b".", b"..", b"a" * 2**20, b"." * 10_000, b"\0.\0.\0", b"\xff.\xff.\xff", b"e30.e30.", b"e30.e30.e30"],
)
async def test_what_is_no_token_is_none(text: bytes) -> None:
    verdict, why = await refused(text)
    assert verdict is Verdict.FOREIGN
    assert len(why) < 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "iat", "roles", "scope", "scp", "events"])


@given(st.dictionaries(names, json_values))
def test_a_judgement_raises_nothing_whatever_the_claims(said: dict[str, Any]) -> None:
    parsed = tokens.parse(part({"alg": "RS256"}) + b"." + part({**claims(), **said}) + b".AA")
    tokens.foreign(parsed, way())
    if tokens.claims_fault(parsed, way(audience=("a",)), time.time()) is None:
        tokens.identity_of(parsed, way())


@given(st.binary(max_size=300))
def test_reading_raises_nothing_else(text: bytes) -> None:
    with contextlib.suppress(tokens.TokenError):
        tokens.parse(text)


@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jku"]), json_values))
def test_a_header_is_judged_whatever_it_says(header: dict[str, Any]) -> None:
    parsed = tokens.parse(part(header) + b"." + part(claims()) + b".AA")
    fault = tokens.header_fault(parsed, way())
    assert fault is not None or header.get("alg") in way().algorithms
