"""A change is told of once, when it has stood still; what a path leads to counts, not the path."""

import os
import py_compile
from pathlib import Path
from types import ModuleType

from gateway.reload.board import Board, Outcome
from gateway.reload.files import Watch, beside, changed, forget_compiled, look, named_files, own_modules


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_change_is_told_of_when_it_stands_still_and_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.env", "one")
    watch = Watch(lambda: [path])
    assert watch.again() == []
    write(tmp_path / "a.env", "three")
    assert watch.again() == []
    write(tmp_path / "a.env", "and more")
    assert watch.again() == []
    assert (watch.again(), watch.again()) == ([path], [])


def test_a_swapped_symlink_and_a_file_that_comes_or_goes_are_changes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "token", "same size")
        os.utime(tmp_path / name / "token", (1, 1))
    (tmp_path / "data").symlink_to("one")
    path = str(tmp_path / "data" / "token")
    before = look([path, str(tmp_path / "gone")])
    assert changed(before, look(before)) == []
    (tmp_path / "data").unlink()
    (tmp_path / "data").symlink_to("two")
    write(tmp_path / "gone", "here")
    assert changed(before, look(before)) == [path, str(tmp_path / "gone")]


def test_which_files_count(tmp_path: Path) -> None:
    assert named_files({"GATEWAY_X_FILE": "/b ", "GATEWAY_Y_FILE": "", "X_FILE": "/c", "GATEWAY_Z": "/d"}) == ["/b"]
    modules = [ModuleType(name) for name in ("routes", "library", "ours", "builtin")]
    for module, path in zip(modules, ("routes.py", ".venv/lib/site-packages/l.py", "home/gateway/o.py"), strict=False):
        module.__file__ = str(tmp_path / path)
    assert own_modules(modules, tmp_path, tmp_path / "home" / "gateway") == [str(tmp_path / "routes.py")]
    routes, helper = write(tmp_path / "routes.py", ""), write(tmp_path / "helper.py", "")
    env = write(tmp_path / "a.env", "")
    assert beside([routes, env]) == sorted([routes, helper, env])


def test_the_board_tells_what_came_of_reloads() -> None:
    board = Board()
    assert (board.parent_pid, board.generation, board.ended) == (os.getpid(), 1, 0)
    assert board.ask() == 1
    board.begin()
    assert board.ask() == 2, "the one that is under way has begun before"
    board.end(Outcome.REFUSED, 1, "a problem", 5.0)
    assert (board.ended, board.last()) == (1, (Outcome.REFUSED, 5.0, "a problem"))
    board.end(Outcome.DONE, 2, "", 6.0)
    assert (board.generation, board.counts) == (2, {"done": 1, "refused": 1, "failed": 0})
    assert os.read(board.asked, 10) == b"rr"


def test_what_was_compiled_of_a_source_in_the_second_of_its_writing_is_forgotten(tmp_path: Path) -> None:
    source = write(tmp_path / "routes.py", "ONE = 1")
    compiled = Path(py_compile.compile(source, doraise=True) or "")
    written_s = Path(source).stat().st_mtime
    for age_s, is_kept in ((3600, True), (2.5, True), (1.5, False), (-1, False)):
        Path(compiled).write_bytes(b"")
        os.utime(compiled, (written_s + age_s, written_s + age_s))
        forget_compiled([source, str(tmp_path / "gone.py"), str(tmp_path / "a.env")])
        assert compiled.exists() is is_kept, age_s
