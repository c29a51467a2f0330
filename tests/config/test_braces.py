"""Values in braces, checked where they hold."""

from collections.abc import Mapping

import pytest

from gateway.config.loader import load
from gateway.config.records import ConfigError
from gateway.http.field_template import FieldTemplate
from gateway.upstreams.options import overrides

SERVICES = {
    "GATEWAY_UPSTREAM_U": "http://u:1",
    "GATEWAY_UPSTREAM_V": "http://v:1",
    "GATEWAY_ROUTE_A": "/a/{id} -> u",
    "GATEWAY_ROUTE_B": "/b/{client} -> v",
    "GATEWAY_ROUTE_FAN": "/fan/{id}",
    "GATEWAY_ROUTE_FAN__PART_USER": "u:/users/{id}",
    "GATEWAY_ROUTE_FAN__PART_TEAM": "u:/teams/{user.team}?page={query.page|1}&who={client}",
}


def problems(**variables: str) -> dict[str, str]:
    environ = SERVICES | {f"GATEWAY_{name}": text for name, text in variables.items()}
    try:
        load(environ, lambda path: "{nonsense}")
    except ConfigError as error:
        return {problem.variable.removeprefix("GATEWAY_"): problem.message for problem in error.problems}
    return {}


@pytest.mark.parametrize(
    "variables",
    [
        {"ROUTE_A__HEADER_X": "{id}/{client}/{claim.realm_access.roles}/{cookie.sid|none}"},
        {"UPSTREAM_U__HEADER_X": "{id}"},  # both routes that lead there have it
        {"HEADER_X": "{id}"},  # one route has it; on the others it is missing
        {"ROUTE_A__HEADER_X": "{{not a value}}"},
        {"ROUTE_A__HEADER_X_FILE": "/literal"},
        {"ROUTE_A__RESPONSE_HEADER_X": "{anything}"},
        {"ROUTE_A__QUERY_X": "{header.x-tenant}"},
        {"ROUTE_A__QUERY": "aB={id} c=-"},
        {"ROUTE_FAN__PART_TEAM__HEADER_X": "{query.x}"},
        {"ROUTE_B__HEADER_X": "{host}"},
    ],
)
def test_what_may_stand_in_braces(variables: Mapping[str, str]) -> None:
    assert problems(**variables) == {}


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("ROUTE_A__HEADER_X", "{nonsense}", "'{nonsense}' is no value and no parameter of the path (those: {id})"),
        ("ROUTE_A__HEADER_X", '{"json": 1}', "write {{ and }} for braces that are meant"),
        ("ROUTE_A__HEADER_X", "{", "write {{ and }} for braces that are meant"),
        ("ROUTE_A__HEADER_X", "a}", "write {{ and }} for braces that are meant"),
        ("ROUTE_A__HEADER_X", "{}", "write {{ and }} for braces that are meant"),
        ("ROUTE_A__HEADER_X", "{header}", "{header} needs a name, as in {header.x-tenant}"),
        ("ROUTE_A__HEADER_X", "{query.}", "{query.} needs a name"),
        ("ROUTE_A__HEADER_X", "{client.x}", "{client.x} has no parts"),
        ("ROUTE_A__HEADER_X", "{header.a b}", "{header.a b} is no header's name"),
        ("ROUTE_A__QUERY_X", "{nonsense}", "is no value and no parameter"),
        ("ROUTE_A__QUERY", "a={nonsense}", "is no value and no parameter"),
        ("ROUTE_A__QUERY", "a", "expected parameters with values"),
        ("ROUTE_B__HEADER_X", "{client}", "{client} is a value of the request, and client is also a parameter"),
        ("HEADER_X", "{client}", "{client} is a value of the request, and client is also a parameter"),
        ("ROUTE_FAN__HEADER_X", "{user}", "user is also a parameter or part of GATEWAY_ROUTE_FAN"),
        ("ROUTE_FAN__PART_TEAM__HEADER_X", "{nonsense}", "is no value and no parameter"),
        ("ROUTE_FAN__PART_X", "u:/x/{nonsense}", "neither a parameter of the path nor a part"),
        ("ROUTE_C", "/c -> u:/{nonsense}", "'{nonsense}' is not in the pattern"),
        ("ROUTE_C", "/c -> u:/{client.x}", "'{client.x}' has no parts"),
        ("ROUTE_A__FORWARD_HEADERS", "host", "the gateway's own business"),
        ("ROUTE_A__FORWARD_HEADERS", "x-forwarded-for", "what a client says of itself"),
        ("ROUTE_A__HEADER_X", "a\nb", "no line breaks"),
    ],
)
def test_what_may_not_is_a_start_error_that_shows_how(variable: str, text: str, message: str) -> None:
    found = problems(**{variable: text})
    assert found.keys() == {variable}
    assert message in found[variable]


def test_an_unknown_parameter_is_told_once_with_those_that_there_are() -> None:
    found = problems(UPSTREAM_U__HEADER_X="{nam}")
    assert found == {"UPSTREAM_U__HEADER_X": found["UPSTREAM_U__HEADER_X"]}
    assert "(those: {id})" in found["UPSTREAM_U__HEADER_X"]


def test_python_writes_them_alike_and_its_records_hide_them() -> None:
    own = overrides(
        {"header_x": "{client}-s3cret", "header_y": "{{", "query": "k={user} l=s3cret", "query_z": "s3cret"}
    )
    fields = dict(own.headers)
    assert isinstance(fields["x"], FieldTemplate)
    assert fields["y"] == "{"
    assert "s3cret" not in repr(own)
    with pytest.raises(ValueError, match=r"write \{\{ and \}\}"):
        overrides({"header_x": "{no value}"})
