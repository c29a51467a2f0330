"""Old synchronous code behind a modern API: real granian, real threads, real databases."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import Answer, Answers, Gateway, Wire, eventually, request_bytes

OLD = """
import logging
import threading
import time
from collections import Counter, defaultdict
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path

from asgiref.sync import async_to_sync
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views import View

from gateway.routing import fetch

calls = Counter()
gates = defaultdict(threading.Event)
log = logging.getLogger("team.old")


def here():
    return threading.current_thread().name


def wait(gate):
    calls[gate] += 1
    assert gates[gate].wait(30)
    return gate


def build_report(year: int, quarter: str = "all"):
    log.warning("building %s", year)
    return {"year": year, "quarter": quarter, "type": type(year).__name__, "thread": here()}


class Colour(Enum):
    RED = "red"


def typed(a: int, b: float, c: bool, d: date, e: Colour, f):
    return [repr(value) for value in (a, b, c, d, e, f)]


class ByClass(View):
    def get(self, request, id: int):
        return JsonResponse({"id": id})


def outdated(id: "NoSuchClass"):
    return id


def sees(request, id):
    return {"id": id, "method": request.method, "agent": request.headers["User-Agent"], "size": len(request.body),
            "post": request.POST.dict(), "query": request.GET.dict(), "cookies": request.COOKIES, "thread": here()}


def gives(kind, request):
    def pieces():
        yield f"{here()} "
        log.warning("in the middle")
        yield f"{here()} "
        yield here()

    def breaks():
        yield "one "
        raise ValueError("a secret in the middle")

    def response():
        response = HttpResponse("made", status=201, content_type="text/plain", headers={"X-Own": "1"})
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    return {
        "none": lambda: None, "text": lambda: "gr\\u00fc\\u00dfe", "list": lambda: [1, 2.5, Decimal("1.10")],
        "generator": lambda: (n * n for n in range(4)), "date": lambda: {"on": date(2026, 3, 2)},
        "response": response, "pieces": lambda: StreamingHttpResponse(pieces(), content_type="text/plain"),
        "breaks": lambda: StreamingHttpResponse(breaks()),
        "file": lambda: FileResponse(Path("file.txt").open("rb")), "bytes": lambda: b"raw",
        "object": lambda: object(), "redirect": lambda: HttpResponse(status=302, headers={"Location": "/x"}),
    }[kind]()


def fails(kind):
    raise {
        "value": ValueError("a secret of the function"), "404": Http404("a secret"),
        "denied": PermissionDenied("a secret"), "exit": SystemExit("a secret"), "stop": StopIteration(3),
    }[kind]


def one_at_a_time(gate):
    return wait(gate)


def gets_stuck(gate):
    return wait(gate)


def other(gate):
    return wait(gate)


def counted(gate):
    wait(gate)
    return calls[gate]


def tuned():
    return here()


def asks_upstream():
    return async_to_sync(fetch)("up:/inside").status


def load_user(id: int):
    if id == 404:
        raise Http404
    if id == 500:
        raise ValueError("a secret of load_user")
    return {"id": id, "name": "Ada", "team_id": 7, "thread": here()}


def load_team(user: dict, id: str, depth: int = 1):
    return {"of": user["name"], "path": id, "depth": depth, "thread": here()}


def part_response(id):
    return HttpResponse('{"raw": 1}', content_type="application/json", headers={"Cache-Control": "max-age=60"})


def part_stream(id):
    return StreamingHttpResponse(iter(["x"]))


def slow_part(id):
    return wait(f"part-{id}")
"""

ROUTES = """
import threading
import time
from typing import Annotated

from django.http import HttpResponse, JsonResponse
from django.urls import path

import old
from gateway.routing import cached, fanout, from_environment, legacy, part, route


async def opens(request, gate):
    old.gates[gate].set()
    return HttpResponse(gate)


async def state(request):
    names = sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("legacy-"))
    return JsonResponse({"calls": old.calls, "threads": names, "waiting": one.bulkhead.waiting})


async def blocks(request, ms):
    time.sleep(int(ms) / 1000)  # the line that blocks
    return HttpResponse("blocked")


def plain(request):
    return HttpResponse("plain")


