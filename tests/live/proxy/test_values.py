"""Values in braces, lists of what may pass, parameters that are set: what goes up, and what caches may make of it."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.live.harness import Answer, Answers, Gateway, Refuses, Request, eventually, request_bytes

OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nETag: "1"\r\n\r\n{}'


@pytest.fixture(scope="module")
def up() -> Iterator[Answers]:
    with Answers(OK) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def refuses() -> Iterator[Refuses]:
    closed = Refuses()
    yield closed
    closed.close()


@pytest.fixture(scope="module")
def gateway(up: Answers, refuses: Refuses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("values")
    (home / "literal").write_text("{client}", encoding="ascii")
    (home / "routes.py").write_text(
        "from django.http import HttpResponse\n"
        "from django.urls import path\n"
        "from gateway.routing import cached, fetch, from_environment, proxy, route\n"
        "async def own(request):\n"
        "    fetched = await fetch('keyed:/by-fetch')\n"
        "    return HttpResponse(fetched.body, headers={'Vary': 'Authorization, Accept-Language'})\n"
        "urlpatterns = [*from_environment(), route('/python/{id}', proxy('u', header_x_id='{id}-{method}')),\n"
        "               route('/own', cached(own, '60s')), path('plain/', own)]\n",
        encoding="ascii",
    )
    environment = {
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.2",
        "GATEWAY_RESPONSE_HEADER_STRICT_TRANSPORT_SECURITY": "max-age=31536000",
        "GATEWAY_RESPONSE_HEADER_X_LEVEL": "plain",
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_UPSTREAM_KEYED": up.url,
        "GATEWAY_UPSTREAM_KEYED__HEADER_X_REAL_IP": "{client}",
        "GATEWAY_UPSTREAM_KEYED__QUERY_APIKEY": "s3cret",
        "GATEWAY_UPSTREAM_KEYED__RESPONSE_HEADER_X_LEVEL": "upstream",
        "GATEWAY_UPSTREAM_DEAD": f"http://127.0.0.1:{refuses.port}",
        "GATEWAY_ROUTE_DEAD": "/dead -> dead",
        "GATEWAY_ROUTE_ALL": "/all/{id} -> u",
        "GATEWAY_ROUTE_ALL__HEADER_X_ALL": "{client}|{scheme}|{host}|{method}|{path}|{id}",
        "GATEWAY_ROUTE_ALL__HEADER_X_URL": "{url}",
        "GATEWAY_ROUTE_ALL__HEADER_X_ID": "{request_id}",
        "GATEWAY_ROUTE_ALL__HEADER_X_QUERY": "{query.page|1}/{cookie.sid|none}/{header.x-tenant|nobody}",
        "GATEWAY_ROUTE_ALL__HEADER_X_GONE": "{header.x-missing}",
        "GATEWAY_ROUTE_ALL__HEADER_X_BRACES": "{{literal}}",
        "GATEWAY_ROUTE_ALL__HEADER_X_LITERAL_FILE": str(home / "literal"),
        "GATEWAY_ROUTE_PROFILE": "/profile -> u",
        "GATEWAY_ROUTE_PROFILE__HEADER_CONTENT_PROFILE": "{header.content-profile|graphql_public}",
        "GATEWAY_ROUTE_TARGET": "/target/{query} -> u:/{header.x-tenant|none}/{query}?who={cookie.sid|nobody}",
        "GATEWAY_ROUTE_LISTED": "/listed -> u",
        "GATEWAY_ROUTE_LISTED__FORWARD_HEADERS": "authorization content-* accept*",
        "GATEWAY_ROUTE_LISTED__FORWARD_QUERY": "page limit",
        "GATEWAY_ROUTE_NOTHING": "/nothing -> u:/nothing?own=1",
        "GATEWAY_ROUTE_NOTHING__FORWARD_HEADERS": "-",
        "GATEWAY_ROUTE_NOTHING__FORWARD_QUERY": "-",
        "GATEWAY_UPSTREAM_STRICT": up.url,
        "GATEWAY_UPSTREAM_STRICT__FORWARD_HEADERS": "-",
        "GATEWAY_UPSTREAM_STRICT__FORWARD_QUERY": "-",
        "GATEWAY_ROUTE_STRICT": "/strict -> strict",
        "GATEWAY_ROUTE_ALL_AGAIN": "/all-again -> strict",
        "GATEWAY_ROUTE_ALL_AGAIN__FORWARD_HEADERS": "*",
        "GATEWAY_ROUTE_ALL_AGAIN__FORWARD_QUERY": "*",
        "GATEWAY_ROUTE_TRACED": "/traced -> u",
        "GATEWAY_ROUTE_TRACED__CACHE": "60s",
        "GATEWAY_ROUTE_TRACED__HEADER_X_ID": "{request_id}",
        "GATEWAY_ROUTE_SETS__QUERY_PAGE_SIZE": "20",
        "GATEWAY_ROUTE_SETS": "/sets -> u:/sets?a=target",
        "GATEWAY_ROUTE_SETS__QUERY_A": "set & done",
        "GATEWAY_ROUTE_SETS__QUERY_DEBUG": "-",
        "GATEWAY_ROUTE_SETS__QUERY_MISSING": "{query.nothing}",
        "GATEWAY_ROUTE_SETS__QUERY": "apiKey={header.x-key} page-size=10",
        "GATEWAY_ROUTE_CACHED": "/cached -> u",
        "GATEWAY_ROUTE_CACHED__CACHE": "60s",
        "GATEWAY_ROUTE_CACHED__HEADER_X_TENANT": "{header.x-tenant|none}",
        "GATEWAY_ROUTE_CACHED__CACHE_CONTROL": "public, max-age=3600",
        "GATEWAY_ROUTE_BY_COOKIE": "/by-cookie -> u",
        "GATEWAY_ROUTE_BY_COOKIE__CACHE": "60s",
        "GATEWAY_ROUTE_BY_COOKIE__HEADER_X_LANGUAGE": "{query.lang|en}",
        "GATEWAY_ROUTE_BY_COOKIE__QUERY_SID": "{cookie.sid|none}",
        "GATEWAY_ROUTE_BY_COOKIE__FORWARD_HEADERS": "-",
        "GATEWAY_ROUTE_BY_CLIENT": "/by-client -> keyed",
        "GATEWAY_ROUTE_BY_CLIENT__CACHE": "60s",
        "GATEWAY_AUTH_TEAM": "keys",
        "GATEWAY_AUTH_TEAM__KEYS": f"ann sha256:{sha256(b'key-of-ann').hexdigest()} admin,ops tenant=acme\n"
        f"bob sha256:{sha256(b'key-of-bob').hexdigest()}",
        "GATEWAY_ROUTE_ASKED": "/asked/** -> u:/{claim.tenant|none}/**",
        "GATEWAY_ROUTE_ASKED__AUTH": "team?",
        "GATEWAY_ROUTE_ASKED__CACHE": "60s",
        "GATEWAY_ROUTE_ASKED__HEADER_X_USER": "{user}",
        "GATEWAY_ROUTE_ASKED__HEADER_X_ROLES": "{roles}",
        "GATEWAY_ROUTE_ASKED__QUERY_TENANT": "{claim.tenant}",
        "GATEWAY_ROUTE_FAN": "GET /fan",
        "GATEWAY_ROUTE_FAN__PART_A": "keyed:/a?who={client}",
        "GATEWAY_ROUTE_FAN__PART_B": "u:/b",
        "GATEWAY_ROUTE_FAN__PART_B__HEADER_X_B": "{query.b}",
        "GATEWAY_ROUTE_FAN__FORWARD_HEADERS": "x-more-*",
    }
    with Gateway(environment, cwd=home) as running:
        yield running


def sent(gateway: Gateway, up: Answers, target: str, *fields: str, source: str | None = None) -> Request:
    up.forget()
    answer = gateway.ask(request_bytes("GET", target, *fields), source=source)
    assert answer.status == 200, answer
    (request,) = up.requests
    return request


def values(request: Request, name: str) -> list[str]:
    return request.all(name)


def test_each_word_is_what_the_log_has(gateway: Gateway, up: Answers) -> None:
    request = sent(gateway, up, "/all/7?page=2", "X-Request-ID: abc")
    assert request.one("x-all") == "127.0.0.1|http|gateway.test|GET|/all/7|7"
    assert request.one("x-url") == "http://gateway.test/all/7?page=2"
    assert request.one("x-id") == "abc"


def test_behind_a_trusted_proxy_words_are_what_the_client_asked_for(gateway: Gateway, up: Answers) -> None:
    fields = "X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example.com"
    request = sent(gateway, up, "/all/7", *fields, source="127.0.0.2")
    assert request.one("x-all").startswith("192.0.2.9|https|")
    assert request.one("x-url") == "https://shop.example.com/all/7"
    request = sent(gateway, up, "/all/7", *fields)  # nobody trusts this one
    assert request.one("x-url") == "http://gateway.test/all/7"


def test_values_of_the_client_are_decoded_and_have_a_text_to_stand_in(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/all/7").one("x-query") == "1/none/nobody"
    request = sent(gateway, up, "/all/7?page=a%20b&page=2", "Cookie: sid=s1", "X-Tenant: acme")
    assert request.one("x-query") == "a b/s1/acme"
    assert sent(gateway, up, "/all/a%20b").one("x-all").endswith("|/all/a%20b|a b")


def test_what_is_missing_sets_nothing_and_the_clients_own_is_gone(gateway: Gateway, up: Answers) -> None:
    request = sent(gateway, up, "/all/7", "X-Gone: forged", "x_gone: forged", "X.Gone: forged")
    assert not any("gone" in name for name in request.names)


@pytest.mark.parametrize("value", ["a%0d%0aX-Evil:%201", "a%0ab", "a%00b", "%ff"])
def test_a_value_that_cannot_stand_in_a_field_sets_nothing_and_is_told(
    gateway: Gateway, up: Answers, value: str
) -> None:
    request = sent(gateway, up, f"/all/7?page={value}")
    assert not request.has("x-query")
    assert not request.has("x-evil")
    events = eventually(lambda: [line for line in gateway.log if line["event"] == "value.dropped"])
    assert events[0]["field"] == "x-query"
    assert events[0]["values"] == ["{query.page}", "{cookie.sid}", "{header.x-tenant}"]


def test_braces_that_are_meant_and_those_of_files_stay(gateway: Gateway, up: Answers) -> None:
    request = sent(gateway, up, "/all/7")
    assert (request.one("x-braces"), request.one("x-literal")) == ("{literal}", "{client}")


def test_a_default_only_where_there_is_none(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/profile").all("content-profile") == ["graphql_public"]
    assert sent(gateway, up, "/profile", "Content-Profile: mine").all("content-profile") == ["mine"]


def test_a_target_takes_values_and_a_parameter_of_the_path_goes_first(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/target/x%2Fy").target == "/none/x%2Fy?who=nobody"
    request = sent(gateway, up, "/target/q?z=1", "X-Tenant: a/b", "Cookie: sid=a&b")
    assert request.target == "/a%2Fb/q?who=a%26b&z=1"
    assert gateway.ask(request_bytes("GET", "/target/q", "X-Tenant: ..")).status == 400


def test_lists_say_what_passes(gateway: Gateway, up: Answers) -> None:
    fields = ("Authorization: Bearer x", "Cookie: a=1", "Content-Language: de", "Accept-Language: de", "X-Any: 1")
    request = sent(gateway, up, "/listed?page=2&limit=9&p%61ge=3&debug=1", *fields, "User-Agent: me")
    assert request.target == "/listed?page=2&limit=9&p%61ge=3"
    assert request.names >= {"authorization", "content-language", "accept-language", "host", "via", "traceparent"}
    assert request.names.isdisjoint({"cookie", "x-any", "user-agent"})


def test_a_dash_lets_nothing_of_the_client_pass(gateway: Gateway, up: Answers) -> None:
    request = sent(gateway, up, "/nothing?a=1", "Authorization: x", "Cookie: a=1", "Accept: */*")
    assert request.target == "/nothing?own=1"
    assert request.names.isdisjoint({"authorization", "cookie", "accept"})


def test_a_star_lets_all_pass_beneath_a_dash(gateway: Gateway, up: Answers) -> None:
    fields = ("Authorization: x", "Cookie: a=1", "X-Any: 1")
    request = sent(gateway, up, "/strict?a=1", *fields)
    assert request.target == "/strict"
    assert request.names.isdisjoint({"authorization", "cookie", "x-any"})
    request = sent(gateway, up, "/all-again?a=1&b=2", *fields)
    assert request.target == "/all-again?a=1&b=2"
    assert request.names >= {"authorization", "cookie", "x-any"}


def test_parameters_are_set_replaced_and_taken_away(gateway: Gateway, up: Answers) -> None:
    request = sent(gateway, up, "/sets?a=mine&debug=1&b=2&missing=forged&api%4bey=forged", "X-Key: k 1")
    path, _, query = request.target.partition("?")
    assert path == "/sets"
    assert sorted(query.split("&")) == ["a=set%20%26%20done", "apiKey=k%201", "b=2", "page-size=10", "page_size=20"]
    request = sent(gateway, up, "/sets?page_size=1&PAGE_SIZE=2")
    assert sorted(request.target.partition("?")[2].split("&"))[:1] == ["PAGE_SIZE=2"]  # another name
    assert request.target.count("page_size=") == 1
    assert "apiKey" not in sent(gateway, up, "/sets?apiKey=forged").target


def test_python_has_the_same_values(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/python/5").one("x-id") == "5-GET"


def test_who_asks_goes_up_as_a_value_and_nobody_elses_answer_comes_down(gateway: Gateway, up: Answers) -> None:
    ann = sent(gateway, up, "/asked/x?tenant=forged", "X-API-Key: key-of-ann", "X-User: forged", "X-Roles: forged")
    assert (ann.one("x-user"), ann.one("x-roles"), ann.target) == ("ann", "admin,ops", "/acme/x?tenant=acme")
    bob = sent(gateway, up, "/asked/x?tenant=forged", "X-API-Key: key-of-bob", "X-Roles: forged")
    assert (bob.one("x-user"), bob.has("x-roles"), bob.target) == ("bob", False, "/none/x")
    nobody = sent(gateway, up, "/asked/x?tenant=forged", "X-User: forged")
    assert (nobody.has("x-user"), nobody.target) == (False, "/none/x")


# -- answers ----------------------------------------------------------------------------------------------------------


def ask(gateway: Gateway, target: str, *fields: str, source: str | None = None) -> Answer:
    return gateway.ask(request_bytes("GET", target, *fields), source=source)


def outcome(answer: Answer) -> str:
    return answer.one("cache-status").split(";")[1].strip()


def test_what_an_answer_was_made_with_is_in_its_vary_and_in_the_key(gateway: Gateway) -> None:
    assert "X-Tenant" in ask(gateway, "/cached?1", "X-Tenant: a").one("vary")
    assert outcome(ask(gateway, "/cached?1", "X-Tenant: a")) == "hit"
    assert outcome(ask(gateway, "/cached?1", "X-Tenant: b")) != "hit"
    assert outcome(ask(gateway, "/cached?1")) != "hit"


def test_a_cookie_and_a_client_are_part_of_the_key(gateway: Gateway) -> None:
    first = ask(gateway, "/by-cookie", "Cookie: sid=a")
    assert "Cookie" in first.one("vary")
    assert outcome(ask(gateway, "/by-cookie", "Cookie: sid=b")) != "hit"
    assert outcome(ask(gateway, "/by-client")) != "hit"
    assert outcome(ask(gateway, "/by-client")) == "hit"
    assert outcome(ask(gateway, "/by-client", source="127.0.0.3")) != "hit"


def test_the_ids_of_a_request_are_no_part_of_the_key(gateway: Gateway, up: Answers) -> None:
    assert sent(gateway, up, "/traced", "X-Request-ID: one").one("x-id") == "one"
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = ask(gateway, "/traced", "X-Request-ID: two", f"Traceparent: {trace}")
    assert outcome(answer) == "hit"
    assert not answer.has("vary")


def test_what_a_view_asked_for_with_values_is_not_stored(gateway: Gateway, up: Answers) -> None:
    up.forget()
    assert [ask(gateway, "/own").status for _ in range(2)] == [200, 200]
    assert [request.target for request in up.requests] == ["/by-fetch?apikey=s3cret"] * 2
    assert up.requests[0].one("x-real-ip") == "127.0.0.1"


def test_cache_control_is_that_of_good_answers_and_our_cache_does_not_go_by_it(gateway: Gateway) -> None:
    for target in ("/cached?cc", "/cached?cc"):
        answer = ask(gateway, target)
        assert answer.all("cache-control") == ["public, max-age=3600"]
    assert "ttl=" in answer.one("cache-status")
    assert int(answer.one("cache-status").partition("ttl=")[2]) <= 60
    assert ask(gateway, "/cached?cc", 'If-None-Match: "1"').status == 304
    assert ask(gateway, "/cached?cc", 'If-None-Match: "1"').all("cache-control") == ["public, max-age=3600"]


EVERY = {"/cached": 200, "/nowhere": 404, "/dead": 502, "/-/live": 200, "/fan": 200, "/a//b/%00": 400, "/plain/": 200}


@pytest.mark.parametrize(("target", "status"), EVERY.items())
def test_a_plain_response_header_is_on_every_answer(gateway: Gateway, target: str, status: int) -> None:
    answer = ask(gateway, target)
    assert answer.status == status
    assert answer.all("strict-transport-security") == ["max-age=31536000"]


def test_the_nearest_response_header_wins(gateway: Gateway) -> None:
    assert ask(gateway, "/by-client?level").all("x-level") == ["upstream"]
    assert ask(gateway, "/cached").all("x-level") == ["plain"]
    assert ask(gateway, "/dead").all("x-level") == ["plain"]


def test_parts_are_called_with_values_too(gateway: Gateway, up: Answers) -> None:
    up.forget()
    answer = ask(gateway, "/fan?b=9", "X-More-Y: 1", "X-Other: 1")
    assert answer.status == 200
    found = {request.target: request for request in up.requests}
    assert found.keys() == {"/a?who=127.0.0.1&apikey=s3cret", "/b"}
    assert found["/b"].one("x-b") == "9"
    assert all(request.has("x-more-y") and not request.has("x-other") for request in found.values())
    assert answer.one("vary") == "*"


def test_no_secret_stands_in_what_is_shown(gateway: Gateway, tmp_path: Path) -> None:
    assert "s3cret" not in "\n".join(gateway.output)
