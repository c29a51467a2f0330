"""What a worker counts of its requests."""

import msgspec

from gateway.http.exchange import Exchange
from gateway.observe.counters import RECENT, RECENT_CLIENT, Counters


def failed(reason: str, route: str | None = None) -> Exchange:
    exchange = Exchange(1.0, "GET", "/a", "127.0.0.1")
    exchange.ended, exchange.reason, exchange.route, exchange.status = 1.5, reason, route, 500
    return exchange


def test_what_clients_do_wrong_hides_no_other_failure() -> None:
    counters = Counters()
    counters.note(failed("connection_refused"))
    for _ in range(3 * RECENT):
        counters.note(failed("route_not_found"))
    assert [one["reason"] for one in counters.recent] == ["connection_refused"]
    assert [one["whose"] for one in counters.recent_client] == ["client"] * RECENT_CLIENT


def test_who_looks_at_the_gateway_and_leaves_is_no_failure() -> None:
    counters = Counters()
    for path, route in (("/-/status", "/-/status"), ("/-/no-such-thing", None)):
        exchange = failed("client_gone", route)
        exchange.path = path
        counters.note(exchange)
    assert (list(counters.recent), list(counters.recent_client)) == ([], [])
    assert counters.requests == {}, "who looks is no traffic"


def test_failures_of_a_kind_are_counted_together_with_the_last_one() -> None:
    counters = Counters()
    for number in range(3):
        exchange = failed("connection_refused", "users")
        exchange.upstream, exchange.request_id = "users", f"id-{number}"
        counters.note(exchange)
    passed_on = failed("", "users")
    passed_on.reason, passed_on.status, passed_on.upstream = None, 500, "users"
    counters.note(passed_on)
    kinds = {labels: (one.count, one.last["request_id"]) for labels, one in counters.failures.items()}
    assert kinds == {("connection_refused", "users", "users"): (3, "id-2"), ("500", "users", "users"): (1, "")}
    assert [one["whose"] for one in counters.recent][-1] == "upstream"


def test_what_is_remembered_of_failures_is_short_whatever_clients_sent() -> None:
    """The workers show it to each other every second."""
    counters, long = Counters(), "x" * 60_000
    for _ in range(RECENT_CLIENT):
        exchange = Exchange(1.0, long, f"/{long}", "2001:db8::1")
        exchange.request_id, exchange.reason, exchange.status = "r" * 128, "method_unsupported", 501
        exchange.cause = exchange.host = long
        counters.note(exchange)
    assert len(msgspec.json.encode(list(counters.recent_client))) < RECENT_CLIENT * 700


def test_the_labels_of_metrics_are_few_whatever_clients_sent() -> None:
    counters = Counters()
    for number in range(1000):
        exchange = Exchange(1.0, f"METHOD{number}", f"/{number}", "192.0.2.1")
        exchange.host, exchange.reason, exchange.status = f"h{number}", "route_not_found", 404
        counters.note(exchange)
    assert list(counters.requests) == [("none", "other", 4, "route_not_found")]
