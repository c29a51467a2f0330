"""What was found a moment ago."""

from gateway.auth.rules import Outcome, Verdict
from gateway.auth.verdicts import Verdicts, digest

ALICE = Outcome(Verdict.PASSED, "token")


def test_a_verdict_holds_until_its_time() -> None:
    kept = Verdicts()
    kept.put(b"a", ALICE, 10.0)
    assert kept.get(b"a", 9.9) is ALICE
    assert kept.get(b"b", 9.9) is None
    assert kept.get(b"a", 10.0) is None
    assert len(kept) == 0


def test_there_are_never_more_than_so_many() -> None:
    kept = Verdicts(most=3)
    for number in range(10):
        kept.put(b"%d" % number, ALICE, 10.0)
    assert len(kept) == 3
    assert [kept.get(b"%d" % number, 0.0) for number in (6, 7, 8, 9)] == [None, ALICE, ALICE, ALICE]
    kept.put(b"7", ALICE, 20.0)
    kept.put(b"10", ALICE, 10.0)
    assert kept.get(b"7", 15.0) is ALICE
    kept.clear()
    assert kept.get(b"10", 0.0) is None


def test_a_digest_tells_what_was_sent_apart() -> None:
    different = [(b"ab",), (b"a", b"b"), (b"", b"ab"), (b"ab", b""), (b"a", b"", b"b"), (b"1:a",), (b"a", b"1:b")]
    assert len({digest(*parts) for parts in different}) == len(different)
    assert digest(b"ab") == digest(b"ab")
    assert b"ab" not in digest(b"ab")
