"""Rules: their grammar, and what outcomes come to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.rules import (
    Outcome,
    Passed,
    Refused,
    Requirement,
    Rule,
    Term,
    Verdict,
    decide,
    missing_of,
    parse_rule,
    unknown_ways,
)
from gateway.http.identity import Identity

A, B, C = Term("a"), Term("b"), Term("c")
GOOD, NONE, FOREIGN = Verdict.PASSED, Verdict.MISSING, Verdict.FOREIGN
BAD, OLD, AWAY = Verdict.INVALID, Verdict.EXPIRED, Verdict.UNAVAILABLE


@pytest.mark.parametrize(
    ("text", "chains"),
    [
        ("a", ((A,),)),
        ("a b", ((A,), (B,))),
        ("a,b", ((A,), (B,))),
        (" a   b ", ((A,), (B,))),
        ("a+b", ((A, B),)),
        ("a+b c", ((A, B), (C,))),
        ("a?", ((Term("a", True),),)),
        ("a+b? c", ((A, Term("b", True)), (C,))),
        ("my_way2", ((Term("my_way2"),),)),
    ],
)
def test_a_rule_is_read(text: str, chains: tuple[tuple[Term, ...], ...]) -> None:
    assert parse_rule(text) == Rule(chains)
    assert parse_rule(str(parse_rule(text))) == Rule(chains)


@pytest.mark.parametrize("text", ["", " ", "A", "a+", "+a", "a++b", "?", "a??", "a|b", "a&b", "(a)", "a-b", "a+ b"])
def test_what_is_no_rule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"token\+sso"):
        parse_rule(text)


def outcome(verdict: Verdict, way: str) -> Outcome:
    return Outcome(verdict, way, Identity(way, way) if verdict is GOOD else None)


def told(text: str, *verdicts: Verdict) -> tuple[str, list[str]]:
    """What a rule comes to where its ways find these, in the order of their names, and who was asked for it."""
    rule = parse_rule(text)
    found = dict(zip("abc", verdicts, strict=False))
    known: dict[str, Outcome] = {}
    while isinstance(step := decide(rule, known), str):
        assert step not in known
        known[step] = outcome(found[step], step)
    if isinstance(step, Passed):
        return "+".join(one.way for one in step.outcomes) or "nobody", list(known)
    return f"{step.outcome.verdict.name} {step.outcome.way}", list(known)


@pytest.mark.parametrize(
    ("rule", "verdicts", "told_by", "asked"),
    [
        ("a", (GOOD,), "a", "a"),
        ("a", (NONE,), "MISSING a", "a"),
        ("a", (BAD,), "INVALID a", "a"),
        ("a", (OLD,), "EXPIRED a", "a"),
        ("a", (AWAY,), "UNAVAILABLE a", "a"),
        # One of them: who holds first is asked last.
        ("a b", (GOOD, GOOD), "a", "a"),
        ("a b", (NONE, GOOD), "b", "ab"),
        ("a b", (FOREIGN, GOOD), "b", "ab"),
        ("a b", (AWAY, GOOD), "b", "ab"),
        # Its own credential is bad: that ends it.
        ("a b", (BAD, GOOD), "INVALID a", "a"),
        ("a b", (OLD, GOOD), "EXPIRED a", "a"),
        # None takes it: who could not tell, who found one, the first.
        ("a b", (NONE, NONE), "MISSING a", "ab"),
        ("a b", (NONE, FOREIGN), "FOREIGN b", "ab"),
        ("a b", (FOREIGN, NONE), "FOREIGN a", "ab"),
        ("a b", (FOREIGN, FOREIGN), "FOREIGN a", "ab"),
        ("a b", (FOREIGN, AWAY), "UNAVAILABLE b", "ab"),
        ("a b", (FOREIGN, OLD), "EXPIRED b", "ab"),
        # Both.
        ("a+b", (GOOD, GOOD), "a+b", "ab"),
        ("a+b", (GOOD, NONE), "MISSING b", "ab"),
        ("a+b", (NONE, GOOD), "MISSING a", "a"),
        ("a+b", (GOOD, BAD), "INVALID b", "ab"),
        ("a+b c", (GOOD, NONE, GOOD), "c", "abc"),
        # May be missing; a bad one is refused all the same.
        ("a?", (NONE,), "nobody", "a"),
        ("a?", (GOOD,), "a", "a"),
        ("a?", (FOREIGN,), "FOREIGN a", "a"),
        ("a?", (BAD,), "INVALID a", "a"),
        ("a?", (AWAY,), "UNAVAILABLE a", "a"),
        ("a? b", (NONE, NONE), "nobody", "ab"),
        ("a? b", (NONE, GOOD), "b", "ab"),
        ("a? b", (NONE, FOREIGN), "FOREIGN b", "ab"),
        ("a? b", (NONE, BAD), "INVALID b", "ab"),
        ("a b?", (FOREIGN, NONE), "FOREIGN a", "ab"),
        ("a+b?", (GOOD, NONE), "a", "ab"),
        ("a+b?", (GOOD, BAD), "INVALID b", "ab"),
        ("a?+b", (NONE, GOOD), "b", "ab"),
    ],
)
def test_outcomes_combine(rule: str, verdicts: tuple[Verdict, ...], told_by: str, asked: str) -> None:
    assert told(rule, *verdicts) == (told_by, list(asked))


terms = st.builds(Term, st.sampled_from("abc"), st.booleans())
rules = st.builds(Rule, st.lists(st.lists(terms, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3).map(tuple))


@given(rules, st.tuples(*[st.sampled_from(Verdict)] * 3))
def test_nobody_passes_with_a_bad_credential_or_for_want_of_one(rule: Rule, verdicts: tuple[Verdict, ...]) -> None:
    found = dict(zip("abc", verdicts, strict=True))
    known: dict[str, Outcome] = {}
    while isinstance(step := decide(rule, known), str):
        assert step not in known
        known[step] = outcome(found[step], step)
    if isinstance(step, Refused):
        assert step.outcome.verdict is not GOOD
    elif step.outcomes:
        held = {one.way for one in step.outcomes}
        assert all(found[way] is GOOD for way in held)
        assert any(
            held == {term.way for term in chain if found[term.way] is GOOD}
            and all(term.way in held or (term.optional and found[term.way] is NONE) for term in chain)
            for chain in rule.chains
        )
    else:
        assert rule.may_be_nobody
        assert {one.verdict for one in known.values()} <= {NONE, GOOD}


@given(rules, st.tuples(*[st.sampled_from(Verdict)] * 3))
def test_no_way_is_asked_that_the_rule_does_not_name(rule: Rule, verdicts: tuple[Verdict, ...]) -> None:
    _, asked = told(str(rule), *verdicts)
    assert set(asked) <= set(rule.ways)
    assert list(unknown_ways(rule, "ab")) == [way for way in rule.ways if way == "c"]


@pytest.mark.parametrize(
    ("roles", "scopes", "lacking"),
    [
        ((), (), None),
        (("admin",), (), None),
        (("admin", "ops"), (), None),
        (("ops",), (), "It takes the role ops."),
        (("ops", "root"), (), "It takes one of the roles ops, root."),
        ((), ("read",), None),
        ((), ("read", "write"), "It takes the scope write."),
        (("ops",), ("write",), "It takes the role ops."),
    ],
)
def test_one_of_the_roles_and_all_of_the_scopes(
    roles: tuple[str, ...], scopes: tuple[str, ...], lacking: str | None
) -> None:
    who = Identity("alice", "a", ("admin", "staff"), ("read",))
    assert missing_of(Requirement(parse_rule("a"), roles, scopes), who) == lacking


def test_every_verdict_has_one_of_the_words_of_the_metric() -> None:
    words = {"passed", "missing", "invalid", "expired", "forbidden", "unavailable"}
    assert {verdict.word for verdict in Verdict} == words
