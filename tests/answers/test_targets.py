"""Answers as they are written, and redirects that stay where they were meant to lead."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answers.options import maintenance, replacement
from gateway.answers.targets import Answer, Folder, Page, parse_own, parse_replacement
from gateway.options import Refused
from gateway.upstreams.targets import Target, TargetError


@pytest.mark.parametrize("text", ["200", "403", "503", "599", "204"])
def test_a_status(text: str) -> None:
    assert parse_own(f" {text} ") == Answer(text, int(text))


@pytest.mark.parametrize("text", ["users", "users:/x", "file2", "http"])
def test_what_is_no_answer_is_an_upstream(text: str) -> None:
    assert parse_own(text) is None
    assert isinstance(parse_replacement(text), Target)


def test_folders_and_files() -> None:
    assert parse_own("file:/var/www/**") == Folder("file:/var/www/**", "/var/www", True)
    assert parse_own("file:/a b.txt") == Folder("file:/a b.txt", "/a b.txt", False)
    assert parse_own("file:/**") == Folder("file:/**", "/", True)
    assert parse_replacement("file:/srv/404.html") == Page("file:/srv/404.html", "/srv/404.html")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("100", "from 200 to 599"),
        ("600", "from 200 to 599"),
        ("301", "301 needs the URL that it leads to"),
        ("304", "304 is no answer of its own"),
        ("403 /x", "403 leads nowhere"),
        ("301 x", "is no place to go"),
        ("301 //evil.example", "is no place to go"),
        ("301 ftp://x/", "is no place to go"),
        ("301 https://{header.host}/x", "the redirect's host"),
        ("301 https://user@x/", "the redirect's host"),
        ("301 https:///x", "the redirect's host"),
        ("301 /a b", "no white space"),
        ("301 /{a", "a brace without its partner"),
        ("301 /../x", "no '.' or '..' segment"),
        ("301 /x#{id}", "a fragment holds"),
        ("301 /**/x", "stands alone and last"),
        ("file:", "a folder is written"),
    ],
)
def test_what_is_no_answer_says_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message.replace("(", r"\(")):
        parse_own(text)


def test_a_page_is_one_file() -> None:
    with pytest.raises(TargetError, match="one file stands in"):
        parse_replacement("file:/srv/**")


@pytest.mark.parametrize(
    ("member", "kind"), [("404", Answer), ("5XX", Answer), ("CONNECTION_REFUSED", Answer), ("404_BODY", str)]
)
def test_members_are_statuses_classes_and_reasons(member: str, kind: type) -> None:
    assert isinstance(replacement(member, "503"), kind)


@pytest.mark.parametrize(("member", "hint"), [("CONECTION_REFUSED", "ON_CONNECTION_REFUSED"), ("200", ""), ("XYZ", "")])
def test_other_members_are_refused_with_the_nearest(member: str, hint: str) -> None:
    with pytest.raises(Refused) as caught:
        replacement(member, "503")
    assert caught.value.hint == hint


def test_maintenance_is_a_word_or_a_path() -> None:
    assert [maintenance(text) for text in ("on", "off", "/run/closed", "./closed")] == [
        True,
        False,
        "/run/closed",
        "./closed",
    ]
    with pytest.raises(ValueError, match="on, off, or the path"):
        maintenance("yes")


RAW = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="?#{}"), max_size=20)


@given(RAW)
def test_no_rest_leads_to_another_host(rest: str) -> None:
    answer = parse_own("308 /**")
    assert isinstance(answer, Answer)
    assert answer.template is not None
    location = answer.location(answer.template.path({}, "/" + rest), "", "")
    assert urlsplit(urljoin("https://own.example/", location)).hostname == "own.example"
    assert not location.startswith(("//", "/\\"))


@given(RAW)
def test_no_rest_changes_the_host_that_is_written(rest: str) -> None:
    answer = parse_own("308 https://example.com/**")
    assert isinstance(answer, Answer)
    assert answer.template is not None
    assert urlsplit(answer.location(answer.template.path({}, "/" + rest), "", "")).hostname == "example.com"
