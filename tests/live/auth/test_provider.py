"""A real OpenID provider (npm oidc-provider): discovery, its tokens, rotation of its keys, its end and return."""

import json
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.live.harness import Answer, Answers, Gateway, eventually, free_port

HERE = Path(__file__).parent / "provider"
INSTALL_S = 90
SECRET = "a-secret-of-the-client-in-a-test"
AGAIN_S = 25.0  # the issuer is asked at most every ten seconds


@pytest.fixture(scope="session")
def provider_js() -> Path:
    """The provider's program with its packages; skips, and says why, where they cannot be had."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm: the real OpenID provider is not tried")
    if not (HERE / "node_modules" / "oidc-provider").exists():
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"npm cannot have oidc-provider: {done.stderr.strip().splitlines()[-1:]}")
    return HERE / "provider.js"


class Provider:
    """The provider as a process on one port, with the keys of these names."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._program, self._folder = program, folder
        self._process: subprocess.Popen[str] | None = None

    def start(self, *names: str) -> None:
        keys = self._folder / "keys.json"
        keys.write_text(json.dumps({"keys": [private_jwk(name) for name in names]}), encoding="ascii")
        self._process = subprocess.Popen(
            ["node", str(self._program), str(self.port), str(keys)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        assert any("ready" in line for line in self._process.stdout)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def token(self, scope: str = "orders:read") -> str:
        form = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": scope}).encode()
        basic = b64encode(f"shop:{SECRET}".encode()).decode()
        request = urllib.request.Request(f"{self.url}/token", form, {"Authorization": f"Basic {basic}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            text: str = json.load(answer)["access_token"]
        return text


def private_jwk(name: str) -> dict[str, Any]:
    made: dict[str, Any] = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True)
    made.pop("key_ops", None)
    return {**made, "kid": name, "use": "sig", "alg": "RS256"}


@pytest.fixture
def provider(provider_js: Path, tmp_path: Path) -> Iterator[Provider]:
    found = Provider(provider_js, tmp_path)
    yield found
    found.stop()


def environment(provider: Provider, up: Answers) -> dict[str, str]:
    return {
        "GATEWAY_UPSTREAM_SHOP": up.url,
        "GATEWAY_ROUTE_SHOP": "/** -> shop",
        "GATEWAY_ROUTE_WRITES": "POST /** -> shop",
        "GATEWAY_ROUTE_WRITES__SCOPES": "orders:write",
        "GATEWAY_AUTH": "token",
        "GATEWAY_AUTH_TOKEN": f"jwt {provider.url}",
        "GATEWAY_AUTH_TOKEN__AUDIENCE": "shop-api",
        "GATEWAY_AUTH_TOKEN__HEADER_X_USER": "{claim.sub}",
        "GATEWAY_CACHE_DISK": "0B",
    }


def ask(gateway: Gateway, token: str) -> Answer:
    return gateway.get("/", f"Authorization: Bearer {token}")


def reason(answer: Answer) -> str:
    return str(answer.json()["reason"])


def test_tokens_keys_that_change_and_an_issuer_that_goes_and_comes(
    provider: Provider, up: Answers, tmp_path: Path
) -> None:
    provider.start("one")
    with Gateway(environment(provider, up), cwd=tmp_path) as gateway:
        first, second = provider.token(), provider.token()
        eventually(lambda: ask(gateway, first).status == 200)
        answer = ask(gateway, first)
        line = gateway.request_line(answer.one("x-request-id"))
        assert (line["auth"], line["identity"]) == ("token", "shop")
        assert up.requests[-1].one("x-user") == "shop"
        assert ask(gateway, first[:-4] + "AAAA").status == 401

        # It is gone: what it made before holds, and what names an unknown key is refused.
        provider.stop()
        assert ask(gateway, second).status == 200

        # It is back with other keys: their first token is looked up at once, and the old key's are no good any more.
        provider.start("two")
        third = provider.token()
        eventually(lambda: ask(gateway, third).status == 200, within_s=AGAIN_S)
        refused = ask(gateway, second)
        assert (refused.status, reason(refused)) == (401, "auth_invalid")
        assert refused.one("www-authenticate") == 'Bearer error="invalid_token"'
        for token in (first, second, third):
            assert all(token not in line for line in (*gateway.output, *gateway.errors))
    assert [line["keys"] for line in gateway.log if line["event"] == "auth.keys_loaded"] == [1, 1]


def test_an_issuer_that_comes_late_is_no_fault_of_the_client(provider: Provider, up: Answers, tmp_path: Path) -> None:
    provider.start("one")
    token = provider.token()
    provider.stop()
    with Gateway(environment(provider, up), cwd=tmp_path) as gateway:
        answer = ask(gateway, token)
        assert (answer.status, reason(answer)) == (503, "auth_unavailable")
        assert 1 <= int(answer.one("retry-after")) <= 10
        gateway.wait_for_log(lambda line: line["event"] == "auth.keys_failed")
        provider.start("one")
        fresh = provider.token()
        eventually(lambda: ask(gateway, fresh).status == 200, within_s=AGAIN_S)


def test_scopes_of_the_provider_are_those_of_routes(provider: Provider, up: Answers, tmp_path: Path) -> None:
    provider.start("one")
    with Gateway(environment(provider, up), cwd=tmp_path) as gateway:
        reads, writes = provider.token("orders:read"), provider.token("orders:read orders:write")

        def post(token: str) -> Answer:
            head = f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
            return gateway.ask(head.encode())

        eventually(lambda: ask(gateway, reads).status == 200)
        assert post(reads).status == 403
        assert post(reads).one("www-authenticate") == 'Bearer error="insufficient_scope", scope="orders:write"'
        assert post(writes).status == 200
