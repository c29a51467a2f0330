"""Which keys the database may hold: never wrong when it says no, seldom when it says yes."""

import multiprocessing

from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.bloom_filter import CAPACITY, BloomFilter
from gateway.cache.keys import digest

FORK = multiprocessing.get_context("fork")


def bloom_filter(*keys: str) -> BloomFilter:
    one = BloomFilter()
    one.completed()
    for key in keys:
        one.add(digest(key))
    return one


@given(st.sets(st.text(), max_size=20))
def test_what_was_added_is_held(keys: set[str]) -> None:
    one = bloom_filter(*keys)
    assert all(one.may_hold(digest(key)) for key in keys)


def test_nothing_is_ruled_out_until_all_is_known() -> None:
    one = BloomFilter()
    assert one.may_hold(digest("a"))
    one.completed()
    assert not one.may_hold(digest("a"))


def test_few_seem_to_be_there_that_are_not() -> None:
    one = bloom_filter()
    for number in range(CAPACITY // 10):
        one.add(digest(f"held {number}"))
    assert sum(one.may_hold(digest(f"other {number}")) for number in range(10_000)) < 50


def test_it_is_empty_and_incomplete_again_once_it_is_cleared() -> None:
    one = bloom_filter("a")
    one.clear()
    assert not one.is_complete
    one.completed()
    assert not one.may_hold(digest("a"))


def test_what_one_process_adds_another_one_knows() -> None:
    one = bloom_filter()
    child = FORK.Process(target=one.add, args=[digest("a")])
    child.start()
    child.join()
    assert one.may_hold(digest("a"))
    assert not one.may_hold(digest("b"))
