"""`gateway auth`, and what `explain` and `check` say of who asks; each command as a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.auth.keys import KeyTable, parse_keys
from tests.auth.issuer import ISSUER, claims, token

SECRET = "0123456789abcdef0123456789abcdef"
ENVIRON = {
    "GATEWAY_UPSTREAM_U": "http://127.0.0.1:1", "GATEWAY_ROUTE_U": "/u/** -> u", "GATEWAY_ROUTE_V": "/v/** -> u",
    "GATEWAY_ROUTE_W": "/w/** -> u", "GATEWAY_AUTH": "token",
    "GATEWAY_AUTH_TOKEN": f"jwt {ISSUER}", "GATEWAY_AUTH_TOKEN__ALGORITHMS": "HS256",
    "GATEWAY_AUTH_TOKEN__SECRET": SECRET, "GATEWAY_AUTH_TOKEN__AUDIENCE": "shop-api",
    "GATEWAY_AUTH_TOKEN__HEADER_X_USER": "{claim.sub}",
}  # fmt: skip


def gateway(
    *words: str, environ: Mapping[str, str] = {}, cwd: Path, given: str = "", code: int = 0
) -> "subprocess.CompletedProcess[str]":
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        env={**plain, **environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=cwd, input=given, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def signed(**more: object) -> str:
    """An honest token; of an hour, since tables are made long before the tests that read them."""
    return token(claims(**{"exp": time.time() + 3600, **more}), "HS256", key=SECRET.encode()).decode()


def test_a_key_is_made_where_nothing_is_configured_and_its_line_takes_it(tmp_path: Path) -> None:
    environ = {"GATEWAY_AUTH_KEYS": "keys"}  # which still lacks its first key
    shown = gateway("auth", "key", "acme", "--roles", "partner,ops", environ=environ, cwd=tmp_path).stdout
    key, line = (row.split(None, 1)[1] for row in shown.strip().splitlines())
    found = KeyTable(parse_keys(line)).find(key.encode())
    assert found is not None
    assert (found.name, found.roles, key in line) == ("acme", ("partner", "ops"), False)
    assert gateway("auth", "key", "acme", cwd=tmp_path).stdout != shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a=b"], "expected a name without white space and : , # = [ ], such as acme"),
        (["acme inc"], "expected a name without white space"),
        (["acme", "--roles", "admin=ops"], "expected roles between commas, without white space"),
        (["acme", "--roles", "admin ops"], "expected roles between commas, without white space"),
    ],
)
def test_a_name_or_a_role_that_cannot_be_is_refused(tmp_path: Path, arguments: list[str], says: str) -> None:
    refused = gateway("auth", "key", *arguments, cwd=tmp_path, code=1)
    assert (says in refused.stderr, refused.stdout) == (True, "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (signed(roles=["a"]), ["takes it", "for alice, roles a"]),
        (f"Bearer {signed()}", ["takes it"]),
        (f"Authorization: Bearer {signed()}\n", ["takes it"]),
        (signed(aud="x"), ["refuses it: invalid", "aud is 'x', not shop-api"]),
        (signed(exp=1), ["refuses it: expired", "exp was"]),
        (signed(iss=ISSUER + "/"), ["they differ by the slash"]),
        (token(claims(), "RS256").decode(), ["alg is 'RS256', not one of HS256"]),
    ],
)
def test_a_token_is_taken_to_pieces(tmp_path: Path, text: str, says: list[str]) -> None:
    shown = gateway("auth", "token", "-", environ=ENVIRON, cwd=tmp_path, given=text).stdout
    for word in says:
        assert word in shown
    assert text.rpartition(".")[2].strip() not in shown


def test_what_is_no_token_is_said_without_it(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("topsecret", encoding="ascii")
    done = gateway("auth", "token", "t", environ=ENVIRON, cwd=tmp_path, code=1)
    assert "this is no token: it has no three parts" in done.stderr
    assert "topsecret" not in done.stdout + done.stderr
    assert "No such file" in gateway("auth", "token", "gone", environ=ENVIRON, cwd=tmp_path, code=1).stderr


def test_explain_says_who_would_be_let_in_and_why_not(tmp_path: Path) -> None:
    def told(*fields: str) -> str:
        words = [word for field in fields for word in ("-H", field)]
        return gateway("explain", "GET", "/u/x", *words, environ=ENVIRON, cwd=tmp_path).stdout

    assert "refused   401 auth_missing" in told()
    assert "exp was" in told(f"Authorization: Bearer {signed(exp=1)}")
    token = signed()
    good = told(f"Authorization: Bearer {token}", "X-User: root", "X_User: root")
    assert token not in good
    assert "let in    alice by token" in good
    assert "set      x-user             alice" in good or "x-user" in good
    assert "is said by a way to authenticate only" in good


def test_check_names_what_is_perhaps_not_meant_so(tmp_path: Path) -> None:
    no_way = {"GATEWAY_ROUTE_V__AUTH": "-", "GATEWAY_AUTH_SPARE": "python os.getcwd"}
    shown = gateway("check", environ={**ENVIRON, **no_way}, cwd=tmp_path, code=2)
    assert "it is no async function" in shown.stderr
    shown = gateway("check", environ={**ENVIRON, "GATEWAY_ROUTE_V__AUTH": "-"}, cwd=tmp_path)
    assert "GATEWAY_ROUTE_V: the one route that asks for no way; all others do" in shown.stderr
    spare = {"GATEWAY_AUTH_SPARE": "keys", "GATEWAY_AUTH_SPARE__KEYS": f"a sha256:{'0' * 64}"}
    shown = gateway("check", environ={**ENVIRON, **spare}, cwd=tmp_path)
    assert "GATEWAY_AUTH_SPARE: no route asks for it" in shown.stderr
    (tmp_path / "routes.py").write_text(
        "from gateway.routing import fetch, from_environment, route\n\n\n"
        "async def own(request):\n    return (await fetch('u:/x')).json()\n\n\n"
        "urlpatterns = [*from_environment(), route('/own', own)]\n",
        encoding="ascii",
    )
    environ = {name: value for name, value in ENVIRON.items() if name != "GATEWAY_AUTH"}
    shown = gateway("check", environ={**environ, "GATEWAY_UPSTREAM_U__AUTH": "token"}, cwd=tmp_path)
    assert "routes.py:8: what its view asks for by fetch() nobody can see; of u" in shown.stderr