@fanout
async def typed_home(user: Annotated[dict, part(legacy(old.load_user))],
                     team: Annotated[dict | None, part(legacy(old.load_team), optional=True)]):
    return {"user": user["name"], "team": team and team["of"]}


one = legacy(old.one_at_a_time, threads=1, queue=1, timeout="30s")

urlpatterns = [
    *from_environment(),
    route("/reports/{year}", legacy(old.build_report)),
    route("/reports/{year}/{quarter}", legacy(old.build_report)),
    route("/by-class/{id}", legacy(old.ByClass.as_view(), name="by_class")),
    route("/typed/{a}/{b}/{c}/{d}/{e}/{f}", legacy(old.typed)),
    route("/outdated/{id}", legacy(old.outdated)),
    route("/sees/{id}", legacy(old.sees)),
    route("/gives/{kind}", legacy(old.gives)),
    route("/fails/{kind}", legacy(old.fails)),
    route("/one/{gate}", one),
    route("/stuck/{gate}", legacy(old.gets_stuck, threads=2, queue=4, timeout="300ms")),
    route("/other/{gate}", legacy(old.other, name="aside")),
    route("/tuned", legacy(old.tuned, threads=1)),
    route("/inside", legacy(old.asks_upstream)),
    route("GET /typed-home/{id}", typed_home),
    route("/cached/{gate}", cached(legacy(old.counted, threads=4), "60s")),
    path("django/<int:year>/", legacy(old.build_report)),
    route("/open/{gate}", opens), route("/state", state), route("/blocks/{ms}", blocks), route("/plain", plain),
]
"""

ENVIRONMENT = {
    "GATEWAY_ROUTE_UP": "/up/** -> up",
    "GATEWAY_ROUTE_ENV": "/env/{id}",
    "GATEWAY_ROUTE_ENV__LEGACY": "old.sees",
    "GATEWAY_ROUTE_ENV__MAX_BODY": "10B",
    "GATEWAY_ROUTE_ENV_CACHED": "/env-cached/{id}",
    "GATEWAY_ROUTE_ENV_CACHED__LEGACY": "old.sees",
    "GATEWAY_ROUTE_ENV_CACHED__CACHE": "60s",
    "GATEWAY_CACHE_DISK": "0B",
    "GATEWAY_ROUTE_HOME": "/home/{id}",
    "GATEWAY_ROUTE_HOME__PART_USER__LEGACY": "old.load_user",
    "GATEWAY_ROUTE_HOME__PART_TEAM__LEGACY": "old.load_team",
    "GATEWAY_ROUTE_HOME__PART_TEAM__PICK": "of,path,depth",
    "GATEWAY_ROUTE_HOME__PART_SERVICE": "up:/service/{user.team_id}",
    "GATEWAY_ROUTE_HOME__OPTIONAL": "team",
    "GATEWAY_ROUTE_MIXED": "GET /mixed/{id}",
    "GATEWAY_ROUTE_MIXED__PART_A__LEGACY": "old.part_response",
    "GATEWAY_ROUTE_MIXED__PART_B__LEGACY": "old.part_stream",
    "GATEWAY_ROUTE_MIXED__PART_B__DEFAULT": '"none"',
    "GATEWAY_ROUTE_MIXED__PART_C__LEGACY": "old.slow_part",
    "GATEWAY_ROUTE_MIXED__PART_C__DEFAULT": '"none"',
    "GATEWAY_ROUTE_MIXED__PART_C__TIMEOUT": "100ms",
    "GATEWAY_LEGACY_TUNED__THREADS": "3",
    "GATEWAY_LEGACY_TUNED__TIMEOUT": "7s",
    "GATEWAY_DRAIN": "3s",
}
JSON_OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"ok": 17}'


@pytest.fixture(scope="module")
def upstream() -> Iterator[Answers]:
    with Answers(JSON_OK) as one:
        yield one


@pytest.fixture(scope="module")
def gateway(upstream: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "old.py").write_text(OLD, encoding="utf-8")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    (folder / "file.txt").write_text("x" * 200_000, encoding="utf-8")
    with Gateway({"GATEWAY_UPSTREAM_UP": upstream.url, **ENVIRONMENT}, cwd=folder) as running:
        yield running


def line_of(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    return gateway.request_line(answer.one("x-request-id"))


def begin(gateway: Gateway, target: str) -> Wire:
    wire = gateway.connect()
    wire.send(request_bytes("GET", target))
    return wire


def opened(gateway: Gateway, gate: str) -> None:
    assert gateway.get(f"/open/{gate}").status == 200


def waiting(gateway: Gateway) -> int:
    return int(gateway.get("/state").json()["waiting"])


def calls_of(gateway: Gateway, gate: str) -> int:
    return int(gateway.get("/state").json()["calls"].get(gate, 0))


# -- arguments ----------------------------------------------------------------------------------------------------


def test_path_parameters_come_by_keyword_and_of_their_types(gateway: Gateway) -> None:
    answer = gateway.get("/reports/2026/q%31")
    assert (answer.status, answer.one("content-type")) == (200, "application/json")
    assert answer.json() == {"year": 2026, "quarter": "q1", "type": "int", "thread": "legacy-build_report-0"}
    assert gateway.get("/reports/2026").json()["quarter"] == "all"
    assert gateway.get("/django/1999/").json()["year"] == 1999


def test_simple_types_are_converted(gateway: Gateway) -> None:
    answer = gateway.get("/typed/-12/1.5/true/2026-03-02/red/12")
    assert answer.json() == ["-12", "1.5", "True", "datetime.date(2026, 3, 2)", "<Colour.RED: 'red'>", "'12'"]
    assert gateway.get("/by-class/12").json() == {"id": 12}
    assert gateway.ask(request_bytes("DELETE", "/by-class/12")).status == 405
    assert gateway.get("/outdated/12").json() == "12", "a hint that no longer resolves is left alone"


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/reports/next", "year"),
        ("/reports/12.5", "year"),
        ("/reports/%D9%A1", "year"),
        ("/by-class/x", "id"),
        ("/typed/1/x/true/2026-03-02/red/1", "b"),
        ("/typed/1/1/maybe/2026-03-02/red/1", "c"),
        ("/typed/1/1/true/2026-02-30/red/1", "d"),
        ("/typed/1/1/true/2026-03-02/blue/1", "e"),
    ],
)
def test_a_value_of_another_type_is_404_and_no_call(gateway: Gateway, target: str, name: str) -> None:
    answer = gateway.get(target)
    assert (answer.status, answer.json()["reason"]) == (404, "view_not_found")
    assert f"parameter {name} " in answer.json()["detail"]


def test_the_request_comes_with_its_body_read(gateway: Gateway) -> None:
    body = b"a=1&b=2"
    fields = ["User-Agent: me", "Cookie: c=3", "Content-Type: application/x-www-form-urlencoded"]
    answer = gateway.ask(request_bytes("POST", "/sees/7?q=5", *fields, f"Content-Length: {len(body)}", body=body))
    told = answer.json()
    assert told.pop("thread") == "legacy-sees-0"
    assert told == {
        "id": "7",
        "method": "POST",
        "agent": "me",
        "size": 7,
        "post": {"a": "1", "b": "2"},
        "query": {"q": "5"},
        "cookies": {"c": "3"},
    }


def test_a_body_is_bounded_before_the_call(gateway: Gateway) -> None:
    fields = ["User-Agent: me", f"Content-Length: {11 * 2**20}"]
    answer = gateway.ask(request_bytes("POST", "/sees/7", *fields))
    assert (answer.status, answer.json()["reason"]) == (413, "client_body_too_large")
    small, large = [
        gateway.ask(request_bytes("POST", "/env/7", "User-Agent: me", f"Content-Length: {size}", body=b"x" * size))
        for size in (10, 11)
    ]
    assert (small.status, small.json()["size"], large.status) == (200, 10, 413)


def test_what_is_logged_inside_carries_the_request_id(gateway: Gateway) -> None:
    gateway.get("/reports/1815", "X-Request-ID: from-inside")
    line = gateway.wait_for_log(lambda line: line.get("message") == "building 1815")
    assert (line["request_id"], line["logger"]) == ("from-inside", "team.old")


def test_async_code_of_the_gateway_can_be_called_from_inside(gateway: Gateway, upstream: Answers) -> None:
    upstream.forget()
    answer = gateway.get("/inside", "X-Request-ID: the-one")
    assert answer.json() == 200
    assert upstream.wait_for_request("/inside").one("x-request-id") == "the-one"


# -- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("none", b"null"),
        ("text", '"grüße"'.encode()),
        ("list", b'[1,2.5,"1.10"]'),
        ("generator", b"[0,1,4,9]"),
        ("date", b'{"on":"2026-03-02"}'),
    ],
)
def test_what_it_returns_becomes_json(gateway: Gateway, kind: str, text: bytes) -> None:
    answer = gateway.get(f"/gives/{kind}")
    assert (answer.status, answer.one("content-type"), answer.body) == (200, "application/json", text)


def test_a_response_of_django_arrives(gateway: Gateway) -> None:
    answer = gateway.get("/gives/response")
    assert (answer.status, answer.one("content-type"), answer.one("x-own"), answer.body) == (
        *(201, "text/plain"),
        *("1", b"made"),
    )
    assert [cookie.split(";")[0] for cookie in answer.all("set-cookie")] == ["a=1", "b=2"]
    answer = gateway.get("/gives/redirect")
    assert (answer.status, answer.one("location")) == (302, "/x")


def test_a_streaming_answer_is_iterated_in_one_thread_of_the_pool(gateway: Gateway) -> None:
    answer = gateway.get("/gives/pieces", "X-Request-ID: streams")
    assert len(answer.body.split()) == 3
    (thread,) = set(answer.body.decode().split())
    assert thread.startswith("legacy-gives-")
    line = gateway.wait_for_log(lambda line: line.get("message") == "in the middle")
    assert line["request_id"] == "streams"
    assert gateway.get("/gives/file").body == b"x" * 200_000


def test_a_streaming_answer_that_breaks_does_not_look_whole(gateway: Gateway) -> None:
    answer = gateway.get("/gives/breaks")
    assert (answer.status, answer.body, answer.broke_off) == (200, b"one ", True)
    line = line_of(gateway, answer)
    assert line["reason"] == "view_error"
    assert "a secret in the middle" in line["cause"]


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        ("/fails/value", 500, "view_error"),
        ("/fails/exit", 500, "view_error"),
        ("/fails/stop", 500, "view_error"),
        ("/fails/404", 404, "view_not_found"),
        ("/fails/denied", 403, "request_denied"),
        ("/gives/bytes", 500, "view_error"),
        ("/gives/object", 500, "view_error"),
    ],
)
def test_what_it_raises_has_its_word_and_its_text_stays_inside(
    gateway: Gateway, target: str, status: int, reason: str
) -> None:
    answer = gateway.get(target)
    assert (answer.status, answer.json()["reason"]) == (status, reason)
    assert b"secret" not in answer.body
    if status == 500:
        assert 'old.py", line' in line_of(gateway, answer)["cause"] or target.startswith("/gives/")


# -- bounds -------------------------------------------------------------------------------------------------------


def test_full_is_503_at_once_and_a_client_that_leaves_the_queue_frees_its_place(gateway: Gateway) -> None:
    with begin(gateway, "/one/first") as running:
        eventually(lambda: calls_of(gateway, "first") == 1)
        with begin(gateway, "/one/never"):
            eventually(lambda: waiting(gateway) == 1)
            refused = gateway.get("/one/never")
            assert (refused.status, refused.json()["reason"]) == (503, "legacy_full")
            assert refused.one("retry-after") == "1"
            assert line_of(gateway, refused)["ms"] < 100
        eventually(lambda: waiting(gateway) == 0)
        with begin(gateway, "/one/second") as second:
            eventually(lambda: waiting(gateway) == 1)
            opened(gateway, "second")
            opened(gateway, "first")
            assert running.read_answer().json() == "first"
            assert second.read_answer().json() == "second"
    assert calls_of(gateway, "never") == 0


def test_a_call_over_its_time_is_504_on_time_and_all_threads_stuck_is_503_at_once(
    gateway: Gateway, upstream: Answers
) -> None:
    with begin(gateway, "/stuck/s") as first, begin(gateway, "/stuck/s") as second:
        late = [wire.read_answer() for wire in (first, second)]
    for answer in late:
        assert (answer.status, answer.json()["reason"]) == (504, "legacy_timeout")
        assert 280 <= line_of(gateway, answer)["ms"] < 800
    refused = gateway.get("/stuck/s")
    assert (refused.status, refused.json()["reason"], refused.one("retry-after")) == (503, "legacy_stuck", "1")
    line = line_of(gateway, refused)
    assert line["ms"] < 100
    told = gateway.wait_for_log(lambda line: line["event"] == "legacy.stuck")
    assert (told["pool"], told["threads"], told["level"]) == ("gets_stuck", 2, "error")
    ids = {answer.one("x-request-id") for answer in late}
    stuck = [call.split(" ") for call in told["calls"]]
    assert {who for *_, who in stuck} == {f"({request_id})" for request_id in ids}
    for name, seconds, unit, _ in stuck:
        assert (name, unit) == ("gets_stuck", "s")
        assert 0.2 <= float(seconds) < 10
    # Nobody else is touched.
    assert gateway.get("/reports/2026").status == 200
    assert gateway.get("/up/x").status == 200
    with begin(gateway, "/other/o") as aside:
        opened(gateway, "o")
        assert aside.read_answer().json() == "o"
    # The threads come back when the function returns.
    opened(gateway, "s")
    assert eventually(lambda: [answer for answer in [gateway.get("/stuck/s")] if answer.status == 200])
    ended = gateway.wait_for_log(lambda line: line["event"] == "legacy.late")
    assert (ended["pool"], ended["function"], ended["error"]) == ("gets_stuck", "gets_stuck", None)
    assert ended["request_id"] in ids
    assert ended["s"] > 0.3


def test_pools_are_named_and_the_environment_has_the_last_word(gateway: Gateway) -> None:
    opened(gateway, "first")
    gateway.get("/one/first")
    opened(gateway, "o")
    gateway.get("/other/o")
    names = gateway.get("/state").json()["threads"]
    assert {"legacy-one_at_a_time-0", "legacy-aside-0"} <= set(names)
    assert "legacy-one_at_a_time-1" not in names
    assert gateway.get("/tuned").json() == "legacy-tuned-0"


# -- from the environment, and as a part --------------------------------------------------------------------------


def test_a_route_of_the_environment_calls_a_function_by_its_dotted_path(gateway: Gateway) -> None:
    answer = gateway.get("/env/9", "User-Agent: me")
    assert (answer.status, answer.json()["id"], answer.json()["thread"]) == (200, "9", "legacy-sees-0")
    assert line_of(gateway, answer)["route"] == "env"


def test_functions_and_services_are_merged(gateway: Gateway, upstream: Answers) -> None:
    upstream.forget()
    answer = gateway.get("/home/3")
    assert answer.json() == {
        "service": {"ok": 17},
        "team": {"of": "Ada", "path": "3", "depth": 1},
        "user": {"id": 3, "name": "Ada", "team_id": 7, "thread": "legacy-load_user-0"},
    }
    assert upstream.requests[0].target == "/service/7"
    assert answer.one("gateway-complete") == "?1"
    assert not answer.has("cache-control"), "a function does not say how long its result holds"
    parts = {part["part"]: part for part in line_of(gateway, answer)["parts"]}
    assert (parts["user"]["upstream"], parts["user"]["status"], parts["service"]["upstream"]) == (None, 200, "up")


@pytest.mark.parametrize(
    ("target", "status", "reason", "part_status"),
    [
        ("/home/404", 502, "part_status", 404),
        ("/home/500", 500, "view_error", None),
        ("/home/x", 400, "template_value", None),
        ("/typed-home/404", 502, "part_status", 404),
    ],
)
def test_the_failure_of_a_function_is_its_parts(
    gateway: Gateway, target: str, status: int, reason: str, part_status: int | None
) -> None:
    answer = gateway.get(target)
    problem = answer.json()
    assert (answer.status, problem["reason"], problem["part"]) == (status, reason, "user")
    assert problem["part_status"] == part_status
    assert "upstream" not in problem
    assert b"secret" not in answer.body


def test_a_part_may_be_a_response_but_not_a_stream_and_has_its_own_time(gateway: Gateway) -> None:
    answer = gateway.get("/mixed/1")
    opened(gateway, "part-1")  # the thread still waits
    assert answer.json() == {"a": {"raw": 1}, "b": "none", "c": "none"}
    assert answer.one("gateway-complete") == "?0"
    said = answer.one("gateway-parts")
    assert "b;e=part_invalid;" in said
    assert "c;e=legacy_timeout;ms=1" in said
    assert "a;s=200;" in said


def test_a_typed_fan_out_takes_functions_too(gateway: Gateway) -> None:
    assert gateway.get("/typed-home/5").json() == {"user": "Ada", "team": "Ada"}


def test_under_the_cache_it_is_called_once_for_all_who_ask(gateway: Gateway) -> None:
    with begin(gateway, "/cached/c") as first, begin(gateway, "/cached/c") as second:
        eventually(lambda: calls_of(gateway, "c") == 1)
        opened(gateway, "c")
        assert [wire.read_answer().json() for wire in (first, second)] == [1, 1]
    third = gateway.get("/cached/c")
    assert (third.json(), third.one("cache-status").partition(";")[0], calls_of(gateway, "c")) == (1, "portway", 1)
    assert "hit" in third.one("cache-status")
    gateway.get("/env-cached/7", "User-Agent: me")
    assert "hit" not in gateway.get("/env-cached/7", "User-Agent: you").one("cache-status"), "it read the User-Agent"


# -- the loop -----------------------------------------------------------------------------------------------------


def test_a_blocked_loop_is_logged_with_its_line_and_its_request(gateway: Gateway) -> None:
    answer = gateway.get("/blocks/150", "X-Request-ID: blocker")
    assert answer.body == b"blocked"
    line = gateway.wait_for_log(lambda line: line["event"] == "loop.stalled" and line["request_id"] == "blocker")
    number = ROUTES.splitlines().index("    time.sleep(int(ms) / 1000)  # the line that blocks") + 1
    assert line["frames"][0].endswith(f"routes.py:{number} blocks")
    assert line["request_id"] == "blocker"
    assert 100 <= line["ms"] < 1000


def test_a_synchronous_view_is_warned_of_at_the_start(gateway: Gateway) -> None:
    (warning,) = gateway.errors
    assert "plain() is synchronous" in warning
    assert "legacy(plain)" in warning
    assert "routes.py:" in warning
    assert gateway.get("/plain").body == b"plain"


# -- starts that are refused --------------------------------------------------------------------------------------

REFUSED = """
import old
from gateway.routing import fanout, from_environment, legacy, part, route


