"""One word for one failure, with its status, side, token and advice."""

import re
from http import HTTPStatus

import pytest

from gateway.errors import GatewayError, Reason, Side

# The registry that RFC 9209, section 2.3 opens: https://www.iana.org/assignments/http-proxy-status
PROXY_ERROR_TYPES = frozenset(
    [
        "dns_timeout",
        "dns_error",
        "destination_not_found",
        "destination_unavailable",
        "destination_ip_prohibited",
        "destination_ip_unroutable",
        "connection_refused",
        "connection_terminated",
        "connection_timeout",
        "connection_read_timeout",
        "connection_write_timeout",
        "connection_limit_reached",
        "tls_protocol_error",
        "tls_certificate_error",
        "tls_alert_received",
        "http_request_error",
        "http_request_denied",
        "http_response_incomplete",
        "http_response_header_section_size",
        "http_response_header_size",
        "http_response_body_size",
        "http_response_trailer_section_size",
        "http_response_trailer_size",
        "http_response_transfer_coding",
        "http_response_content_coding",
        "http_response_timeout",
        "http_upgrade_failed",
        "http_protocol_error",
        "proxy_internal_response",
        "proxy_internal_error",
        "proxy_configuration_error",
        "proxy_loop_detected",
    ]
)
CLIENT_CLOSED_REQUEST = 499  # nginx's, in the log only

every_reason = pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.word)


@every_reason
def test_a_reason_has_a_token_of_the_registry_or_none(reason: Reason) -> None:
    assert reason.token is None or reason.token in PROXY_ERROR_TYPES


@every_reason
def test_a_reason_says_what_happened_and_what_to_do(reason: Reason) -> None:
    assert reason.title
    assert not reason.title.endswith(".")
    assert reason.advice.endswith((".", "?"))
    assert reason.advice != reason.title


@every_reason
def test_a_reasons_word_is_fit_for_a_log_field_and_a_metric_label(reason: Reason) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", reason.word)
    assert Reason[reason.word.upper()] is reason


@every_reason
def test_the_status_tells_the_side(reason: Reason) -> None:
    assert reason.status == CLIENT_CLOSED_REQUEST or HTTPStatus(reason.status)
    # RFC 9111, section 5.2.1.7, asks for a 504; a route that takes no sockets is no fault of the gateway's.
    is_of_client = 400 <= reason.status < 500 or reason in {Reason.NOT_CACHED, Reason.WEBSOCKET_UNSUPPORTED}
    assert (reason.side is Side.CLIENT) == is_of_client
    if reason.side is Side.UPSTREAM:
        assert reason.status in {502, 503, 504}


@every_reason
def test_a_499_has_no_token_since_nobody_is_there_to_read_it(reason: Reason) -> None:
    if reason.status == CLIENT_CLOSED_REQUEST:
        assert reason.token is None


def test_no_two_words_mean_the_same() -> None:
    """An Enum takes the second of two equal rows for another name of the first."""
    assert [reason.name for reason in Reason] == list(Reason.__members__)
    titles = [reason.title for reason in Reason]
    assert len(set(titles)) == len(titles)


def test_an_error_without_detail_says_what_to_do() -> None:
    assert GatewayError(Reason.DNS_FAILED).detail == Reason.DNS_FAILED.advice
    assert GatewayError(Reason.DNS_FAILED, "of users").detail == "of users"


def test_an_error_shows_its_word_and_never_its_cause() -> None:
    error = GatewayError(Reason.CONNECTION_REFUSED, "no", upstream="users", cause="10.0.0.1:8000")
    assert repr(error) == "<GatewayError connection_refused users: no>"
    assert str(error) == "connection_refused"
    assert repr(GatewayError(Reason.VIEW_ERROR, "no")) == "<GatewayError view_error -: no>"


def test_the_fields_of_an_error_are_taken_once() -> None:
    error = GatewayError(Reason.METHOD_NOT_ALLOWED, headers=iter([(b"allow", b"GET")]))
    assert error.headers == error.headers == ((b"allow", b"GET"),)


def test_what_a_failure_says_is_short_whatever_was_sent() -> None:
    error = GatewayError(Reason.VIEW_ERROR, "a" + "x" * 100_000 + "z", cause="first" + "x" * 10**7 + "last")
    assert (len(error.detail) <= 505, len(str(error.cause)) <= 10_005) == (True, True)
    assert str(error.cause).startswith("first")
    assert str(error.cause).endswith("last"), "a traceback says most at its end"
    assert GatewayError(Reason.VIEW_ERROR, "x" * 500, cause="y" * 10_000).detail == "x" * 500


@pytest.mark.parametrize("reason", Reason)
def test_title_and_detail_are_two_sentences(reason: Reason) -> None:
    assert GatewayError(reason).detail not in {"", reason.title}
    assert "The detail" not in reason.advice, "it stands there"


def test_a_failure_names_the_limit_that_it_met_before_its_cause() -> None:
    error = GatewayError(Reason.CONNECT_TIMEOUT, cause="nobody is there", limit=("connect_timeout_s", 0.5))
    error.name_limit({"connect_timeout_s": "GATEWAY_CONNECT_TIMEOUT"}.__getitem__)
    assert error.cause == "after 500ms, GATEWAY_CONNECT_TIMEOUT: nobody is there"
    error.name_limit(lambda _: "another")
    assert error.cause.startswith("after 500ms, GATEWAY_CONNECT_TIMEOUT"), "it is named once, by who is nearest"


def test_a_limit_that_nobody_set_is_the_default() -> None:
    error = GatewayError(Reason.RESPONSE_TIMEOUT, limit=("timeout_s", 30.0))
    error.name_limit(lambda _: "")
    assert error.cause == "after 30s, the default of TIMEOUT"
