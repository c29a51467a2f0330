"""What a gateway in a test is made of: its environment, its folder, its routes."""

import sys
from pathlib import Path

import pytest

from gateway.testing import SetupError, TestGateway

USERS = {"UPSTREAM_USERS": "http://users.test"}
ROUTES = """
from gateway.routing import from_environment, proxy, route
from words import WORD

def wrapped(view):
    async def around(request, **params):
        response = await view(request, **params)
        response.pairs.append((b"x-wrapped", b"1"))
        return response
    return around

urlpatterns = [*from_environment(wrap=wrapped), route("/python", proxy("users:/" + WORD))]
"""


LINE = "from gateway.routing import route, proxy\nurlpatterns = [route('/x', proxy('user'))]\n"


def project(folder: Path, word: str, env: str = "") -> Path:
    folder.mkdir()
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    (folder / "words.py").write_text(f"WORD = '{word}'\n", encoding="utf-8")
    if env:
        (folder / "gateway.env").write_text(env, encoding="utf-8")
    return folder


async def test_two_folders_have_each_their_own_modules(tmp_path: Path) -> None:
    env = "GATEWAY_UPSTREAM_USERS=http://users.test\nGATEWAY_ROUTE_USERS=/users/** -> users\n"
    for word in ("one", "two", "one"):
        folder = tmp_path / word
        async with TestGateway(folder=folder if folder.exists() else project(folder, word, env)) as gateway:
            gateway.users["*"] = {}
            await gateway.get("/python")
            answer = await gateway.get("/users/1")
            assert [call.path for call in gateway.users.calls] == [f"/{word}", "/users/1"]
            assert answer.headers["x-wrapped"] == "1"
            assert sys.modules["words"].__file__ == str(folder / "words.py")


async def test_a_module_is_imported_once_and_serves_any_environment(tmp_path: Path) -> None:
    folder = project(tmp_path / "p", "word")
    modules = []
    for pattern in ("/a/** -> users", "/b/** -> users", ""):
        env = {**USERS, "ROUTE_X": pattern} if pattern else USERS
        async with TestGateway(env, routes="routes", folder=folder) as gateway:
            gateway.users["*"] = {}
            asked = [(await gateway.get(path)).status for path in ("/a/1", "/b/1", "/python")]
            assert asked == [200 if pattern[:2] == path else 404 for path in ("/a", "/b")] + [200]
        modules.append(sys.modules["routes"])
    assert modules[0] is modules[1] is modules[2]


async def test_files_of_variables_lie_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer abc\n", encoding="utf-8")
    env = {**USERS, "UPSTREAM_USERS__HEADER_AUTHORIZATION_FILE": "token", "ROUTE_X": "/** -> users"}
    async with TestGateway(env, folder=tmp_path) as gateway:
        gateway.users["*"] = {}
        await gateway.get("/x")
        assert gateway.users.calls[0].headers["authorization"] == "Bearer abc"


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"there is no folder .*/absent"):
        TestGateway({"ROUTE_X": "/x -> 204"}, folder=tmp_path / "absent")


@pytest.mark.parametrize(
    ("env_file", "routes", "said"),
    [
        (None, None, "has neither gateway.env nor routes.py"),
        ("GATEWAY_UPSTREAM_USERS\n", None, "there is no route yet"),
        ("GATEWAY_TIMEOUT=5\n", None, r"GATEWAY_TIMEOUT \(gateway.env:1\) = 5"),
        ("export A=b\n", None, "gateway.env:1: expected KEY=VALUE"),
        (None, "urlpatterns = [1 / 0]\n", "routes.py:1: ZeroDivisionError"),
        (None, "import missing_module_of_theirs\n", "routes.py:1: ModuleNotFoundError"),
        (
            None,
            "from gateway.routing import route, proxy\nurlpatterns = [route('/x', proxy('user'))]\n",
            "no upstream user",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(
    tmp_path: Path, env_file: str | None, routes: str | None, said: str
) -> None:
    if env_file is not None:
        (tmp_path / "gateway.env").write_text(env_file, encoding="utf-8")
    if routes is not None:
        (tmp_path / "routes.py").write_text(routes, encoding="utf-8")
    with pytest.raises(SetupError, match=said):
        TestGateway(folder=tmp_path)


def test_what_check_finds_keeps_it_from_starting() -> None:
    env = {**USERS, "ROUTE_X": "/** -> users", "ROUTE_Y": "/a -> file:./nowhere"}
    with pytest.raises(SetupError, match="nowhere"):
        TestGateway(env)
