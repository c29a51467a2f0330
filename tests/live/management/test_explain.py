"""`gateway explain` against the truth: what it says goes up is what an upstream then gets."""

import re
from pathlib import Path

import pytest

from tests.live.harness import Answers, Gateway, request_bytes
from tests.live.management.test_commands import run


def told(output: str) -> dict[str, list[list[str]]]:
    """The sections of an explanation, each row cut where two spaces stand."""
    blocks = [block.splitlines() for block in output.strip().split("\n\n")]
    return {title: [re.split(r"  +", row.strip()) for row in rows] for title, *rows in blocks}


REQUESTS = {
    "a prefix is stripped": ("GET", "/api/users/3?full=1", ()),
    "fields of one connection, and a forged address": (
        "GET",
        "/api/users/%41%2Fb",
        ("X-Tenant: a", "X-Tenant: b", "Connection: x-drop", "X-Drop: 1", "TE: trailers", "X-Forwarded-For: 192.0.2.1"),
    ),
    "a template, a query of its own, and a header that is set": ("GET", "/of/7?page=2", ("Authorization: mine",)),
    "ids are kept": (
        "DELETE",
        "/api/users/9",
        ("X-Request-ID: abc", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ),
}


@pytest.fixture(scope="module")
def environment(up: Answers) -> dict[str, str]:
    return {
        "GATEWAY_UPSTREAM_USERS": f"{up.url}/base",
        "GATEWAY_ROUTE_USERS": "/api/users/** -> users:/**",
        "GATEWAY_ROUTE_ORDERS": "/of/{id} -> users:/orders?user={id}",
        "GATEWAY_ROUTE_ORDERS__HEADER_AUTHORIZATION": "topsecret",
    }


def test_what_is_told_is_what_an_upstream_gets(up: Answers, environment: dict[str, str], tmp_path: Path) -> None:
    with Gateway(environment, cwd=tmp_path) as gateway:
        for what, (method, target, fields) in REQUESTS.items():
            up.forget()
            gateway.ask(request_bytes(method, target, *fields))
            got = up.wait_for_request()
            headers = [word for field in fields for word in ("-H", field)]
            ran = run(tmp_path, "explain", method, target, "-H", "Host: gateway.test", *headers, **environment)
            assert (ran.code, ran.errors) == (0, ""), what
            sections = told(ran.output)
            assert sections["Upstream"] == [["users", f"{up.url}{got.target}"]], what
            rows = sections["Headers that go up"]
            assert {name for how, name, *_ in rows if how != "removed"} == got.names, what
            for how, name, value, *_ in rows:
                if how in {"kept", "changed"} or (how == "added" and not value.startswith("(")):
                    assert value == ", ".join(got.all(name)), what
            assert "topsecret" not in ran.output
