"""Answers of the gateway's own, what stands in for others, and routes that are closed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import Answer, Gateway, Refuses, Request, Upstream, eventually, request_bytes

HTML = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
PAGE = b"<h1>lost</h1>"


class Says(Upstream):
    """Answers with the status that the path ends in; `/echo` with the body that came."""

    def on_request(self, request: Request) -> None:
        status = request.target.partition("?")[0].rpartition("/")[2]
        status = status if status.isdigit() else "200"
        body = request.body or b"from the service"
        request.send(
            b"HTTP/1.1 %s X\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s"
            % (status.encode(), len(body), body)
        )


@pytest.fixture(scope="module")
def main() -> Iterator[Says]:
    with Says() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def spare() -> Iterator[Says]:
    with Says() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def gateway(main: Says, spare: Says, home: Path) -> Iterator[Gateway]:
    refuses = Refuses()
    (home / "404.html").write_bytes(PAGE)
    (home / "500.json").write_text('{"own": true}', encoding="ascii")
    (home / "robots.txt").write_text("User-agent: *\nDisallow: /{private}\n", encoding="ascii")
    environment = {
        "GATEWAY_RESPONSE_HEADER_X_ALL": "1",
        "GATEWAY_CORS": "https://app.example.com",
        "GATEWAY_UPSTREAM_MAIN": main.url,
        "GATEWAY_UPSTREAM_MAIN__HEADER_X_KEY": "secret-of-main",
        "GATEWAY_UPSTREAM_MAIN__ON_418": "410",
        "GATEWAY_UPSTREAM_SPARE": spare.url,
        "GATEWAY_UPSTREAM_SPARE__HEADER_X_SPARE": "1",
        "GATEWAY_UPSTREAM_DEAD": f"http://127.0.0.1:{refuses.port}",
        "GATEWAY_ON_404": f"file:{home}/404.html",
        "GATEWAY_ROUTE_CLOSED": "/closed/** -> 403",
        "GATEWAY_ROUTE_CLOSED__RESPONSE_HEADER_X_OWN": "2",
        "GATEWAY_ROUTE_ROBOTS": "GET /robots.txt -> 200",
        "GATEWAY_ROUTE_ROBOTS__BODY_FILE": str(home / "robots.txt"),
        "GATEWAY_ROUTE_JSON": "/own.json -> 200",
        "GATEWAY_ROUTE_JSON__BODY": '{"a": 1}',
        "GATEWAY_ROUTE_JSON__TYPE": "application/json",
        "GATEWAY_ROUTE_EMPTY": "/empty -> 204",
        "GATEWAY_ROUTE_SPACES": "/spaces -> 301 /spaces/",
        "GATEWAY_ROUTE_OLD": "/old/** -> 308 /**",
        "GATEWAY_ROUTE_ITEM": "/item/{id} -> 302 /items/{id}/view?from={id}#top",
        "GATEWAY_ROUTE_WWW": "www.example.com/** -> 308 https://example.com/**",
        "GATEWAY_ROUTE_BY": "/by -> 307 /to/{query.where|nowhere}",
        "GATEWAY_ROUTE_FALLS": "/falls/** -> main",
        "GATEWAY_ROUTE_FALLS__ON_503": "spare:/books/**",
        "GATEWAY_ROUTE_FALLS__ON_401": "302 https://auth.example.org/login?next={url}",
        "GATEWAY_ROUTE_FALLS__ON_5XX": "503",
        "GATEWAY_ROUTE_FALLS__ON_5XX_BODY": "later",
        "GATEWAY_ROUTE_FALLS__ON_404": "-",
        "GATEWAY_ROUTE_DEAD": "/dead/** -> dead",
        "GATEWAY_ROUTE_DEAD__ON_CONNECTION_REFUSED": "spare:/**",
        "GATEWAY_ROUTE_DEAD__ON_502": "500",
        "GATEWAY_ROUTE_BOTH": "/both -> dead",
        "GATEWAY_ROUTE_BOTH__ON_502": "dead:/other",
        "GATEWAY_ROUTE_ILL": "/ill/** -> main",
        "GATEWAY_ROUTE_ILL__ON_5XX": "spare:/500",
        "GATEWAY_ROUTE_PAGES": "/pages/** -> main",
        "GATEWAY_ROUTE_PAGES__ON_500": f"file:{home}/500.json",
        "GATEWAY_ROUTE_PAGES__CACHE": "60s",
        "GATEWAY_ROUTE_SHUT": "/shut -> main",
        "GATEWAY_ROUTE_SHUT__MAINTENANCE": "on",
        "GATEWAY_ROUTE_LATER": "/later -> main",
        "GATEWAY_ROUTE_LATER__MAINTENANCE": str(home / "closed"),
        "GATEWAY_ROUTE_LATER__ON_MAINTENANCE": f"file:{home}/404.html",
    }
    with Gateway(environment, cwd=home) as running:
        yield running
    refuses.close()


def ask(
    gateway: Gateway, target: str, *fields: str, method: str = "GET", body: bytes = b"", host: str = "g.test"
) -> Answer:
    if body:
        fields = (*fields, f"Content-Length: {len(body)}")
    return gateway.ask(request_bytes(method, target, *fields, body=body, host=host))


def line_of(gateway: Gateway, answer: Answer) -> dict[str, object]:
    ident = answer.one("x-request-id")

    def lines() -> list[dict[str, object]]:
        return [line for line in gateway.log if line.get("request_id") == ident and line["event"] == "request"]

    return eventually(lines)[0]


# -- statuses and redirects -------------------------------------------------------------------------------------------


def test_a_status_is_an_answer_without_a_reason(gateway: Gateway) -> None:
    answer = ask(gateway, "/closed/x", "Origin: https://app.example.com")
    assert (answer.status, answer.one("content-type")) == (403, "application/problem+json")
    problem = answer.json()
    assert "reason" not in problem
    assert problem == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "request_id": answer.one("x-request-id"),
    }
    assert (answer.one("x-all"), answer.one("x-own")) == ("1", "2")
    assert answer.one("access-control-allow-origin") == "https://app.example.com"
    line = line_of(gateway, answer)
    assert (line["route"], line["status"], line["reason"], line["upstream"]) == ("closed", 403, None, None)


def test_a_body_is_text_as_it_is(gateway: Gateway) -> None:
    answer = ask(gateway, "/robots.txt")
    assert (answer.status, answer.body) == (200, b"User-agent: *\nDisallow: /{private}")
    assert answer.one("content-type") == "text/plain; charset=utf-8"
    head = ask(gateway, "/robots.txt", method="HEAD")
    assert (head.status, head.body, head.one("content-length")) == (200, b"", answer.one("content-length"))
    assert ask(gateway, "/robots.txt", method="POST").status == 405
    answer = ask(gateway, "/own.json", method="POST", body=b"ignored")
    assert (answer.one("content-type"), answer.json()) == ("application/json", {"a": 1})
    assert (ask(gateway, "/empty").status, ask(gateway, "/empty").has("content-length")) == (204, False)


@pytest.mark.parametrize(
    ("target", "status", "location"),
    [
        ("/spaces", 301, "/spaces/"),
        ("/spaces?a=1&b=2", 301, "/spaces/?a=1&b=2"),
        ("/old/a%2Fb/c?x=1", 308, "/a%2Fb/c?x=1"),
        ("/old", 308, "/"),
        ("/old//evil.example", 308, "/.//evil.example"),
        ("/old//evil.example/%5C", 308, "/.//evil.example/%5C"),
        ("/item/7?x=1", 302, "/items/7/view?from=7&x=1#top"),
        ("/item/a%2Fb", 302, "/items/a%2Fb/view?from=a%2Fb#top"),
        ("/item/", 400, None),
        ("/by?where=x%2F..%2Fy", 400, None),
        ("/by?where=%2F%2Fevil.example", 307, "/to/%2F%2Fevil.example"),
        ("/by?where=a%0d%0aSet-Cookie:%20x", 307, "/to/a%0D%0ASet-Cookie%3A%20x"),
        ("/by", 307, "/to/nowhere"),
    ],
)
def test_where_a_redirect_leads(gateway: Gateway, target: str, status: int, location: str | None) -> None:
    answer = ask(gateway, target, method="POST")
    assert answer.status == status
    assert (answer.one("location") if answer.has("location") else None) == location
    assert not answer.has("set-cookie")


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/a/b?c=1", "https://example.com/a/b?c=1"),
        ("/", "https://example.com/"),
        ("//evil.example/x", "https://example.com//evil.example/x"),
        ("/@evil.example", "https://example.com/@evil.example"),
    ],
)
def test_nothing_in_a_path_becomes_another_host(gateway: Gateway, target: str, location: str) -> None:
    assert ask(gateway, target, host="www.example.com").one("location") == location


# -- what stands in ---------------------------------------------------------------------------------------------------


def test_a_page_stands_in_for_who_asks_for_html_and_keeps_the_status(gateway: Gateway) -> None:
    answer = ask(gateway, "/nowhere", HTML)
    assert (answer.status, answer.body) == (404, PAGE)
    assert answer.one("content-type") == "text/html; charset=utf-8"
    assert "Accept" in answer.all("vary")
    line = line_of(gateway, answer)
    assert (line["reason"], line["fallback"], line["status"]) == ("route_not_found", "404", 404)
    for accept in ("Accept: */*", "Accept: application/json", "Accept: text/html;q=0", "X-None: 1"):
        answer = ask(gateway, "/nowhere", accept)
        assert answer.json()["reason"] == "route_not_found"
        assert "Accept" in answer.all("vary")


def test_a_page_that_is_no_html_stands_in_for_everybody(gateway: Gateway) -> None:
    answer = ask(gateway, "/pages/500")
    assert (answer.status, answer.json(), answer.one("content-type")) == (500, {"own": True}, "application/json")


def test_what_a_service_answered_is_replaced_too(gateway: Gateway) -> None:
    assert ask(gateway, "/pages/404", HTML).body == PAGE
    assert ask(gateway, "/pages/404").body == b"from the service"
    assert ask(gateway, "/falls/404", HTML).body == b"from the service"  # taken away there


def test_the_nearest_level_goes_first_then_a_reason_a_status_a_class(gateway: Gateway) -> None:
    assert ask(gateway, "/falls/418").status == 410
    answer = ask(gateway, "/falls/500")
    assert (answer.status, answer.body) == (503, b"later")
    assert ask(gateway, "/dead/x").status == 200  # by its reason, not by ON_502


def test_a_login_gets_the_url_encoded(gateway: Gateway) -> None:
    answer = ask(gateway, "/falls/401?a=1&b=%2F")
    url = "http%3A%2F%2Fg.test%2Ffalls%2F401%3Fa%3D1%26b%3D%252F"
    assert (answer.status, answer.one("location")) == (302, f"https://auth.example.org/login?next={url}")
    assert answer.one("cache-control") == "no-store"


def test_another_service_answers_with_its_own_fields_and_the_same_method(gateway: Gateway, spare: Says) -> None:
    spare.forget()
    answer = ask(gateway, "/falls/503?x=1", method="POST", body=b"kept")
    assert (answer.status, answer.body) == (503, b"kept")  # /books/503 fails too, so the first answer stands
    assert spare.requests[-1].target == "/books/503?x=1"
    answer = ask(gateway, "/dead/echo?x=1", method="POST", body=b"kept")
    assert (answer.status, answer.body) == (200, b"kept")
    request = spare.requests[-1]
    assert (request.target, request.one("x-spare"), bytes(request.body)) == ("/echo?x=1", "1", b"kept")
    assert not request.has("x-key")
    line = line_of(gateway, answer)
    assert (line["status"], line["reason"], line["fallback"], line["upstream"]) == (
        200,
        "connection_refused",
        "spare",
        "spare",
    )


def test_a_body_that_cannot_be_sent_again_leaves_the_first_failure(gateway: Gateway) -> None:
    answer = ask(gateway, "/dead/echo", method="POST", body=b"x" * 70_000)
    assert (answer.status, answer.json()["reason"]) == (502, "connection_refused")


def test_a_fallback_that_fails_too_gives_the_first_failure(gateway: Gateway) -> None:
    answer = ask(gateway, "/both")
    assert (answer.status, answer.json()["reason"]) == (502, "connection_refused")
    line = line_of(gateway, answer)
    assert ("fallback" in line, line["upstream"]) == (False, "dead")
    answer = ask(gateway, "/ill/500")
    assert (answer.status, answer.body) == (500, b"from the service")


# -- maintenance ------------------------------------------------------------------------------------------------------


def test_a_route_in_maintenance_is_503_and_probes_say_ready(gateway: Gateway, main: Says) -> None:
    main.forget()
    answer = ask(gateway, "/shut")
    assert (answer.status, answer.json()["reason"], answer.one("retry-after")) == (503, "maintenance", "60")
    assert main.requests == []
    assert ask(gateway, "/-/ready").status == 200


def test_a_file_closes_and_opens_it(gateway: Gateway, home: Path) -> None:
    assert ask(gateway, "/later").status == 200
    (home / "closed").touch()
    eventually(lambda: ask(gateway, "/later", HTML).status == 503)
    answer = ask(gateway, "/later", HTML)
    assert (answer.body, answer.one("retry-after")) == (PAGE, "60")
    (home / "closed").unlink()
    eventually(lambda: ask(gateway, "/later").status == 200)
