"""What a parent reads of the requests of a worker that has died."""

import os

from gateway.observe.in_flight import InFlight


def test_each_worker_has_its_own_place() -> None:
    board = InFlight(2)
    board.write(0, 1, ["a"])
    board.write(1, 3, ["d", "c", "b"])
    assert (board.read(0), board.read(1)) == ((1, ["a"]), (3, ["d", "c", "b"]))
    board.clear(1)
    assert (board.read(0), board.read(1)) == ((1, ["a"]), (0, []))


def test_of_many_the_newest_are_named() -> None:
    board = InFlight(1)
    board.write(0, 500, (f"{number:0128}" for number in range(500)))
    count, ids = board.read(0)
    assert (count, len(ids), ids[0]) == (500, 20, "0" * 128)


def test_it_outlives_the_process_that_wrote_it() -> None:
    board = InFlight(1)
    child = os.fork()
    if child == 0:
        board.write(0, 1, ["lost"])
        os._exit(9)
    os.waitpid(child, 0)
    assert board.read(0) == (1, ["lost"])