async def later(request): ...


{extra}
urlpatterns = [*from_environment(), {lines}]
"""


@pytest.mark.parametrize(
    ("lines", "environment", "expected"),
    [
        (
            'route("/r/{year}", legacy(old.build_report))',
            {"GATEWAY_LEGACY_BILD_REPORT__THREADS": "8"},
            (
                "GATEWAY_LEGACY_BILD_REPORT__THREADS: there is no legacy pool bild_report; did you mean "
                "GATEWAY_LEGACY_BUILD_REPORT__THREADS?"
            ),
        ),
        (
            'route("/r", legacy(old.build_report))',
            {},
            "build_report() does not fit: missing a required argument: 'year'",
        ),
        ('route("/r/{y}", legacy(old.tuned))', {}, "tuned() does not fit: got an unexpected keyword argument 'y'"),
        ('route("/r", legacy(later))', {}, "later() is async: it is a view already"),
        ('route("/r", legacy("old.tuned"))', {}, "give it the function itself"),
        ('route("/r", legacy(lambda: 1))', {}, "legacy(<lambda>): expected a name in lower case"),
        ('route("/r", legacy(old.tuned, threads=0))', {}, "threads=0: "),
        ('route("/r", legacy(old.tuned, timeout="5"))', {}, "timeout='5': "),
        (
            'route("/a", legacy(old.tuned)), route("/b", legacy(old.tuned, threads=5))',
            {},
            "the legacy pool tuned has other options than at routes.py:",
        ),
        (
            'route("/a", legacy(old.tuned)), route("/b", legacy(old.asks_upstream, name="tuned"))',
            {},
            "has a legacy pool tuned too; name one of them",
        ),
        ("", {"GATEWAY_ROUTE_A": "/a", "GATEWAY_ROUTE_A__LEGACY": "old.nothing"}, "A__LEGACY=old.nothing: "),
        ("", {"GATEWAY_ROUTE_A": "/a", "GATEWAY_ROUTE_A__LEGACY": "older.nothing"}, "No module named 'older'"),
        ("", {"GATEWAY_ROUTE_A": "/a/{x}", "GATEWAY_ROUTE_A__LEGACY": "old.tuned"}, "old.tuned does not fit"),
        (
            "",
            {"GATEWAY_ROUTE_A": "/a", "GATEWAY_ROUTE_A__PART_T__LEGACY": "old.load_team"},
            "GATEWAY_ROUTE_A: {user} is neither a parameter of the path nor a part",
        ),
    ],
)
def test_what_stops_the_start(tmp_path: Path, lines: str, environment: dict[str, str], expected: str) -> None:
    (tmp_path / "old.py").write_text(OLD, encoding="utf-8")
    (tmp_path / "routes.py").write_text(REFUSED.format(extra="", lines=lines), encoding="utf-8")
    gateway = Gateway(environment, cwd=tmp_path)
    try:
        gateway.start(wait=False)
        assert gateway.wait() == 2
    finally:
        gateway.kill()
    assert any(expected in line for line in gateway.errors), gateway.errors


def test_functions_may_share_a_pool_by_its_name(tmp_path: Path) -> None:
    shared = 'route("/a", legacy(old.tuned, name="soap")), route("/b", legacy(old.asks_upstream, name="soap"))'
    (tmp_path / "old.py").write_text(OLD, encoding="utf-8")
    (tmp_path / "routes.py").write_text(REFUSED.format(extra="", lines=shared), encoding="utf-8")
    with Gateway({"GATEWAY_LEGACY_SOAP__QUEUE": "0"}, cwd=tmp_path) as gateway:
        assert gateway.get("/a").json() == "legacy-soap-0"


# -- stopping -----------------------------------------------------------------------------------------------------

STOPPING = """
import threading
from pathlib import Path

