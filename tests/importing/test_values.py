"""Durations, sizes, URLs and paths of others, and the rules of Traefik."""

import pytest

from gateway import units
from gateway.importing import values
from gateway.importing.draft import clean_name
from gateway.importing.nginx_syntax import read_nginx
from gateway.importing.source import read_json
from gateway.importing.traefik import RuleError, alternatives


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("2s", "2s"),
        ("1m30s", "90s"),
        ("500ms", "500ms"),
        ("1h", "60m"),
        ("1.5s", "1500ms"),
        ("100us", "1ms"),
        ("0s", "0s"),
    ],
)
def test_durations_of_go(text: str, becomes: str) -> None:
    assert values.go_duration(text) == becomes
    assert units.duration(becomes) >= 0


@pytest.mark.parametrize("text", ["", "2", "s", "2 s", "-2s"])
def test_what_is_no_duration_of_go(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        values.go_duration(text)


@pytest.mark.parametrize(
    ("text", "becomes"),
    [("10m", "10MiB"), ("64k", "64KiB"), ("5MB", "5MiB"), ("1024", "1KiB"), ("1000", "1000B"), ("0", "0B")],
)
def test_sizes(text: str, becomes: str) -> None:
    assert values.size(text) == becomes


@pytest.mark.parametrize(
    ("path", "becomes"),
    [
        ("/users/{userId}", "/users/{userid}"),
        ("/a/*", "/a/**"),
        ("/a/**", "/a/**"),
        ("/a/{*rest}", "/a/**"),
        ("/", "/"),
        ("/a/{x-y}", "/a/{x_y}"),
        ("/a/{id:[0-9]+}/{name:\\w+}", "/a/{id:int}/{name:word}"),
    ],
)
def test_paths(path: str, becomes: str) -> None:
    assert str(values.path_template(path)) == becomes


@pytest.mark.parametrize("path", ["/a/{id}.{kind}", "/a/*/b", "/a/{id:[a-z]+}", "/a*"])
def test_paths_that_cannot_be_said(path: str) -> None:
    with pytest.raises(values.PathError):
        values.path_template(path)


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        ("GET /users/{id}", "GET_USERS_ID"),
        ("", "X"),
        ("1st", "N1ST"),
        ("ca_file", "CA_FILE_X"),
        ("a--b", "A_B"),
        ("ü", "X"),
    ],
)
def test_names(hint: str, name: str) -> None:
    assert clean_name(hint) == name


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        ("Host(`a`)", 1),
        ("Host(`a`, `b`)", 2),
        ("Host(`a`) && Path(`/x`)", 1),
        ("(Host(`a`) || Host(`b`)) && (PathPrefix(`/x`) || PathPrefix(`/y`))", 4),
        ("Method(`GET`, `POST`) && PathPrefix(`/`)", 1),
    ],
)
def test_rules_of_traefik(rule: str, count: int) -> None:
    assert len(alternatives(rule)) == count


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "Host(`a`",
        "Host(`a`) &&",
        "!Host(`a`)",
        "Host(`a`) && Host(`b`)",
        "(Host(`a`)",
        "Host(`a`) b",
    ],
)
def test_rules_that_no_route_can_say(rule: str) -> None:
    with pytest.raises(RuleError):
        alternatives(rule)


def test_json_keeps_the_place_of_each_value() -> None:
    root = read_json('{\n "a": [1, {"b": "x\\u00e9\\n"}], // c\n "d": null,\n}')
    found = root.items("a")[1].get("b")
    assert found is not None
    assert (found.line, found.path, found.scalar()) == (2, "a[1].b", "xé\n")
    assert [node.path for node in root.unused()] == ["a[0]", "d"]


def test_words_of_nginx() -> None:
    block = read_nginx("""a "b c" 'd\\'e' ${f}g; # h\nlog_format x '{"a": 1}'; h { i; }""")
    assert [(one.name, one.words) for one in block.children] == [
        ("a", ["b c", "d'e", "${f}g"]),
        ("log_format", ["x", '{"a": 1}']),
        ("h", []),
    ]
    assert block.children[2].children[0].name == "i"
