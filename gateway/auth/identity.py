"""The fields that go up with the client's identity: those that a way sets, filled with values of the identity."""

from collections.abc import Callable, Mapping, Sequence

from gateway.auth.basic import User
from gateway.auth.keys import Key
from gateway.auth.records import Way, roles_in
from gateway.http.field_template import FieldTemplate, Value
from gateway.http.headers import OWS
from gateway.http.identity import Identity, IdentityFields, claim_at, value_of

_OnComma = Callable[[str], None]


def template_problem(value: Value) -> str | None:
    """What is wrong with a value in braces of a way's field, in words."""
    first, *rest = value.words
    if first in {"user", "roles"} and not rest:
        return None
    if first == "claim" and rest and all(rest):
        return None
    return "is no value here; {user}, {roles} and {claim.sub} are"


def fields_for(way: Way, identity: Identity, on_comma: _OnComma | None = None) -> IdentityFields:
    """The fields of a way for an identity. None for a field without a value: the client's own is removed all the same.

    `on_comma` is called with a value's words where a member of a list was left out, since it holds a comma.
    """

    def value(words: Sequence[str]) -> str:
        return value_of(identity, words, on_comma)

    return tuple((name.encode("ascii"), _filled(template, value)) for name, template in way.sets)


def _filled(template: FieldTemplate | str | None, value: Callable[[Sequence[str]], str]) -> bytes | None:
    if isinstance(template, FieldTemplate):
        filled = template.fill(value)
        return None if filled is None else filled.strip(OWS) or None  # a blank value would send an empty field
    return None if template is None else template.encode()


def of_record(record: Key | User, way: Way) -> Identity:
    """The identity of a key or a user, all from its line."""
    claims = record.claims
    scopes = (*roles_in(claims.get("scope")), *roles_in(claims.get("scp")))
    return Identity(record.name, way.name, record.roles, tuple(dict.fromkeys(scopes)), claims)


def of_answer(values: Mapping[str, str], way: Way) -> Identity:
    """The identity from another service, by the copied fields of its answer; the first one is the name."""
    roles = roles_in(claim_at(values, way.roles_claim.split(".")))
    return Identity(values.get(way.copy[0], "") if way.copy else "", way.name, roles, (), values)
