"""`gateway import` as a person types it, and that `gateway check` finds good what it prints."""

from pathlib import Path

import pytest

from gateway.importing.kinds import WORDS
from tests.importing.samples import FILES
from tests.live.management.test_commands import ROUTES, run

PLAIN = "server { listen 18080; location /users/ { proxy_pass http://users:8000; } }\n"


@pytest.mark.parametrize("word", WORDS)
def test_check_finds_good_what_it_prints(tmp_path: Path, word: str) -> None:
    name, text = FILES[word]
    (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "routes.py").write_text(ROUTES, encoding="utf-8")
    ran = run(tmp_path, "import", name)
    assert ran.code == 3, "something is left of each sample"
    (tmp_path / "gateway.env").write_text(ran.output, encoding="utf-8")
    checked = run(tmp_path, "check", "--env-file", "gateway.env")
    assert checked.code == 0, checked.errors
    assert "The configuration is good" in checked.output


def test_all_is_said_of_a_plain_file_whatever_the_environment_holds(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text(PLAIN, encoding="utf-8")
    ran = run(tmp_path, "import", "nginx.conf", GATEWAY_WORKRES="many")
    assert (ran.code, ran.errors) == (0, "")
    assert ran.output.splitlines() == [
        "# Made by `gateway import` from nginx.conf, a configuration of nginx.",
        "",
        "GATEWAY_BIND=0.0.0.0:18080",
        "GATEWAY_MAX_BODY=1MiB",
        "",
        "GATEWAY_UPSTREAM_USERS=http://users:8000",
        "",
        "GATEWAY_ROUTE_USERS=/users/** -> users",
    ]


def test_lines_for_a_shell_are_quoted(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text(PLAIN, encoding="utf-8")
    ran = run(tmp_path, "import", "--shell", "nginx.conf")
    assert "export GATEWAY_ROUTE_USERS='/users/** -> users'" in ran.output


def test_output_goes_to_a_folder_and_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text(PLAIN, encoding="utf-8")
    first = run(tmp_path, "import", "--output", "new", "nginx.conf")
    assert (first.code, first.output) == (0, "new/gateway.env: 4 variables; 0 things are left\n")
    assert "GATEWAY_ROUTE_USERS=/users/** -> users" in (tmp_path / "new" / "gateway.env").read_text(encoding="utf-8")
    again = run(tmp_path, "import", "--output", "new", "nginx.conf")
    assert again.code == 1
    assert "is there already" in again.errors
    no_folder = run(tmp_path, "import", "--output", "nginx.conf", "nginx.conf")
    assert (no_folder.code, no_folder.errors) == (1, "gateway: nginx.conf is no folder\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.json"], 2, "missing.json: No such file or directory"),
        (["broken.json"], 2, "broken.json: line 1: expected"),
        (["raw.bin"], 2, "raw.bin: this is not UTF-8 text"),
        (["--from", "kong", "nginx.conf"], 2, "no route of this Kong configuration"),
        (["--from", "apache", "nginx.conf"], 1, "invalid choice"),
        ([], 1, "the following arguments are required: FILE"),
    ],
)
def test_a_file_that_cannot_be_read_is_2_and_a_wrong_command_1(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "nginx.conf").write_text("a: b\n", encoding="utf-8")
    (tmp_path / "broken.json").write_text("{,", encoding="utf-8")
    (tmp_path / "raw.bin").write_bytes(b"\xff\xfe\x00")
    ran = run(tmp_path, "import", *arguments)
    assert ran.code == code
    assert words in ran.errors
