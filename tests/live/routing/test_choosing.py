"""What a route may ask for beyond one path: several, kinds, literals beside a value, a label of a host, case, WHEN."""

from collections.abc import Iterator

import pytest

from tests.live.harness import Answer, Answers, Gateway, request_bytes
from tests.live.management.test_commands import run

OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nETag: "1"\r\n\r\n{}'
ROUTES = """
from django.urls import path
from gateway.routing import cached, from_environment, legacy, proxy, route

def told(tenant):
    return {"tenant": tenant}

urlpatterns = [
    *from_environment(),
    route("/Python/{id:int} /py/{id}", proxy("v1:/python/{id}"), case="ignore"),
    route("/python/{id:int}", proxy("v2:/when/{id}"), name="when", when="query.v=2"),
    route("{tenant}.test/function", legacy(told, threads=1)),
    route("/{file}.js", cached(proxy("v1"), "60s"), name="scripts", case="ignore"),
    route("/Alike/{id}", cached(proxy("v1:/folded/{id}"), "60s"), case="ignore"),
    route("/alike/{id}", cached(proxy("v1:/exact/{id}"), "60s")),
    route("/when", cached(proxy("v1:/with"), "60s"), when="header.x-empty"),
    route("/when", cached(proxy("v1:/without"), "60s"), when="!header.x-empty"),
    path("django/", proxy("v1:/django")),
]
"""


@pytest.fixture(scope="module")
def up() -> Iterator[Answers]:
    with Answers(OK) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def environment(up: Answers) -> dict[str, str]:
    return {
        "GATEWAY_UPSTREAM_V1": f"{up.url}/1",
        "GATEWAY_UPSTREAM_V2": f"{up.url}/2",
        "GATEWAY_UPSTREAM_V3": f"{up.url}/3",
        "GATEWAY_UPSTREAM_V3__WHEN": "cookie.beta=3",
        "GATEWAY_CORS": "https://app.example.com",
        "GATEWAY_ROUTE_REPORTS": "/jmreport/** drag.example.com/drag/** /jimubi/** -> v1",
        "GATEWAY_ROUTE_PROJECTS": "/api/{project:int}/** -> v1",
        "GATEWAY_ROUTE_STOP": "POST /nodes/{node}:stop -> v1",
        "GATEWAY_ROUTE_FILES": "GET /{file}.css -> v1:/assets/{file}",
        "GATEWAY_ROUTE_CONSOLE": "/ui/console{more} -> v1",
        "GATEWAY_ROUTE_TENANTS": "{tenant}.example.com/shop/** -> v1:/t/{tenant}/**",
        "GATEWAY_ROUTE_BASKET": "GET /Basket/{userName} -> v1:/b/{userName}",
        "GATEWAY_ROUTE_BASKET__CASE": "ignore",
        "GATEWAY_ROUTE_BASKET__CACHE": "60s",
        "GATEWAY_ROUTE_CHANGE": "POST /basket/{id} -> v2",
        "GATEWAY_ROUTE_KEPT": "/Kept/** -> v1",
        "GATEWAY_ROUTE_KEPT__CASE": "ignore",
        "GATEWAY_ROUTE_STABLE": "/versions/** -> v1",
        "GATEWAY_ROUTE_STABLE__CACHE": "60s",
        "GATEWAY_ROUTE_BETA": "/versions/** -> v2",
        "GATEWAY_ROUTE_BETA__WHEN": "header.x-version=2|3 !cookie.old",
        "GATEWAY_ROUTE_BETA__CACHE": "60s",
        "GATEWAY_ROUTE_NEWEST": "/versions/{id} -> v3",
        "GATEWAY_ROUTE_ONLY": "GET /only -> v1",
        "GATEWAY_ROUTE_ONLY__WHEN": "header.x-version=2",
        "GATEWAY_ROUTE_BEHIND": "/behind -> v1",
        "GATEWAY_ROUTE_BEHIND__WHEN": "header.x-forwarded-host=a.test",
        "GATEWAY_ROUTE_FAN": "/Fan/{id} /fans/{id}",
        "GATEWAY_ROUTE_FAN__PART_A": "v1:/part/{id}",
        "GATEWAY_ROUTE_FAN__CASE": "ignore",
    }


