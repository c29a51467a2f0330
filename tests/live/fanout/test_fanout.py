"""Several services, one answer: a real gateway with fan-outs from the environment, upstreams that follow a script."""

import json
import re
from collections.abc import Iterator, Mapping

import pytest

from gateway.errors import Reason
from tests.live.harness import Gateway, Refuses, Request, eventually, request_bytes
from tests.live.parts import (
    EVENTS,
    NDJSON,
    Parts,
    all_close,
    begin,
    events_of,
    lines_of,
    parts_of,
    problem_of,
    said,
    timeless,
    told_by,
)
from tests.live.stage import Act, breaks_off, message, says, silent, status

ROUTES: dict[str, tuple[str, dict[str, str]]] = {
    "three": ("GET /three/{id}", {"PART_A": "u:/a/{id}", "PART_B": "u:/b?id={id}", "PART_C": "u:/c"}),
    "strict": ("/strict", {"PART_A": "u:/a", "PART_B": "u:/b"}),
    "opt": (
        "/opt",
        {
            "PART_A": "u:/a",
            "PART_B": "u:/b",
            "PART_C": "u:/c",
            "OPTIONAL": "b",
            "PART_B__TIMEOUT": "300ms",
            "PART_B__MAX_BODY": "100B",
            "PART_C__DEFAULT": "[1.10]",
        },
    ),
    "chain": (
        "/chain/{id}",
        {
            "PART_USER": "u:/user/{id}",
            "PART_TEAM": "u:/team/{user.team.id}",
            "PART_BOSS": "u:/boss?of={team.name}&user={user.team.id}",
            "OPTIONAL": "team boss",
        },
    ),
    "hard": ("/hard", {"PART_USER": "u:/user", "PART_TEAM": "u:/team/{user.id}"}),
    "mapped": (
        "/mapped",
        {"PART_ORDERS": "u:/orders", "PART_ITEMS": "u:/item/{orders[].id}", "CONCURRENCY": "2", "MAX_ITEMS": "4"},
    ),
    "loose": ("/loose", {"PART_ORDERS": "u:/orders", "PART_ITEMS": "u:/item/{orders.list[].id}", "OPTIONAL": "items"}),
    "pass": ("/pass", {"PART_A": "u:/a", "PART_B": "u:/b", "PASS": "404", "OPTIONAL": "b"}),
    "timed": ("/timed", {"PART_A": "u:/a", "PART_B": "u:/b", "TIMEOUT": "200ms", "OPTIONAL": "b"}),
    "part_timed": ("/part-timed", {"PART_A": "u:/a", "PART_B": "u:/b", "PART_A__TIMEOUT": "100ms"}),
    "dead": ("/dead", {"PART_A": "u:/a", "PART_B": "dead:/b", "OPTIONAL": "b"}),
    "dead_hard": ("/dead-hard", {"PART_A": "u:/a", "PART_B": "dead:/b"}),
    "headers": (
        "/headers",
        {
            "PART_A": "u:/a",
            "PART_B": "u:/b",
            "FORWARD_HEADERS": "x-tenant",
            "PART_A__HEADER_X_PART": "acme",
            "PART_A__HEADER_AUTHORIZATION": "-",
            "HEADER_X_ALL": "both",
        },
    ),
    "template": ("/template/{id}", {"PART_A": "u:/a/{query.page}/{header.x-tenant}?id={id}&q={query.q}"}),
    "flat": ("/flat", {"PART_A": "u:/a", "PART_B": "u:/b", "MERGE": "flat", "OPTIONAL": "b"}),
    "pick": ("/pick", {"PART_A": "u:/a", "PART_B": "u:/b", "PART_A__PICK": "name,id", "OPTIONAL": "a"}),
    "picked": (
        "/picked-from",
        {"PART_USER": "u:/user", "PART_USER__PICK": "name", "PART_TEAM": "u:/team/{user.team}"},
    ),
    "pick_list": ("/pick-list", {"PART_ORDERS": "u:/orders", "PART_ORDERS__PICK": "id", "OPTIONAL": "orders"}),
    "ids": ("/ids", {"PART_IDS": "u:/ids", "PART_ITEMS": "u:/item?id={ids[]}", "OPTIONAL": "items"}),
    "side": ("/side/{x}/{y}", {"PART_A": "u:/a/{x}{y}/z", "OPTIONAL": "a"}),
    "bytes": ("/bytes", {"PART_A": "u:/a/{header.x-tenant}?q={query.q}"}),
    "whole": ("/whole", {"PART_A": "u:/a", "TOTAL_TIMEOUT": "100ms"}),
    "set": (
        "/set",
        {
            "PART_A": "u:/a",
            "OPTIONAL": "a",
            "RESPONSE_HEADER_CACHE_CONTROL": "max-age=60",
            "RESPONSE_HEADER_X_OWN": "1",
            "RESPONSE_HEADER_SERVER_TIMING": "-",
        },
    ),
    "passing": (
        "/passing",
        {"PART_ORDERS": "u:/orders", "PART_ITEMS": "u:/item/{orders[].id}", "PASS": "401 404 429 503"},
    ),
    "many": (
        "/many",
        {"PART_ORDERS": "u:/orders", "PART_ITEMS": "u:/item/{orders[].id}", "PART_ITEMS__MAX_BODY": "100B"},
    ),
    "sent": ("GET,POST /sent", {"PART_A": "u:/a", "MAX_BODY": "10B"}),
    "again": ("/again", {"PART_A": "again:/a"}),
    "post": ("/post", {"PART_A": "u:/a", "PART_A__METHOD": "POST"}),
}


@pytest.fixture(scope="module")
def environment(services: Parts) -> Iterator[Mapping[str, str]]:
    dead = Refuses()
    yield {
        "GATEWAY_UPSTREAM_U": services.url,
        "GATEWAY_UPSTREAM_U__RETRIES": "0",
        "GATEWAY_UPSTREAM_AGAIN": services.url,
        "GATEWAY_UPSTREAM_DEAD": dead.url,
        "GATEWAY_UPSTREAM_DEAD__RETRIES": "0",
        **{f"GATEWAY_ROUTE_{name.upper()}": line for name, (line, _) in ROUTES.items()},
        **{
            f"GATEWAY_ROUTE_{name.upper()}__{option}": text
            for name, (_, options) in ROUTES.items()
            for option, text in options.items()
        },
    }
    dead.close()


