"""What commands make of the answers of what runs at an address."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.core.management import CommandError

from gateway.config.records import Settings
from gateway.management.running import ask

SETTINGS = cast("Settings", SimpleNamespace(admin_token=None))
PROBLEM = {"title": "Unauthorized", "status": 401, "detail": "Send the token."}


class Says(BaseHTTPRequestHandler):
    """Answers `/STATUS/JSON`."""

    def do_GET(self) -> None:
        _, status, body = self.path.split("/", 2)
        self.send_response(int(status))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Says) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        *((200, body, "answers 200, and not as a gateway of ours does") for body in ("{}", "[]", "1", '{"ok":true}')),
        *(
            (404, body, "answers 404, and not as a gateway of ours does")
            for body in ("[]", '"no"', '{"error":"no"}', "x")
        ),
        (401, json.dumps(PROBLEM).replace(" ", ""), "answers 401: Sendthetoken."),
    ],
)
def test_what_is_no_gateway_is_said_in_a_sentence(url: str, status: int, body: str, says: str) -> None:
    with pytest.raises(CommandError) as refused:
        ask(SETTINGS, "GET", f"/{status}/{body}", url, member="limits")
    assert str(refused.value) == f"{url} {says}"


def test_the_answer_of_a_gateway_is_given(url: str) -> None:
    assert ask(SETTINGS, "GET", '/200/{"limits":[]}', url, member="limits") == {"limits": []}
