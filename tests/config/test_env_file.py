"""A file of variables means here what it means to `docker run --env-file`."""

import pytest

from gateway.config.env_file import EnvFile, located


def read(text: str, **environ: str) -> EnvFile:
    found = EnvFile()
    found.read(text, "prod.env", environ)
    return found


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("# A=1\n\n   # B=2\n  C=3", {"C": "3"}),
        ("A=/users/** -> users  ", {"A": "/users/** -> users  "}),  # to the end of the line
        ("A=x=y", {"A": "x=y"}),
        ("A=", {"A": ""}),
        ("A='1'", {"A": "'1'"}),  # quotes belong to the value
        ("A=1 # one", {"A": "1 # one"}),
        ("A=1\nA=2", {"A": "2"}),
        ("SET\nUNSET", {"SET": "here"}),  # a name alone
    ],
)
def test_lines_become_values(text: str, values: dict[str, str]) -> None:
    found = read(text, SET="here")
    assert (found.values, found.problems) == (values, [])


@pytest.mark.parametrize("line", ["export A=1", "A =1", "=1", "A B"])
def test_what_is_no_variable_is_told_with_its_line(line: str) -> None:
    found = read(f"X=1\n{line}\n")
    assert found.problems == ["prod.env:2: expected KEY=VALUE, without spaces around the = and without `export`"]
    assert found.values == {"X": "1"}


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("'/a -> b'", "takes the quotes off"),
        ("/a -> b # for now", "ends the value before ' #'"),
        ("https://$HOST", "puts variables in for $"),
    ],
)
def test_what_compose_reads_otherwise_is_warned_about(value: str, what: str) -> None:
    (warning,) = read(f"GATEWAY_X={value}\nOTHER={value}").warnings
    assert warning == f"prod.env:1: GATEWAY_X: compose {what}, docker does not (`format: raw` helps)"


def test_what_is_set_twice_is_warned_about_in_one_file_and_in_two() -> None:
    found = read("GATEWAY_X=1\nGATEWAY_X=2")
    found.read("GATEWAY_X=3", "more.env", {})
    assert found.warnings == [
        "prod.env:2: GATEWAY_X again: what prod.env:1 says is without effect",
        "more.env:1: GATEWAY_X again: what prod.env:2 says is without effect",
    ]
    assert (found.values, found.places) == ({"GATEWAY_X": "3"}, {"GATEWAY_X": "more.env:1"})


def test_a_text_names_the_place_of_each_variable_that_a_file_set() -> None:
    places = {"GATEWAY_A": "prod.env:3"}
    text = "GATEWAY_A and GATEWAY_B stand twice; GATEWAY_A__TIMEOUT does not"
    assert located(text, places) == "GATEWAY_A (prod.env:3) and GATEWAY_B stand twice; GATEWAY_A__TIMEOUT does not"


@pytest.mark.parametrize(
    ("environ", "taken"),
    [
        ({}, {"GATEWAY_X": "1"}),
        ({"GATEWAY_X": "2"}, {}),
        ({"GATEWAY_X": " "}, {"GATEWAY_X": "1"}),  # empty counts as not set
        ({"GATEWAY_X_FILE": "x.txt"}, {}),  # the twin says it too
        ({"GATEWAY_X_FILE": ""}, {"GATEWAY_X": "1"}),
    ],
)
def test_the_environment_lies_above_a_file(environ: dict[str, str], taken: dict[str, str]) -> None:
    found = read("GATEWAY_X=1")
    assert found.beneath(environ) == taken
    assert found.places == dict.fromkeys(taken, "prod.env:1")


def test_a_twin_in_the_file_yields_to_the_variable() -> None:
    assert read("GATEWAY_X_FILE=x.txt\nX_FILE=y").beneath({"GATEWAY_X": "1", "X": "1"}) == {"X_FILE": "y"}
