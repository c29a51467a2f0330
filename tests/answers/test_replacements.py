"""Which answer goes down instead of which, as values."""

import pytest

from gateway.answers.replacements import replacements_of, suits
from gateway.config.loader import load
from gateway.config.records import ConfigError

SERVICES = {
    "GATEWAY_UPSTREAM_U": "http://u:1",
    "GATEWAY_UPSTREAM_SPARE": "http://s:1",
    "GATEWAY_ROUTE_A": "/a/** -> u",
    "GATEWAY_ROUTE_B": "/b/{id} -> u",
    "GATEWAY_ROUTE_OWN": "/own -> 200",
}


def problems(**variables: str) -> dict[str, str]:
    try:
        load(SERVICES | {f"GATEWAY_{name}": text for name, text in variables.items()}, lambda path: "")
    except ConfigError as error:
        return {problem.variable.removeprefix("GATEWAY_"): problem.message for problem in error.problems}
    return {}


def rules(**variables: str):  # type: ignore[no-untyped-def]
    config = load(SERVICES | {f"GATEWAY_{name}": text for name, text in variables.items()}, lambda path: "")
    (route,) = [route for route in config.routes if route.name == "a"]
    return replacements_of(route.level)


@pytest.mark.parametrize(
    ("status", "reason", "variable"),
    [
        (502, "connection_refused", "GATEWAY_ROUTE_A__ON_5XX"),  # the nearest level, however coarse
        (404, "route_not_found", "GATEWAY_UPSTREAM_U__ON_404"),
        (404, "file_not_found", "GATEWAY_UPSTREAM_U__ON_FILE_NOT_FOUND"),
        (410, None, "GATEWAY_ON_4XX"),
        (301, None, None),
        (403, None, None),
    ],
)
def test_the_nearest_level_then_reason_status_class(status: int, reason: str | None, variable: str | None) -> None:
    found = rules(
        ON_CONNECTION_REFUSED="500",
        ON_4XX="400",
        ON_403="400",
        ROUTE_A__ON_5XX="503",
        ROUTE_A__ON_403="-",
        UPSTREAM_U__ON_404="410",
        UPSTREAM_U__ON_FILE_NOT_FOUND="410",
    ).find(status, reason)
    assert (found.variable if found is not None and found.replacement is not None else None) == variable


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ROUTE_A__ON_404": "nowhere:/x"}, "there is no upstream nowhere"),
        ({"ROUTE_B__ON_404": "spare:/**"}, "the target ends in '**', but the pattern does not"),
        ({"ROUTE_A__ON_404": "302 /x/{id}"}, "'{id}' is not in the pattern"),
        ({"ON_404": "spare:/{id}"}, "'{id}' is not in the pattern"),
        ({"ROUTE_A__ON_404_BODY": "x"}, "this means nothing without GATEWAY_ROUTE_A__ON_404"),
        ({"ROUTE_A__ON_404": "302 /x", "ROUTE_A__ON_404_BODY": "x"}, "its _BODY is for a status alone"),
        ({"ROUTE_A__ON_200": "500"}, "is followed by a status"),
        ({"ROUTE_A__ON_NOTHING": "500"}, "expected a status (404)"),
        ({"ROUTE_A__BODY": "x"}, "this is for a route that is a status"),
        ({"ROUTE_OWN__TYPE": "text/plain"}, "this means nothing without GATEWAY_ROUTE_OWN__BODY"),
        ({"ROUTE_OWN__CACHE": "60s"}, "there is no upstream"),
        ({"ROUTE_OWN__HEADER_X": "1"}, "there is no upstream"),
        ({"ROUTE_OWN__TIMEOUT": "1s"}, "there is no upstream"),
        ({"ROUTE_C": "/c/{id} -> file:/var/**"}, "both end in '/**', or neither"),
        ({"ROUTE_C": "/c/{id}/** -> file:/var/**"}, "the pattern has a parameter"),
        ({"ROUTE_C": "/c -> 301 /{id}"}, "'{id}' is not in the pattern"),
        ({"MAINTENANCE": "perhaps"}, "on, off, or the path"),
        ({"BODY": "x"}, "there is no plain one for all of them"),
    ],
)
def test_what_nothing_can_come_of_is_a_start_error(variables: dict[str, str], message: str) -> None:
    found = problems(**variables)
    assert any(message in text for text in found.values()), found


def test_what_is_plain_leaves_answers_of_its_own_alone() -> None:
    assert problems(CACHE="60s", TIMEOUT="1s", HEADER_X="{client}", ROUTE_OWN__RESPONSE_HEADER_X="1") == {}


@pytest.mark.parametrize(
    ("accept", "is_html"),
    [
        (b"text/html", True),
        (b"text/html,application/xhtml+xml,*/*;q=0.8", True),
        (b"text/html;q=0.1", True),
        (b"text/html;q=0", False),
        (b"*/*", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_html_is_for_who_asks_for_it(accept: bytes, is_html: bool) -> None:
    found = rules(ROUTE_A__ON_404="file:/srv/404.html").find(404, None)
    assert suits(found, [accept]) is is_html
    assert suits(rules(ROUTE_A__ON_404="file:/srv/404.json").find(404, None), [accept])
