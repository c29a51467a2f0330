"""Which of the client's parameters go up beside the target's own, and how a query is shown."""

from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.queries import joined, masked_target
from gateway.upstreams.targets import parse_target


@pytest.mark.parametrize(
    ("own", "client", "up"),
    [
        ("", "", ""),
        ("a=1", "", "a=1"),
        ("", "a=1&&a=2&", "a=1&&a=2&"),
        ("public=1", "public=0", "public=1"),
        ("public=1", "id=4&public=0&public&x=1&public=", "public=1&id=4&x=1"),
        ("public=1", "%70ublic=0&p%75blic=0", "public=1"),
        ("p+q=1", "p%20q=2&p+q=3&pq=4", "p+q=1&pq=4"),
        ("p%20q=1", "p+q=3", "p%20q=1"),
        ("public=1", "Public=0&public[]=0&public%5B%5D=0&pub=0", "public=1&Public=0&public[]=0&public%5B%5D=0&pub=0"),
        ("public=1", "x=1;public=0", "public=1&x=1;public=0"),
        ("public=1", "%2570ublic=0", "public=1&%2570ublic=0"),
        ("%ff=1", "%FF=2&%fe=3", "%ff=1&%fe=3"),
        ("a&b=", "a=1&b=2&=3", "a&b=&=3"),
        ("a=1&", "&b=2", "a=1&&&b=2"),
        ("a=1", "x=a=2", "a=1&x=a=2"),
    ],
)
def test_a_parameter_of_the_targets_is_its_own_and_all_others_go_up_as_they_came(
    own: str, client: str, up: str
) -> None:
    assert joined(own, client) == up


@given(
    st.lists(st.tuples(st.text("ab%+é", min_size=1, max_size=3), st.text(max_size=3)), min_size=1),
    st.lists(st.tuples(st.text("ab%+é", max_size=3), st.text(max_size=3))),
    st.booleans(),
)
def test_a_service_reads_of_the_targets_names_what_the_target_says(
    own: list[tuple[str, str]], client: list[tuple[str, str]], spelled: bool
) -> None:
    def written(pairs: list[tuple[str, str]], *, all_escaped: bool) -> str:
        def escaped(text: str) -> str:
            return "".join(f"%{byte:02x}" for byte in text.encode()) if all_escaped else quote(text, safe="")

        return "&".join(f"{escaped(name)}={escaped(value)}" for name, value in pairs)

    read = parse_qsl(joined(written(own, all_escaped=False), written(client, all_escaped=spelled)), True)
    names = {name for name, _ in own}
    assert read == [*own, *((name, value) for name, value in client if name not in names)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("users", "users"),
        ("users:/x", "users:/x"),
        ("users:/x?", "users:/x?"),
        ("users:/x?key=s3cret", "users:/x?key=***"),
        ("users:/x?key=s3cret&id={id}&q=", "users:/x?key=***&id={id}&q="),
        ("users:/x?key=s3{id}cret", "users:/x?key=***{id}***"),
        ("users:/x?s3cret", "users:/x?***"),
        ("users:/x?{id}", "users:/x?{id}"),
        ("users:/x?a=b?c=d", "users:/x?a=***"),
        ("users:/x?key=a=b", "users:/x?key=***"),
        ("GET /q -> users:/x?key=s3cret -> more", "GET /q -> users:/x?key=***"),
        ("users:/x?key={s3cret", "users:/x?key=***"),
        ("users:/x?key=s3}cret{a}", "users:/x?key=***{a}"),
    ],
)
def test_a_target_is_shown_with_its_names_and_placeholders_and_without_what_it_sets(text: str, shown: str) -> None:
    assert masked_target(text) == shown
    assert masked_target(shown) == shown


def test_what_is_shown_of_a_target_reads_as_one() -> None:
    assert parse_target("users:/x/{id}/**?key=s3cret&u={id}").shown().text == "users:/x/{id}/**?key=***&u={id}"