from gateway.routing import legacy, route


def takes():
    while not Path("go").exists():
        threading.Event().wait(0.01)
    Path("done").touch()
    return "done"


def never():
    Path("entered").touch()
    threading.Event().wait()


urlpatterns = [route("/takes", legacy(takes, timeout="100ms")), route("/never", legacy(never))]
"""


@pytest.fixture
def stopping(tmp_path: Path) -> Gateway:
    (tmp_path / "routes.py").write_text(STOPPING, encoding="utf-8")
    return Gateway({"GATEWAY_DRAIN": "2s"}, cwd=tmp_path)


def test_a_stop_waits_for_a_thread_that_nobody_waits_for_any_more(stopping: Gateway, tmp_path: Path) -> None:
    with stopping as gateway:
        assert gateway.get("/takes").status == 504
        gateway.process.send_signal(signal.SIGTERM)
        gateway.wait_for_log(lambda line: line["event"] == "drain.started")
        assert not (tmp_path / "done").exists()
        (tmp_path / "go").touch()
        assert gateway.wait() == 0
    assert (tmp_path / "done").exists()
    assert not [line for line in gateway.log if line["event"] == "legacy.abandoned"]


def test_a_stop_says_which_calls_it_abandons_and_exits_all_the_same(stopping: Gateway, tmp_path: Path) -> None:
    with stopping as gateway, begin(gateway, "/never") as wire:
        eventually((tmp_path / "entered").exists)
        began_s = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        answer = wire.read_answer()
        assert (answer.status, answer.json()["reason"]) == (503, "drain_cut")
        assert gateway.wait() == 0
        assert 1.5 < time.monotonic() - began_s < 6.0
    (line,) = [line for line in gateway.log if line["event"] == "legacy.abandoned"]
    assert line["count"] == 1
    (call,) = line["calls"]["never"]
    assert call.startswith("never ")
    assert answer.one("x-request-id") in call


def test_a_second_signal_does_not_wait_for_threads(stopping: Gateway) -> None:
    stopping.environment["GATEWAY_DRAIN"] = "60s"
    with stopping as gateway:
        assert gateway.get("/takes").status == 504
        began_s = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        gateway.wait_for_log(lambda line: line["event"] == "drain.started")
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.wait() == 0
        assert time.monotonic() - began_s < 10
