"""Rules of ways to authenticate, `token keys`, `token+sso`, `token?`: their grammar, and how outcomes combine.

A rule is a list of chains, of which one must pass. A chain is a list of ways joined by `+`, which must all pass. A way
with a `?` may find no credential; a bad one refuses the request all the same.

`decide` asks for one outcome at a time, so that no way is asked in vain.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from gateway import units
from gateway.http.identity import Identity, IdentityFields

_TERM = re.compile(rf"({units.NAME_PATTERN})(\??)")


class Verdict(Enum):
    """The result of a way; the value is the word of the metric."""

    PASSED = "passed"
    MISSING = "missing"  # no credential of its kind
    FOREIGN = "invalid"  # a credential, but not of this way: another way may know it
    INVALID = "invalid "  # its own, and bad
    EXPIRED = "expired"
    FORBIDDEN = "forbidden"
    UNAVAILABLE = "unavailable"  # it cannot tell

    @property
    def word(self) -> str:
        return self.value.strip()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a way for a request.

    Passed: the identity, and the fields that go up for it. Else `detail` is a sentence for the client (without the
    credential), `cause` one for the log; `answer` is the answer of another service, to be passed on.
    """

    verdict: Verdict
    way: str
    identity: Identity | None = None
    fields: IdentityFields = ()
    detail: str = ""
    cause: str | None = None
    answer: Any = None
    upstream: str | None = None
    retry_after_s: int = 5
    in_query: bool = False  # the credential was in the query, which is part of the cache's key


@dataclass(frozen=True, slots=True)
class Term:
    way: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """`chains` of terms: one of the chains must pass, with all of its terms."""

    chains: tuple[tuple[Term, ...], ...]

    @property
    def ways(self) -> tuple[str, ...]:
        """Every way that it names, in its order."""
        return tuple(dict.fromkeys(term.way for chain in self.chains for term in chain))

    @property
    def only_way(self) -> str | None:
        """The only way of a simple rule; None for any other rule."""
        return self.chains[0][0].way if self.chains == ((Term(self.chains[0][0].way),),) else None

    @property
    def may_be_nobody(self) -> bool:
        """Whether a request without any credential passes."""
        return any(all(term.optional for term in chain) for chain in self.chains)

    def __str__(self) -> str:
        return " ".join("+".join(term.way + "?" * term.optional for term in chain) for chain in self.chains)


def parse_rule(text: str) -> Rule:
    """`token keys`, `token+sso`, `token?` -> Rule. Raises ValueError."""
    words = text.replace(",", " ").split()
    if not words:
        raise ValueError("expected names of ways, such as token, token keys, token+sso or token?")
    return Rule(tuple(tuple(_term(part) for part in word.split("+")) for word in words))


def _term(text: str) -> Term:
    match = _TERM.fullmatch(text)
    if match is None:
        raise ValueError(
            f"'{text[:40]}' is no way: expected names in lower case, such as token, token keys, token+sso or token?"
        )
    return Term(match[1], match[2] == "?")


def unknown_ways(rule: Rule, known: Collection[str]) -> Iterable[str]:
    return [way for way in rule.ways if way not in known]


@dataclass(frozen=True, slots=True)
class Passed:
    """The rule is satisfied, by these outcomes; the first one is the client's identity; empty where none is needed."""

    outcomes: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The rule is not satisfied, for this reason."""

    outcome: Outcome


# After these the next way is tried.
_OTHERS_MAY_TRY = frozenset({Verdict.MISSING, Verdict.FOREIGN, Verdict.UNAVAILABLE})


def decide(rule: Rule, known: Mapping[str, Outcome]) -> str | Passed | Refused:
    """The way to ask next, or the decision by the known outcomes.

    A way that finds its own credential bad decides at once. If no way lets the request in, the most informative refusal
    is returned: that of a way that could not decide, then of the first one that found a credential, then of a service
    that says what to do, such as to log in, then of the first way.
    """
    refusals: list[Outcome] = []
    nobody = False
    for chain in rule.chains:
        passed: list[Outcome] = []
        for term in chain:
            outcome = known.get(term.way)
            if outcome is None:
                return term.way
            if outcome.verdict is Verdict.PASSED:
                passed.append(outcome)
            elif not (term.optional and outcome.verdict is Verdict.MISSING):
                if outcome.verdict not in _OTHERS_MAY_TRY:
                    return Refused(outcome)
                refusals.append(outcome)
                break
        else:
            if passed:
                return Passed(tuple(passed))
            nobody = True
    for verdict in (Verdict.UNAVAILABLE, Verdict.FOREIGN):
        for outcome in refusals:
            if outcome.verdict is verdict:
                return Refused(outcome)
    if nobody:
        return Passed()
    return Refused(next((outcome for outcome in refusals if outcome.answer is not None), refusals[0]))


# -- what is allowed ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Requirement:
    """The requirement of a route: a rule, one of the roles (if there are any), all of the scopes."""

    rule: Rule
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()

    @property
    def is_for_all(self) -> bool:
        """Whether it requires nothing beyond its rule."""
        return not self.roles and not self.scopes

    def is_as_strict_as(self, other: "Requirement") -> bool:
        """Whether clients that pass this one pass the other one; decided only for equal rules."""
        has_role = not other.roles or (bool(self.roles) and set(self.roles) <= set(other.roles))
        return self.rule == other.rule and has_role and set(other.scopes) <= set(self.scopes)


def missing_of(requirement: Requirement, identity: Identity) -> str | None:
    """What an identity lacks, in a sentence; None if nothing."""
    if requirement.roles and not set(requirement.roles) & set(identity.roles):
        roles = requirement.roles
        return f"It takes the role {roles[0]}." if len(roles) == 1 else f"It takes one of the roles {', '.join(roles)}."
    lacking = [scope for scope in requirement.scopes if scope not in identity.scopes]
    return f"It takes the scope {', '.join(lacking)}." if lacking else None
