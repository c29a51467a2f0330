"""`gateway completion` in real shells: what Tab offers is what the command takes."""

import os
import pty
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.__main__ import _own_commands
from tests.live.management.test_commands import COMMAND

COMMANDS = {*_own_commands(), "version"}
PATH = f"{Path(COMMAND).parent}:{os.environ['PATH']}"


def printed(shell: str) -> str:
    # A configuration that is wrong does not matter: nothing is read.
    environment = {"PATH": PATH, "GATEWAY_ROUTE_A": "nonsense"}
    return subprocess.run(
        [COMMAND, "completion", shell], env=environment, check=True, capture_output=True, text=True
    ).stdout


def needs(shell: str) -> pytest.MarkDecorator:
    # Why it may be left out: only make and Python may be assumed of a newcomer's machine; `.ci/run` installs each.
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"needs {shell}")


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bash") / "gateway.bash"
    path.write_text(printed("bash"), encoding="utf-8")
    return path


def offered_by_bash(script: Path, line: str) -> set[str]:
    """What bash offers at the end of a line."""
    words = line.split(" ")
    run = f'. {script}; COMP_WORDS=("$@"); COMP_CWORD={len(words) - 1}; _gateway; printf "%s\\n" "${{COMPREPLY[@]}}"'
    # PATH has nothing: what completes starts no program.
    ran = subprocess.run(
        [shutil.which("bash") or "bash", "-euc", run, "bash", *words],
        env={"PATH": "/nowhere"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stderr == ""
    return set(ran.stdout.split())


@needs("bash")
def test_bash_offers_commands_verbs_options_and_values(bash: Path) -> None:
    for line, offered in {
        "gateway ": COMMANDS,
        "gateway ex": {"explain"},
        "gateway check --c": {"--connect"},
        "gateway serve --": {"--help", "--env-file"},
        "gateway auth ": {"key", "token", "-h", "--help", "--env-file"},
        "gateway auth key --r": {"--roles"},
        "gateway cache why P": {"POST", "PUT", "PATCH"},
        "gateway cache purge --a": {"--all"},
        "gateway import --from k": {"krakend", "kong"},
        "gateway explain GET /check --h": {"--help", "--header"},
        "gateway completion ": {"bash", "zsh", "fish", "-h", "--help"},
        "gateway serve --env-file ": set(),  # a file: bash itself offers those
        "gateway nonsense ": COMMANDS,
    }.items():
        assert offered_by_bash(bash, line) == offered, line


@needs("bash")
def test_in_bash_a_file_is_completed_where_one_may_stand(bash: Path, tmp_path: Path) -> None:
    (tmp_path / "production.env").touch()
    screen = typed(["bash", "--norc", "-i"], f". {bash}\n", "gateway serve --env-file prod\t", tmp_path)
    assert any(b"--env-file production.env" in seen for seen in screen)


@needs("zsh")
def test_zsh_completes_a_command_and_an_option(tmp_path: Path) -> None:
    (tmp_path / "gateway.zsh").write_text(printed("zsh"), encoding="utf-8")
    begin = "autoload -Uz compinit; compinit -u -D; . ./gateway.zsh\n"
    for line, result in {
        "gateway expl\t": b"gateway explain",
        "gateway check --conn\t": b"gateway check --connect",
        "gateway cache purge --al\t": b"gateway cache purge --all",
        "gateway import --from tr\t": b"gateway import --from traefik",
    }.items():
        assert any(result in seen for seen in typed(["zsh", "-f", "-i"], begin, line, tmp_path)), line


@needs("fish")
def test_fish_offers_commands_verbs_options_and_values(tmp_path: Path) -> None:
    (tmp_path / "gateway.fish").write_text(printed("fish"), encoding="utf-8")
    for line, offered in {
        "gateway ": COMMANDS,
        "gateway ex": {"explain"},
        "gateway check --c": {"--connect"},
        "gateway auth key --r": {"--roles"},
        "gateway cache ": {"ls", "why", "purge"},
        "gateway import --from k": {"krakend", "kong"},
    }.items():
        ran = subprocess.run(
            ["fish", "--no-config", "-c", f"source gateway.fish; complete -C {line!r}"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            check=True,
            capture_output=True,
            text=True,
        )
        assert {one.partition("\t")[0] for one in ran.stdout.splitlines()} == offered, line


def typed(shell: list[str], begin: str, line: str, folder: Path) -> Iterator[bytes]:
    """What a terminal has shown so far, again and again for ten seconds, once a line is typed at a shell's prompt."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(shell[0], shell, {"PATH": PATH, "HOME": str(folder), "TERM": "dumb", "PS1": "READY> "})
    try:
        os.set_blocking(terminal, False)
        seen, ends_s = b"", time.monotonic() + 10
        todo = [begin, line]
        while time.monotonic() < ends_s:
            try:
                seen += os.read(terminal, 65536)
            except BlockingIOError:
                time.sleep(0.02)
            if todo and seen.count(b"READY> ") > 2 - len(todo):
                os.write(terminal, todo.pop(0).encode())
            yield seen
    finally:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