@pytest.fixture(scope="module")
def gateway(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("choosing")
    (home / "routes.py").write_text(ROUTES, encoding="ascii")
    with Gateway(environment, cwd=home) as running:
        yield running


def asked(gateway: Gateway, up: Answers, target: str, *fields: str, method: str = "GET", host: str = "a.test") -> str:
    """What went up, or the status where nothing did."""
    up.forget()
    answer = gateway.ask(request_bytes(method, target, *fields, host=host))
    return up.requests[0].target if up.requests else str(answer.status)


@pytest.mark.parametrize(
    ("target", "host", "goes"),
    [
        ("/jmreport/a", "a.test", "/1/jmreport/a"),
        ("/jimubi", "a.test", "/1/jimubi"),
        ("/drag/x", "drag.example.com", "/1/drag/x"),
        ("/drag/x", "a.test", "404"),
        ("/api/12/x", "a.test", "/1/api/12/x"),
        ("/api/%31%32/x", "a.test", "/1/api/%31%32/x"),
        ("/api/012/x", "a.test", "404"),
        ("/api/-1/x", "a.test", "404"),
        ("/api/12345678901234567890/x", "a.test", "404"),
        ("/site.css", "a.test", "/1/assets/site"),
        ("/a%20b%2ecss", "a.test", "/1/assets/a%20b"),
        ("/.css", "a.test", "400"),  # nothing can stand in the target
        ("/ui/console", "a.test", "/1/ui/console"),
        ("/ui/consolex", "a.test", "/1/ui/consolex"),
        ("/ui/console/x", "a.test", "404"),
        ("/shop/1", "acme.example.com", "/1/t/acme/1"),
        ("/shop/1", "ACME.Example.com:80", "/1/t/acme/1"),
        ("/shop/1", "a.b.example.com", "404"),
        ("/shop/1", "example.com", "404"),
        ("/KEPT/A", "a.test", "/1/KEPT/A"),
        ("/python/7", "a.test", "/1/python/7"),
        ("/PYTHON/x", "a.test", "404"),
        ("/py/x", "a.test", "/1/python/x"),
        ("/python/7?v=2", "a.test", "/2/when/7?v=2"),
        ("/fan/7", "a.test", "/1/part/7"),
        ("/FANS/7", "a.test", "/1/part/7"),
    ],
)
def test_the_route_that_says_most_has_the_request(
    gateway: Gateway, up: Answers, target: str, host: str, goes: str
) -> None:
    assert asked(gateway, up, target, host=host) == goes


def test_a_value_and_a_literal_share_a_segment(gateway: Gateway, up: Answers) -> None:
    assert asked(gateway, up, "/nodes/n1:stop", method="POST") == "/1/nodes/n1:stop"
    assert asked(gateway, up, "/nodes/n1:start", method="POST") == "404"


def test_a_function_gets_the_label_of_the_host(gateway: Gateway) -> None:
    assert gateway.ask(request_bytes("GET", "/function", host="acme.test")).json() == {"tenant": "acme"}


@pytest.mark.parametrize(
    ("target", "fields", "goes"),
    [
        ("/versions/a/b", (), "/1/versions/a/b"),
        ("/versions/a/b?2", ("X-Version: 2",), "/2/versions/a/b?2"),
        ("/versions/a/b?3", ("X-Version: 3", "X-Version: 1"), "/2/versions/a/b?3"),
        ("/versions/a/b?4", ("X-Version: 1", "X-Version: 3"), "/1/versions/a/b?4"),
        ("/versions/a/b?5", ("X-Version: 2", "Cookie: old="), "/1/versions/a/b?5"),
        ("/versions/a?6", ("Cookie: beta=3",), "/3/versions/a?6"),
        ("/versions/a?7", ("Cookie: beta=3", "X-Version: 2"), "/3/versions/a?7"),  # the path says more
        ("/only", ("X-Version: 2",), "/1/only"),
        ("/only", (), "404"),
        ("/behind", ("X-Forwarded-Host: a.test",), "404"),  # nobody trusts this peer
    ],
)
def test_conditions_choose(gateway: Gateway, up: Answers, target: str, fields: tuple[str, ...], goes: str) -> None:
    assert asked(gateway, up, target, *fields) == goes


def test_what_there_is_for_no_method_does_not_depend_on_conditions(gateway: Gateway) -> None:
    for fields in ((), ("X-Version: 2",)):
        answer = gateway.ask(request_bytes("POST", "/only", *fields))
        assert (answer.status, answer.one("allow")) == (405, "GET, HEAD")


def test_answers_name_what_chose_their_route(gateway: Gateway) -> None:
    def vary(target: str, *fields: str) -> str:
        return ", ".join(gateway.ask(request_bytes("GET", target, *fields)).all("vary"))

    assert vary("/versions/a/c") == "Cookie, X-Version, Origin"
    assert vary("/versions/a/c", "X-Version: 2") == "Cookie, X-Version, Origin"
    assert vary("/python/7") == "Origin"  # the query is in the URL
    assert vary("/jmreport/a") == "Origin"


def test_a_handshake_is_chosen_as_a_get(gateway: Gateway, up: Answers) -> None:
    fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    fields.append("Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==")
    assert asked(gateway, up, "/versions/ws/x", *fields, "X-Version: 2") == "/2/versions/ws/x"
    assert asked(gateway, up, "/versions/ws/x", *fields) == "/1/versions/ws/x"


def test_a_preflight_for_a_route_with_conditions_is_answered(gateway: Gateway) -> None:
    fields = ("Origin: https://app.example.com", "Access-Control-Request-Method: GET")
    assert gateway.ask(request_bytes("OPTIONS", "/only", *fields)).status == 204


def hit(answer: Answer) -> bool:
    return "; hit" in answer.one("cache-status")


def get(gateway: Gateway, target: str, *fields: str) -> Answer:
    return gateway.ask(request_bytes("GET", target, *fields))


def test_spellings_of_literals_share_an_answer_and_values_do_not(gateway: Gateway, up: Answers) -> None:
    assert not hit(get(gateway, "/Basket/ann"))
    assert hit(get(gateway, "/BASKET/ann"))
    assert hit(get(gateway, "/b%61sket/ann"))
    assert not hit(get(gateway, "/basket/Ann"))  # for the service that is somebody else, perhaps
    gateway.ask(request_bytes("POST", "/basket/ann", "Content-Length: 0"))
    assert not hit(get(gateway, "/bAsket/ann"))
    assert hit(get(gateway, "/basket/Ann"))
    forgotten = gateway.ask(request_bytes("DELETE", "/-/cache?path=/BASKET/Ann", host="localhost"))
    assert forgotten.json()["purged"] == 1
    assert not hit(get(gateway, "/basket/Ann"))
    assert not hit(get(gateway, "/site.JS"))
    assert hit(get(gateway, "/site.js"))
    assert not hit(get(gateway, "/Site.js"))


def test_what_was_stored_for_one_choice_answers_no_other(gateway: Gateway, up: Answers) -> None:
    first = [get(gateway, "/versions/k/1", *fields) for fields in ((), ("X-Version: 2",), ("X-Version: 3",))]
    assert not any(map(hit, first))
    again = [get(gateway, "/versions/k/1", *fields) for fields in ((), ("X-Version: 2",), ("X-Version: 3",))]
    assert all(map(hit, again))
    gateway.ask(request_bytes("DELETE", "/versions/k/1"))
    after = [get(gateway, "/versions/k/1", *fields) for fields in ((), ("X-Version: 2",), ("X-Version: 3",))]
    assert not any(map(hit, after))


def test_commands_tell_of_it(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("told")
    (home / "routes.py").write_text(ROUTES, encoding="ascii")
    told = run(home, "explain", "GET", "/versions/a", "-H", "X-Version: 2", "-H", "Host: x.test", **environment)
    assert told.code == 0, told.errors
    assert "GATEWAY_ROUTE_BETA__WHEN" in told.output
    assert "only when cookie.beta=3" in told.output
    assert "its conditions hold (WHEN)" in told.output
    told = run(home, "explain", "GET", "http://acme.example.com/shop/1", **environment)
    assert "{tenant}  acme" in told.output
    told = run(home, "explain", "GET", "/only", **environment)
    assert "only when header.x-version=2" in told.output
    told = run(home, "explain", "GET", "/FANS/7", **environment)
    assert "GATEWAY_ROUTE_FAN__CASE" in told.output
    assert "/fans/{id}" in told.output
    table = run(home, "routes", **environment).output
    assert "case=ignore" in table
    assert "when=!cookie.old header.x-version=2|3" in table
    assert "/jmreport/** drag.example.com/drag/** /jimubi/**" in table
    listed = run(home, "config", **environment).output
    assert "GATEWAY_ROUTE_NEWEST__WHEN" in listed


def test_two_lines_of_one_name_never_share_an_answer(gateway: Gateway, up: Answers) -> None:
    assert not hit(get(gateway, "/ALIKE/a"))
    assert not hit(get(gateway, "/alike/a"))  # the other line's, whose path is what this one folds its own to
    assert hit(get(gateway, "/Alike/a"))
    assert hit(get(gateway, "/alike/a"))
    assert not hit(get(gateway, "/when", "X-Empty:"))
    assert not hit(get(gateway, "/when"))
