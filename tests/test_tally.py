"""What a worker counts of its requests."""

from gateway.exchange import Exchange
from gateway.tally import RECENT, RECENT_CLIENT, Tally


def failed(reason: str, route: str | None = None) -> Exchange:
    exchange = Exchange(1.0, "GET", "/a", "127.0.0.1")
    exchange.ended, exchange.reason, exchange.route, exchange.status = 1.5, reason, route, 500
    return exchange


def test_what_clients_do_wrong_hides_no_other_failure() -> None:
    tally = Tally()
    tally.note(failed("connection_refused"))
    for _ in range(3 * RECENT):
        tally.note(failed("route_not_found"))
    assert [one["reason"] for one in tally.recent] == ["connection_refused"]
    assert [one["whose"] for one in tally.recent_client] == ["client"] * RECENT_CLIENT


def test_who_looks_at_the_gateway_and_leaves_is_no_failure() -> None:
    tally = Tally()
    tally.note(failed("client_gone", "/-/status"))
    assert (list(tally.recent), list(tally.recent_client)) == ([], [])
    assert [key[0] for key in tally.requests] == ["/-/status"], "it is counted all the same"