@pytest.fixture(scope="module")
def gateway(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(environment, cwd=tmp_path_factory.mktemp("fan")) as running:
        yield running


@pytest.fixture(scope="module")
def discreet(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("discreet")
    with Gateway({**environment, "GATEWAY_DISCLOSE": "minimal"}, cwd=folder) as running:
        yield running


# -- one answer ---------------------------------------------------------------------------------------------------


def test_parts_are_merged_under_their_names(gateway: Gateway, u: Parts) -> None:
    answer = gateway.get("/three/7")
    assert answer.status == 200
    assert answer.one("content-type") == "application/json"
    assert answer.body == b'{"a":{"at": "/a/7"},"b":{"at": "/b?id=7"},"c":{"at": "/c"}}'
    assert answer.one("content-length") == str(len(answer.body))
    assert parts_of(answer) == "a;s=200, b;s=200, c;s=200"
    assert answer.one("gateway-complete") == "?1"
    assert re.fullmatch(r"a;dur=\d+\.\d, b;dur=\d+\.\d, c;dur=\d+\.\d", answer.one("server-timing"))
    assert len(u.requests) == 3


def test_what_services_said_arrives_byte_for_byte(gateway: Gateway, u: Parts) -> None:
    numbers = '{ "big" : 123456789012345678901234567890, "float":1.10,\n"e":[1E400 , -0] }'
    words = '{"é":"\\u00e9\\/","日":"😀 \\ud83d\\ude00"}'
    u.script(a=f" \n{numbers}\r\n ", b=words)
    assert gateway.get("/strict").body == f'{{"a":{numbers},"b":{words}}}'.encode()


def test_a_chunked_answer_is_whole(gateway: Gateway, u: Parts) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    u.script(a=says(head + b'5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n'), b="2")
    assert gateway.get("/strict").body == b'{"a":{"a":1},"b":2}'


def test_parts_run_together(gateway: Gateway, u: Parts) -> None:
    u.script(a__1=silent, b=silent, c=silent)
    with begin(gateway, "/three/1") as wire:
        held = [u.wait_for_request(path) for path in ("/a/1", "/b", "/c")]
        for request in reversed(held):
            request.send(said(f'"{request.target}"'))
        assert wire.read_answer().body == b'{"a":"/a/1","b":"/b?id=1","c":"/c"}'


def test_a_part_waits_for_what_it_needs(gateway: Gateway, u: Parts) -> None:
    u.script(user__1=silent, team__7='{"name":"a & b/é"}')
    with begin(gateway, "/chain/1") as wire:
        user = u.wait_for_request("/user/1")
        assert gateway.get("/three/1").status == 200  # the gateway had time to ask for more
        assert u.asked("/team") == []
        user.send(said('{"team":{"id":7}}'))
        answer = wire.read_answer()
    assert answer.json()["boss"] == {"at": "/boss?of=a%20%26%20b%2F%C3%A9&user=7"}
    assert answer.one("gateway-complete") == "?1"


def test_an_answer_without_content_is_null(gateway: Gateway, u: Parts) -> None:
    u.script(a=says(b"HTTP/1.1 204 No Content\r\n\r\n"), b="1")
    answer = gateway.get("/strict")
    assert answer.body == b'{"a":null,"b":1}'
    assert (parts_of(answer), answer.one("gateway-complete")) == ("a;s=204, b;s=200", "?1")


def test_picked_members_are_what_is_left(gateway: Gateway, u: Parts) -> None:
    u.script(a='{"id":1.10,"secret":2,"name":"\\u00e9"}', b='[{"x":1}]')
    assert gateway.get("/pick").body == b'{"a":{"name":"\\u00e9","id":1.10},"b":[{"x":1}]}'
    u.script(a='"no object"')
    assert parts_of(gateway.get("/pick")) == "a;s=200;e=part_invalid, b;s=200"


def test_members_are_picked_of_each_object_of_a_list(gateway: Gateway, u: Parts) -> None:
    u.script(orders='[{"id":1,"x":2},null,{"x":3}]')
    assert gateway.get("/pick-list").body == b'{"orders":[{"id":1},null,{}]}'
    u.script(orders="[" * 900 + "]" * 900)  # deeper than Python goes
    assert parts_of(gateway.get("/pick-list")) == "orders;s=200;e=part_invalid"


def test_half_a_surrogate_pair_passes_as_it_is(gateway: Gateway, u: Parts) -> None:
    half = '{ "\\udc00" : "cut \\ud83d", "x":"\\\\ud800"}'
    u.script(a=half, b='"\\ud83d\\ude00"')
    assert gateway.get("/strict").body == f'{{"a":{half},"b":"\\ud83d\\ude00"}}'.encode()
    assert lines_of(gateway.get("/strict", f"Accept: {NDJSON}"))[-1]["complete"] is True


@pytest.mark.parametrize(
    ("target", "name", "parts"),
    [
        ("/pick-list", "orders", "orders;s=200;e=part_invalid"),
        ("/chain/1", "user__1", "boss;e=skipped, team;e=part_value, user;s=200"),
        ("/ids", "ids", "ids;s=200, items;e=part_value"),
    ],
)
def test_what_is_looked_into_holds_whole_pairs_only(
    gateway: Gateway, u: Parts, target: str, name: str, parts: str
) -> None:
    u.script(**{name: '{"team":{"id":1},"name":"\\ud83d"}'})
    assert parts_of(gateway.get(target)) == parts


def test_another_part_may_read_what_is_not_picked(gateway: Gateway, u: Parts) -> None:
    u.script(user='{"name":"Ada","team":7}')
    answer = gateway.get("/picked-from")
    assert answer.json() == {"user": {"name": "Ada"}, "team": {"at": "/team/7"}}


def test_head_has_the_fields_of_get_and_no_body(gateway: Gateway, u: Parts) -> None:
    got = gateway.get("/three/1")
    answer = gateway.ask(request_bytes("HEAD", "/three/1"))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.one("content-length") == got.one("content-length")
    assert answer.one("gateway-complete") == "?1"
    assert {request.start.split(" ")[0] for request in u.requests} == {"GET"}


def test_another_method_is_refused(gateway: Gateway, u: Parts) -> None:
    answer = gateway.ask(request_bytes("POST", "/three/1", "Content-Length: 0"))
    assert (answer.status, u.requests) == (405, [])


def test_a_part_may_be_asked_for_with_another_method(gateway: Gateway, u: Parts) -> None:
    assert gateway.get("/post").status == 200
    (request,) = u.requests
    assert request.start == "POST /a HTTP/1.1"
    assert request.one("content-length") == "0"


def test_flat_merges_the_members(gateway: Gateway, u: Parts) -> None:
    u.script(a='{"x":1.10}', b='{"y":[ ]}')
    assert gateway.get("/flat").body == b'{"x":1.10,"y":[ ]}'
    u.script(b=status(500))
    answer = gateway.get("/flat")
    assert (answer.body, answer.one("gateway-complete")) == (b'{"x":1.10}', "?0")


@pytest.mark.parametrize("other", ['{"x":2}', "[]", "1"])
def test_flat_refuses_what_does_not_fit(gateway: Gateway, u: Parts, other: str) -> None:
    u.script(a='{"x":1}', b=other)
    answer = gateway.get("/flat")
    assert (answer.status, problem_of(answer)["reason"]) == (502, "parts_clash")


@pytest.mark.parametrize("body", ['{"x":"\\ud83d"}', '{"\\udc00":1}'])
def test_flat_looks_into_every_part(gateway: Gateway, u: Parts, body: str) -> None:
    u.script(a=body, b='{"y":1}')
    assert problem_of(gateway.get("/flat"))["reason"] == "parts_clash"


def test_fields_of_the_answer_are_set_but_what_is_left_out_is_never_stored(gateway: Gateway, u: Parts) -> None:
    answer = gateway.get("/set")
    assert (answer.one("cache-control"), answer.one("x-own")) == ("max-age=60", "1")
    assert not answer.has("server-timing")
    for accept in ("*/*", NDJSON, EVENTS):
        u.script(a=status(500))
        answer = gateway.get("/set", f"Accept: {accept}")
        assert (answer.one("cache-control"), answer.one("x-own")) == ("no-store", "1")


# -- what may fail ------------------------------------------------------------------------------------------------

BIG = json.dumps("x" * 200)
GOOD = "Content-Type: application/json"
CHUNKED = f"HTTP/1.1 200 OK\r\n{GOOD}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2]\r\n".encode()
FAILURES: dict[str, tuple[Act, str]] = {
    "not-found": (status(404), "s=404"),
    "error": (status(500), "s=500"),
    "redirect": (status(302, "Location: /a"), "s=302"),
    "not-modified": (says(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "s=304"),
    "bad-json": (says(said("{")), "s=200;e=part_invalid"),
    "nothing": (says(said("")), "s=200;e=part_invalid"),
    "two-values": (says(said("{}{}")), "s=200;e=part_invalid"),
    "bad-utf-8": (says(said(b'"\xff"')), "s=200;e=part_invalid"),
    "too-deep": (says(said("[" * 45 + "]" * 44)), "s=200;e=part_invalid"),
    "html": (says(message("200 OK", b"{}", "Content-Type: text/html")), "s=200;e=part_invalid"),
    "no-type": (says(message("200 OK", b"{}")), "s=200;e=part_invalid"),
    "coded": (says(message("200 OK", b"{}", GOOD, "Content-Encoding: gzip")), "s=200;e=part_invalid"),
    "too-large": (says(said(BIG)), "e=part_too_large"),
    "too-large-chunked": (
        says(f"HTTP/1.1 200 OK\r\n{GOOD}\r\nTransfer-Encoding: chunked\r\n\r\nca\r\n{BIG}\r\n".encode()),
        "e=part_too_large",
    ),
    "breaks-off": (breaks_off(message("200 OK", b"[1,2]", GOOD)[:-1]), "e=response_incomplete"),
    "breaks-off-chunked": (breaks_off(CHUNKED), "e=response_incomplete"),
    "broken-chunk": (breaks_off(CHUNKED + b"no size\r\n"), "e=response_invalid"),
    "transfer-coded": (says(said("1", "Transfer-Encoding: gzip, chunked")), "e=response_invalid"),
    "reset": (lambda request: request.reset(), "e=connection_reset"),
    "no-http": (says(b"no HTTP at all\r\n\r\n"), "e=response_invalid"),
    "too-slow": (silent, "e=response_timeout"),
    "stalls": (says(f"HTTP/1.1 200 OK\r\n{GOOD}\r\nContent-Length: 5\r\n\r\n[".encode()), "e=response_timeout"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_an_optional_part_fails_alone(gateway: Gateway, u: Parts, kind: str) -> None:
    act, word = FAILURES[kind]
    u.script(a="1", b=act, c="3")
    answer = gateway.get("/opt")
    assert (answer.status, answer.body) == (200, b'{"a":1,"b":null,"c":3}')
    failed = parts_of(answer).split(", ")[1]
    assert failed == f"b;{word}" or re.fullmatch(rf"b;s=200;{re.escape(word)}", failed), failed
    assert answer.one("gateway-complete") == "?0"
    assert answer.one("cache-control") == "no-store"


@pytest.mark.parametrize(
    "media", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/problem+json", "application/hal+json"]
)
def test_json_has_several_media_types(gateway: Gateway, u: Parts, media: str) -> None:
    u.script(b=says(message("200 OK", b"{}", f"Content-Type: {media}")))
    assert gateway.get("/opt").one("gateway-complete") == "?1"


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_what_is_not_coded_may_say_so(gateway: Gateway, u: Parts, coding: str) -> None:
    u.script(b=says(said("1", f"Content-Encoding: {coding}")))
    assert gateway.get("/opt").one("gateway-complete") == "?1"


def test_a_default_stands_for_what_failed(gateway: Gateway, u: Parts) -> None:
    u.script(a="1", b="2", c=status(503))
    answer = gateway.get("/opt")
    assert answer.body == b'{"a":1,"b":2,"c":[1.10]}'
    assert parts_of(answer) == "a;s=200, b;s=200, c;s=503"


def test_a_part_that_is_too_late_is_broken_off_while_others_go_on(gateway: Gateway, u: Parts) -> None:
    u.script(a=silent, b=silent)
    with begin(gateway, "/opt") as wire:
        a, b = u.wait_for_request("/a"), u.wait_for_request("/b")
        all_close([b])
        assert a.connection.is_open
        a.send(said("1"))
        assert wire.read_answer().json()["a"] == 1


def test_nobody_there_is_a_failure_of_the_part(gateway: Gateway, u: Parts) -> None:
    answer = gateway.get("/dead")
    assert parts_of(answer) == "a;s=200, b;e=connection_refused"
    assert answer.json()["b"] is None
    assert (answer.one("gateway-complete"), answer.one("cache-control")) == ("?0", "no-store")


def test_what_depends_on_a_failed_part_is_skipped(gateway: Gateway, u: Parts) -> None:
    u.script(user__1='{"team":{"id":7}}', team__7=status(500))
    answer = gateway.get("/chain/1")
    assert answer.body == b'{"boss":null,"team":null,"user":{"team":{"id":7}}}'
    assert parts_of(answer) == "boss;e=skipped, team;s=500, user;s=200"
    assert u.asked("/boss") == []
    line = gateway.request_line(answer.one("x-request-id"))
    assert [(part["status"], part["reason"], part["attempts"]) for part in line["parts"]] == [
        (None, "skipped", 0),
        (500, "part_status", 1),
        (200, None, 1),
    ]


@pytest.mark.parametrize("value", ["null", '""', '"."', '".."', '"a/../b"', '"\\u0000"', "{}", "[1]"])
def test_a_value_that_cannot_stand_in_a_url_fails_its_part_unasked(gateway: Gateway, u: Parts, value: str) -> None:
    u.script(user__1=f'{{"team":{{"id":{value}}}}}')
    answer = gateway.get("/chain/1")
    assert parts_of(answer) == "boss;e=skipped, team;e=part_value, user;s=200"
    assert u.asked("/team") == []


@pytest.mark.parametrize("user", ["{}", '{"team":7}', "[]", "null", "1"])
def test_a_missing_value_fails_its_part(gateway: Gateway, u: Parts, user: str) -> None:
    u.script(user__1=user)
    assert parts_of(gateway.get("/chain/1")) == "boss;e=skipped, team;e=part_value, user;s=200"


def test_a_value_in_a_lone_surrogate_is_no_fault_of_ours(gateway: Gateway, u: Parts) -> None:
    u.script(user__1='{"team":{"id":"\\ud800"}}')
    answer = gateway.get("/chain/1")
    assert answer.status in {200, 502}
    assert "internal_error" not in str(answer.lines) + answer.body.decode()
    assert u.asked("/team") == []


def test_a_value_of_a_required_part_is_blamed_on_the_upstream(gateway: Gateway, u: Parts) -> None:
    u.script(user='{"id":".."}')
    problem = problem_of(gateway.get("/hard"))
    assert (problem["status"], problem["reason"], problem["part"]) == (502, "part_value", "team")


# -- what must not fail -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "code", "reason", "part_status"),
    [
        ("error", 502, "part_status", 500),
        ("not-found", 502, "part_status", 404),
        ("redirect", 502, "part_status", 302),
        ("bad-json", 502, "part_invalid", 200),
        ("html", 502, "part_invalid", 200),
        ("reset", 502, "connection_reset", None),
        ("no-http", 502, "response_invalid", None),
        ("too-slow", 504, "response_timeout", None),
    ],
)
def test_a_required_part_fails_the_whole_by_its_name(
    gateway: Gateway, u: Parts, kind: str, code: int, reason: str, part_status: int | None
) -> None:
    u.script(a=FAILURES[kind][0])
    answer = gateway.get("/part-timed")
    problem = problem_of(answer)
    assert (answer.status, problem["reason"], problem["part"]) == (code, reason, "a")
    assert problem["part_status"] == part_status
    assert problem["upstream"] == "u"
    assert "part a" in problem["detail"]
    assert not answer.has("gateway-parts")
    line = gateway.request_line(answer.one("x-request-id"))
    assert (line["status"], line["reason"]) == (code, reason)
    assert (line["upstream"], line["endpoint"]) == ("u", u.authority)


@pytest.mark.parametrize(("accept", "code"), [("*/*", 502), (NDJSON, 200)])
def test_nobody_there_fails_the_whole(
    gateway: Gateway, u: Parts, environment: Mapping[str, str], accept: str, code: int
) -> None:
    answer = gateway.get("/dead-hard", f"Accept: {accept}")
    problem = lines_of(answer)[-1]["problem"] if accept == NDJSON else problem_of(answer)
    assert (answer.status, problem["reason"], problem["part"]) == (code, "connection_refused", "b")
    assert problem["upstream"] == "dead"
    line = gateway.request_line(answer.one("x-request-id"))
    dead = environment["GATEWAY_UPSTREAM_DEAD"].removeprefix("http://")
    assert (line["status"], line["reason"]) == (code, "connection_refused")
    assert (line["upstream"], line["endpoint"]) == ("dead", dead)


def test_what_was_never_asked_for_has_no_endpoint_in_the_log(gateway: Gateway, u: Parts) -> None:
    u.script(user='{"id":""}')
    line = gateway.request_line(gateway.get("/hard").one("x-request-id"))
    assert (line["reason"], line["upstream"], line["endpoint"]) == ("part_value", "u", None)


def test_the_whole_exchange_may_have_its_time(gateway: Gateway, u: Parts) -> None:
    u.script(a=silent)
    problem = problem_of(gateway.get("/whole"))
    assert (problem["status"], problem["reason"], problem["part"]) == (504, "response_timeout", "a")


@pytest.mark.parametrize(
    ("code", "field", "value"),
    [
        (401, "www-authenticate", 'Bearer realm="u"'),
        (429, "retry-after", "7"),
        (503, "retry-after", "9"),
        (404, "", ""),
    ],
)
def test_a_status_that_is_passed_on_brings_what_it_cannot_do_without(
    gateway: Gateway, u: Parts, code: int, field: str, value: str
) -> None:
    u.script(orders='[{"id":1},{"id":2}]', item__1=silent)
    u.script(item__2=status(code, "Set-Cookie: a=1", *([f"{field.title()}: {value}"] if field else [])))
    answer = gateway.get("/passing")
    problem = problem_of(answer)
    assert (answer.status, problem["part"], problem["part_status"]) == (code, "items", code)
    assert answer.all(field) == ([value] if field else [])
    assert not answer.has("set-cookie")
    line = gateway.request_line(answer.one("x-request-id"))
    assert (line["reason"], line["level"]) == ("part_status", "warning" if code == 503 else "info")


def test_a_required_failure_cancels_the_others_at_once(gateway: Gateway, u: Parts) -> None:
    u.script(a=silent, b=silent)
    with begin(gateway, "/strict") as wire:
        slow, fails = u.wait_for_request("/a"), u.wait_for_request("/b")
        fails.send(message("500 Oops", b""))
        answer = wire.read_answer()
    assert (answer.status, problem_of(answer)["part"]) == (502, "b")
    eventually(lambda: not slow.connection.is_open, 2)


def test_the_whole_has_one_deadline(gateway: Gateway, u: Parts) -> None:
    u.script(a=silent, b=silent)
    problem = problem_of(gateway.get("/timed"))
    assert (problem["status"], problem["reason"], problem["part"]) == (504, "response_timeout", "a")
    all_close([u.wait_for_request(path) for path in ("/a", "/b")])


def test_what_is_there_at_the_deadline_goes_down(gateway: Gateway, u: Parts) -> None:
    u.script(a="1", b=silent)
    answer = gateway.get("/timed")
    assert (answer.status, answer.body, parts_of(answer)) == (
        200,
        b'{"a":1,"b":null}',
        "a;s=200, b;e=response_timeout",
    )


def test_pass_gives_the_status_on(gateway: Gateway, u: Parts) -> None:
    u.script(a=status(404))
    answer = gateway.get("/pass")
    problem = problem_of(answer)
    assert (answer.status, problem["reason"], problem["part"], problem["part_status"]) == (404, "part_status", "a", 404)
    u.script(a=status(410))
    assert gateway.get("/pass").status == 502


def test_pass_says_nothing_of_an_optional_part(gateway: Gateway, u: Parts) -> None:
    u.script(a="1", b=status(404))
    answer = gateway.get("/pass")
    assert (answer.status, answer.body, parts_of(answer)) == (200, b'{"a":1,"b":null}', "a;s=200, b;s=404")


# -- mapped parts -------------------------------------------------------------------------------------------------


def test_a_mapped_part_asks_once_for_each_and_keeps_the_order(gateway: Gateway, u: Parts) -> None:
    u.script(orders='[{"id":3},{"id":1},{"id":3},{"id":"a/b"},{"id":1}]')
    answer = gateway.get("/mapped")
    targets = ["/item/3", "/item/1", "/item/3", "/item/a%2Fb", "/item/1"]
    assert [item["at"] for item in answer.json()["items"]] == targets
    assert sorted(request.target for request in u.asked("/item/")) == ["/item/1", "/item/3", "/item/a%2Fb"]
    assert parts_of(answer) == "items;n=5;ok=5, orders;s=200"
    assert answer.one("gateway-complete") == "?1"
    line = gateway.request_line(answer.one("x-request-id"))
    assert [(part["part"], part["attempts"]) for part in line["parts"]] == [("items", 3), ("orders", 1)]
    assert line["attempts"] == 4


def test_a_mapped_part_over_nothing_is_an_empty_list(gateway: Gateway, u: Parts) -> None:
    u.script(orders="[]")
    answer = gateway.get("/mapped")
    assert (answer.json(), parts_of(answer)) == ({"orders": [], "items": []}, "items;n=0;ok=0, orders;s=200")
    assert answer.one("gateway-complete") == "?1"


def at_work(u: Parts, count: int) -> None:
    """Wait until so many items were asked for."""
    eventually(lambda: len(u.asked("/item/")) >= count)


def test_a_mapped_part_asks_for_so_many_at_a_time(gateway: Gateway, u: Parts) -> None:
    u.script(orders='[{"id":1},{"id":2},{"id":3},{"id":4}]', **{f"item__{number}": silent for number in range(1, 5)})
    with begin(gateway, "/mapped") as wire:
        for answered in range(4):
            wanted = min(answered + 2, 4)
            at_work(u, wanted)
            assert gateway.get("/strict").status == 200  # it had time to ask for more
            items = u.asked("/item/")
            assert len(items) == wanted
            items[answered].send(said(str(answered)))
        assert sorted(wire.read_answer().json()["items"]) == [0, 1, 2, 3]


def test_a_mapped_part_has_a_bound(gateway: Gateway, u: Parts) -> None:
    u.script(orders=json.dumps([{"id": number % 4} for number in range(40)]))
    assert gateway.get("/mapped").status == 200
    u.forget()
    u.script(orders=json.dumps([{"id": number} for number in range(5)]))
    problem = problem_of(gateway.get("/mapped"))
    assert (problem["status"], problem["reason"], problem["part"]) == (502, "part_too_many", "items")
    assert u.asked("/item/") == []


def test_a_required_mapped_part_fails_with_its_first_item(gateway: Gateway, u: Parts) -> None:
    u.script(orders='[{"id":1},{"id":2}]', item__1=silent, item__2=status(500))
    problem = problem_of(gateway.get("/mapped"))
    assert (problem["reason"], problem["part"], problem["part_status"]) == ("part_status", "items", 500)
    held = u.wait_for_request("/item/1").connection
    eventually(lambda: not held.is_open, 2)


def test_an_optional_mapped_part_has_holes(gateway: Gateway, u: Parts) -> None:
    u.script(
        orders='{"list":[{"id":1},{"id":2},{},{"id":null},{"id":".."},{"id":3}]}', item__1="1", item__2=status(404)
    )
    answer = gateway.get("/loose")
    assert answer.json()["items"] == [1, None, None, None, None, {"at": "/item/3"}]
    assert re.fullmatch(r"items;n=6;ok=2;e=(part_status|part_value), orders;s=200", parts_of(answer))
    assert (answer.one("gateway-complete"), answer.one("cache-control")) == ("?0", "no-store")


@pytest.mark.parametrize(
    ("orders", "item", "word"),
    [
        ('{"list":[{"id":1},{"id":2}]}', status(500), "part_status"),
        ('{"list":[{"id":1},{"id":2}]}', says(said("{")), "part_invalid"),
        ('{"list":[{"id":null},{"id":2}]}', says(said("2")), "part_value"),
    ],
)
def test_a_hole_has_its_reason(gateway: Gateway, u: Parts, orders: str, item: Act, word: str) -> None:
    u.script(orders=orders, item__1=item)
    answer = gateway.get("/loose")
    assert answer.json()["items"] == [None, {"at": "/item/2"}]
    assert parts_of(answer) == f"items;n=2;ok=1;e={word}, orders;s=200"


@pytest.mark.parametrize("orders", ["{}", '{"list":null}', '{"list":{}}', "[]", '{"list":"x"}'])
def test_a_mapped_part_needs_a_list(gateway: Gateway, u: Parts, orders: str) -> None:
    u.script(orders=orders)
    answer = gateway.get("/loose")
    assert (answer.json()["items"], parts_of(answer)) == (None, "items;e=part_value, orders;s=200")


def test_a_list_of_values_is_mapped_over(gateway: Gateway, u: Parts) -> None:
    u.script(ids='["a b", 7, 1.10, true, "a b"]')
    items = [{"at": f"/item?id={text}"} for text in ("a%20b", "7", "1.10", "true", "a%20b")]
    assert gateway.get("/ids").json()["items"] == items
    u.script(ids='["", null, {}, [1], "."]')
    assert parts_of(gateway.get("/ids")) == "ids;s=200, items;n=5;ok=0;e=part_value"


@pytest.mark.parametrize("orders", ['[{"id":1},{"id":2}]', '[{"id":1},{"id":1}]'])
def test_the_items_of_a_mapped_part_are_too_large_together(gateway: Gateway, u: Parts, orders: str) -> None:
    u.script(orders=orders, item__1=json.dumps("x" * 60), item__2=json.dumps("x" * 60))
    problem = problem_of(gateway.get("/many"))
    assert (problem["reason"], problem["part"]) == ("part_too_large", "items")
    u.script(orders='[{"id":1}]')
    assert gateway.get("/many").status == 200


def test_a_list_of_very_many_items_is_mapped_while_others_are_served(gateway: Gateway, u: Parts) -> None:
    u.script(orders="[" + ",".join(['{"id":1}'] * 100_000) + "]", item__1="1")
    with begin(gateway, "/loose", "X-Request-ID: much") as wire:
        assert wire.read_answer().json()["items"] is None  # it is no {"list": [...]}
    u.script(orders='{"list":[' + ",".join(['{"id":1}'] * 100_000) + "]}")
    with begin(gateway, "/loose") as wire:
        u.wait_for_request("/orders", 2)
        assert gateway.get("/strict").status == 200
        assert len(wire.read_answer().json()["items"]) == 100_000
    assert len(u.asked("/item/")) == 1


# -- what goes up -------------------------------------------------------------------------------------------------


def test_some_fields_go_to_the_parts_and_nothing_else(gateway: Gateway, u: Parts) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = gateway.get(
        "/headers",
        "Authorization: Bearer t",
        "Accept-Language: de",
        f"Traceparent: {trace}",
        "Tracestate: a=1",
        "X-Request-ID: mine-1",
        "X-Tenant: acme",
        "X-Other: no",
        "Cookie: a=1",
        "User-Agent: me",
        "Accept-Encoding: gzip",
        "If-None-Match: *",
        "Range: bytes=0-1",
        "X-Forwarded-For: 10.0.0.1",
    )
    assert answer.status == 200
    assert answer.one("x-request-id") == "mine-1"
    a, b = u.wait_for_request("/a"), u.wait_for_request("/b")
    usual = {"host", "accept", "accept-language", "traceparent", "tracestate", "x-request-id", "via", "x-tenant"}
    assert a.names == {*usual, "x-part", "x-all"}
    assert b.names == {*usual, "authorization", "x-all"}
    assert (a.one("x-part"), b.one("x-all"), b.one("authorization")) == ("acme", "both", "Bearer t")
    for part in (a, b):
        assert (part.one("traceparent"), part.one("tracestate"), part.one("x-request-id")) == (trace, "a=1", "mine-1")
        assert (part.one("accept"), part.one("accept-language"), part.one("x-tenant")) == (
            "application/json",
            "de",
            "acme",
        )
        assert part.one("host") == u.authority


def test_a_trace_is_begun_where_none_came(gateway: Gateway, u: Parts) -> None:
    answer = gateway.get("/strict")
    a, b = u.wait_for_request("/a"), u.wait_for_request("/b")
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", a.one("traceparent"))
    assert a.one("traceparent")[:36] == b.one("traceparent")[:36]
    assert a.one("x-request-id") == b.one("x-request-id") == answer.one("x-request-id")
    assert a.names == {"host", "accept", "traceparent", "x-request-id", "via"}


def test_templates_read_query_and_header(gateway: Gateway, u: Parts) -> None:
    answer = gateway.get("/template/a%2Fb?page=1%2F2&q=x+y&page=3&z=9", "X-Tenant: a c/é")
    assert answer.json()["a"]["at"].startswith("/a/1%2F2/a%20c%2F")
    assert answer.json()["a"]["at"].endswith("?id=a%2Fb&q=x%20y")
    assert "X-Tenant" in answer.one("vary").split(", ")


def test_what_a_connection_names_goes_no_further(gateway: Gateway, u: Parts) -> None:
    fields = ("Authorization: Bearer t", "X-Tenant: acme", "Accept-Language: de")
    gateway.get("/headers", *fields, "Connection: x-tenant, Authorization")
    b = u.wait_for_request("/b")
    assert not {"x-tenant", "authorization"} & b.names
    assert b.one("accept-language") == "de"


@pytest.mark.parametrize(
    ("query", "tenant", "target"),
    [
        ("%C3%A9", "é".encode(), "/a/%C3%A9?q=%C3%A9"),
        ("%e9%ff", b"\xe9\xff", "/a/%E9%FF?q=%E9%FF"),
        ("%zz", b"%e9", "/a/%25e9?q=%25zz"),
        ("a%00b", b"a\tb", "/a/a%09b?q=a%00b"),
        ("%2F..%2F", b"...", "/a/...?q=%2F..%2F"),
        ("a;b", b"a=b&c?d#e", "/a/a%3Db%26c%3Fd%23e?q=a%3Bb"),
    ],
)
def test_the_bytes_of_a_value_are_those_that_came(
    gateway: Gateway, u: Parts, query: str, tenant: bytes, target: str
) -> None:
    field = f"X-Tenant: {tenant.decode('latin-1')}"
    assert gateway.get(f"/bytes?q={query}", field).json()["a"] == {"at": target}


@pytest.mark.parametrize("path", ["/side/%2/e", "/side/.%2/e", "/side/%2E%2/e", "/side/%/2e"])
def test_values_side_by_side_do_not_climb(gateway: Gateway, u: Parts, path: str) -> None:
    assert (parts_of(gateway.get(path)), u.requests) == ("a;e=template_value", [])
    assert gateway.get("/side/a./.b").json() == {"a": {"at": "/a/a..b/z"}}


@pytest.mark.parametrize(
    ("target", "tenant"), [("?q=1", "t"), ("?page=..&q=1", "t"), ("?page=1&q=", "t"), ("?page=1&q=1", "..")]
)
def test_a_value_of_the_client_that_cannot_stand_is_its_fault(
    gateway: Gateway, u: Parts, target: str, tenant: str
) -> None:
    answer = gateway.get(f"/template/1{target}", f"X-Tenant: {tenant}")
    problem = problem_of(answer)
    assert (answer.status, problem["reason"], problem["part"], u.requests) == (400, "template_value", "a", [])


def test_the_clients_query_does_not_go_to_the_parts(gateway: Gateway, u: Parts) -> None:
    assert gateway.get("/strict?a=1").status == 200
    assert {request.target for request in u.requests} == {"/a", "/b"}


# -- what is said of the answer -----------------------------------------------------------------------------------


def test_vary_names_what_the_parts_may_have_read(gateway: Gateway, u: Parts) -> None:
    assert gateway.get("/strict").one("vary") == "Accept, Authorization, Accept-Language"
    assert gateway.get("/headers").one("vary") == "Accept, Authorization, Accept-Language, X-Tenant"


def test_freshness_is_the_least_of_the_parts(gateway: Gateway, u: Parts) -> None:
    u.script(a=says(said("1", "Cache-Control: max-age=60")), b=says(said("2", "Cache-Control: max-age=90", "Age: 50")))
    assert gateway.get("/strict").one("cache-control") == "max-age=40"
    u.script(b=says(said("2", "Cache-Control: private, max-age=30")))
    assert gateway.get("/strict").one("cache-control") == "private, max-age=30"
    u.script(b=says(said("2", "Cache-Control: no-store")))
    assert gateway.get("/strict").one("cache-control") == "no-store"
    u.script(b="2")
    assert not gateway.get("/strict").has("cache-control")


def test_the_log_says_how_each_part_went(gateway: Gateway, u: Parts) -> None:
    line = gateway.request_line(gateway.get("/dead").one("x-request-id"))
    a, b = line["parts"]
    assert a.pop("ms") > 0
    assert b.pop("ms") > 0
    assert a == {
        "part": "a",
        "upstream": "u",
        "endpoint": u.authority,
        "status": 200,
        "reason": None,
        "attempts": 1,
        "cache": None,
    }
    assert {**b, "endpoint": None} == {
        "part": "b",
        "upstream": "dead",
        "endpoint": None,
        "status": None,
        "reason": "connection_refused",
        "attempts": 1,
        "cache": None,
        "cause": "ConnectionRefusedError: [Errno 111] Connection refused",
    }
    assert (line["route"], line["status"], line["reason"], line["attempts"]) == ("dead", 200, None, 2)


def test_a_part_is_tried_again_as_a_proxied_request_is(gateway: Gateway, u: Parts) -> None:
    acts = iter([status(503), says(said("1"))])

    def act(request: Request) -> None:
        next(acts)(request)

    u.script(a=act)
    answer = gateway.get("/again")
    assert (answer.body, parts_of(answer), answer.one("gateway-complete")) == (b'{"a":1}', "a;s=200", "?1")
    line = gateway.request_line(answer.one("x-request-id"))
    assert (line["attempts"], line["parts"][0]["attempts"], len(u.requests)) == (2, 2, 2)


def test_a_discreet_gateway_names_no_part(discreet: Gateway, u: Parts) -> None:
    answer = discreet.get("/dead")
    assert answer.one("gateway-complete") == "?0"
    assert not {"gateway-parts", "server-timing"} & answer.names
    failed = discreet.get("/dead-hard")
    assert not {"part", "part_status", "upstream"} & problem_of(failed).keys()
    assert "part b" not in failed.body.decode()
    assert '"dead"' not in failed.body.decode() + str(failed.lines)
    assert discreet.request_line(failed.one("x-request-id"))["parts"]
    u.script(a='{"x":1}', b='{"x":1}')
    assert problem_of(discreet.get("/flat"))["detail"] == Reason.PARTS_CLASH.advice
    assert problem_of(discreet.get("/template/1"))["detail"] == Reason.TEMPLATE_VALUE.advice


# -- as they end --------------------------------------------------------------------------------------------------


def test_lines_come_as_the_parts_end(gateway: Gateway, u: Parts) -> None:
    u.script(a=silent, b=silent)
    with begin(gateway, "/strict", f"Accept: {NDJSON}", "X-Request-ID: lines") as wire:
        a, b = u.wait_for_part_of("lines", "/a"), u.wait_for_part_of("lines", "/b")
        b.send(said('{"n":\r\n 1.10}'))
        answer = wire.read_head()
        assert answer.status == 200
        first = wire.read_body(answer, 1)
        assert first.count(b"\n") == 1
        assert b"1.10" in first
        assert timeless(json.loads(first)) == {"part": "b", "status": 200, "data": {"n": 1.1}}
        a.send(said("2"))
        wire.read_body(answer)
    _, second, last = lines_of(answer)
    assert timeless(second) == {"part": "a", "status": 200, "data": 2}
    assert [timeless(told) for told in last.pop("parts")] == [
        {"part": "a", "status": 200},
        {"part": "b", "status": 200},
    ]
    assert last == {"complete": True}
    assert not answer.broke_off
    assert (answer.one("content-type"), answer.one("cache-control")) == (NDJSON, "no-store")
    assert "Accept" in answer.one("vary").split(", ")
    assert not {"gateway-parts", "gateway-complete", "server-timing"} & answer.names
    assert answer.has("x-request-id")


def test_events_come_with_ids_and_the_last_is_end(gateway: Gateway, u: Parts) -> None:
    u.script(a='{"x":\n[1,\r2]}', b="2")
    answer = gateway.get("/strict", f"Accept: {EVENTS}")
    assert (answer.status, answer.one("content-type"), answer.one("cache-control")) == (200, EVENTS, "no-store")
    *parts, (last_id, last) = events_of(answer)
    assert {name: timeless(told) for name, told in parts} == {
        "a": {"part": "a", "status": 200, "data": {"x": [1, 2]}},
        "b": {"part": "b", "status": 200, "data": 2},
    }
    assert (last_id, last["complete"], len(last["parts"])) == ("end", True, 2)
    assert not {"gateway-parts", "gateway-complete", "server-timing"} & answer.names


def test_an_event_source_that_has_all_is_told_to_stop(gateway: Gateway, u: Parts) -> None:
    answer = gateway.get("/strict", f"Accept: {EVENTS}", "Last-Event-ID: end")
    assert (answer.status, answer.body, u.requests) == (204, b"", [])
    assert answer.one("cache-control") == "no-store"
    assert gateway.get("/strict", f"Accept: {EVENTS}", "Last-Event-ID: a").status == 200
    assert gateway.get("/strict", "Last-Event-ID: end").status == 200


@pytest.mark.parametrize("media", [NDJSON, EVENTS])
def test_a_stream_tells_of_an_optional_failure(gateway: Gateway, u: Parts, media: str) -> None:
    u.script(a="1", b=status(404), c=FAILURES["bad-json"][0])
    answer = gateway.get("/opt", f"Accept: {media}")
    told = told_by(answer, media)
    parts = {one["part"]: timeless(one) for one in told[:-1]}
    assert parts["b"] == {"part": "b", "status": 404, "reason": "part_status", "data": None}
    assert parts["c"] == {"part": "c", "status": 200, "reason": "part_invalid", "data": [1.1]}
    assert told[-1]["complete"] is False
    assert "problem" not in told[-1]


@pytest.mark.parametrize("media", [NDJSON, EVENTS])
def test_a_stream_ends_with_the_problem_of_a_required_part(gateway: Gateway, u: Parts, media: str) -> None:
    u.script(a=silent, b=status(500))
    answer = gateway.get("/strict", f"Accept: {media}", "X-Request-ID: required-failed")
    assert answer.status == 200
    told = told_by(answer, media)
    assert [one["part"] for one in told[:-1]] == ["b"]
    last = told[-1]
    assert last["complete"] is False
    problem = last["problem"]
    assert (problem["status"], problem["reason"], problem["part"], problem["part_status"]) == (
        502,
        "part_status",
        "b",
        500,
    )
    assert problem["request_id"] == "required-failed"
    held = u.wait_for_request("/a").connection
    eventually(lambda: not held.is_open, 2)
    line = gateway.request_line("required-failed")
    assert (line["status"], line["reason"]) == (200, "part_status")


def test_a_stream_of_a_mapped_part_counts_its_items(gateway: Gateway, u: Parts) -> None:
    u.script(orders='{"list":[{"id":1},{"id":2}]}', item__2=status(500))
    *parts, last = lines_of(gateway.get("/loose", f"Accept: {NDJSON}"))
    assert [(one["part"], one.get("n"), one.get("ok")) for one in parts] == [("orders", None, None), ("items", 2, 1)]
    assert last["complete"] is False


def test_json_is_what_a_browser_or_curl_gets(gateway: Gateway, u: Parts) -> None:
    for accept in ("*/*", "text/html,application/xhtml+xml,*/*;q=0.8", f"{NDJSON};q=0.5, application/json"):
        assert gateway.get("/strict", f"Accept: {accept}").one("content-type") == "application/json"


@pytest.mark.parametrize("media", [NDJSON, EVENTS])
def test_head_of_a_stream_has_no_body(gateway: Gateway, u: Parts, media: str) -> None:
    answer = gateway.ask(request_bytes("HEAD", "/strict", f"Accept: {media}"))
    assert (answer.status, answer.one("content-type"), answer.body) == (200, media, b"")
    assert gateway.get("/strict").status == 200


@pytest.mark.parametrize("media", [NDJSON, EVENTS])
@pytest.mark.parametrize("target", ["/dead-hard", "/opt"])
def test_a_discreet_stream_names_its_parts_and_no_upstream(
    discreet: Gateway, u: Parts, media: str, target: str
) -> None:
    u.script(b=status(404))
    *parts, last = told_by(discreet.get(target, f"Accept: {media}"), media)
    assert {one["part"] for one in parts} <= {"a", "b", "c"}
    assert all(one.keys() <= {"part", "status", "reason", "data"} for one in [*parts, *last["parts"]])
    assert not {"part", "part_status", "upstream"} & last.get("problem", {}).keys()
    assert '"dead"' not in str(last)


# -- clients that leave -------------------------------------------------------------------------------------------


def test_a_client_that_leaves_cancels_every_part(gateway: Gateway, u: Parts) -> None:
    u.script(a__9=silent, b=silent, c=silent)
    with begin(gateway, "/three/9", "X-Request-ID: left-1"):
        held = [u.wait_for_request(path) for path in ("/a/9", "/b", "/c")]
    all_close(held)
    line = gateway.request_line("left-1")
    assert (line["status"], line["reason"]) == (499, "client_gone")


def test_a_client_that_leaves_in_the_middle_of_the_stream_cancels_what_is_left(gateway: Gateway, u: Parts) -> None:
    u.script(a="1", b=silent, c=silent)
    with begin(gateway, "/three/8", f"Accept: {NDJSON}", "X-Request-ID: left-2") as wire:
        held = [u.wait_for_request(path) for path in ("/b", "/c")]
        answer = wire.read_head()
        wire.read_body(answer, 1)
    all_close(held)
    line = gateway.request_line("left-2")
    assert (line["status"], line["reason"]) == (499, "client_gone")
    assert [part["part"] for part in line["parts"]] == ["a"]


def test_a_client_that_leaves_cancels_a_mapped_part(gateway: Gateway, u: Parts) -> None:
    u.script(orders='[{"id":1},{"id":2},{"id":3}]', item__1=silent, item__2=silent, item__3=silent)
    with begin(gateway, "/mapped"):
        held = [u.wait_for_request(path) for path in ("/item/1", "/item/2")]
    all_close(held)
    assert gateway.get("/strict").status == 200
    assert len(u.asked("/item/")) == 2


@pytest.mark.parametrize("sent", [b"", b"hello"])
def test_a_body_hides_no_client_that_leaves(gateway: Gateway, u: Parts, sent: bytes) -> None:
    u.script(a=silent)
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/sent", f"Content-Length: {len(sent)}", body=sent))
        asked = u.wait_for_request("/a")
    all_close([asked])
    assert (asked.start, asked.body) == ("GET /a HTTP/1.1", b"")


def test_a_body_is_taken_and_has_its_limit(gateway: Gateway, u: Parts) -> None:
    chunked = request_bytes("POST", "/sent", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n")
    with gateway.connect() as wire:
        for raw in (chunked, request_bytes("POST", "/sent", "Content-Length: 10", body=b"0123456789")):
            wire.send(raw)
            assert wire.read_answer().status == 200
    u.forget()
    answer = gateway.ask(request_bytes("POST", "/sent", "Content-Length: 11", body=b"01234567890"))
    assert (answer.status, answer.json()["reason"], u.requests) == (413, "client_body_too_large", [])
