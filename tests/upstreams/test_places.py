"""Where a service is: base URLs, sources of instances and weights, as a variable has them."""

import pytest

from gateway.upstreams.places import Base, Place, Source, mask_places, parse_places, texts_of

SRV = "_http._tcp.school.service.consul"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("http://users:8000", [Base("http", "users", 8000)]),
        ("http://a/v2, https://b", [Base("http", "a", 80, "/v2"), Base("https", "b", 443)]),
        (
            "http://users:8000;weight=95 http://users-next:8000;weight=5",
            [Base("http", "users", 8000, "", 95), Base("http", "users-next", 8000, "", 5)],
        ),
        (
            "http://a/x;v=1;weight=1 http://b;weight=0",
            [Base("http", "a", 80, "/x;v=1", 1), Base("http", "b", 80, "", 0)],
        ),
        ("http://a/;v=1", [Base("http", "a", 80, "/;v=1")]),
        (f"srv+http://{SRV}", [Source("srv", "http", SRV)]),
        (f"SRV+HTTPS://{SRV.upper()}/api/", [Source("srv", "https", SRV, "/api")]),
        ("consul+http://school?tag=v2", [Source("consul", "http", "school", "", ("v2",))]),
        ("consul+https://school/x?tag=v2&tag=eu", [Source("consul", "https", "school", "/x", ("v2", "eu"))]),
        ("eureka+http://VETS-SERVICE", [Source("eureka", "http", "VETS-SERVICE")]),
        (
            "consul+http://school;weight=95 http://school-next:1;weight=5",
            [Source("consul", "http", "school", weight=95), Base("http", "school-next", 1, "", 5)],
        ),
        ("consul+http://school?tag=v2;weight=1", [Source("consul", "http", "school", "", ("v2",), 1)]),
    ],
)
def test_a_list_of_places(text: str, places: list[Place]) -> None:
    assert list(parse_places(text)) == places


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("users:8000", r"^expected a base URL that begins with http://"),
        ("http://a;weight=5 http://b", r"^item 2 of 2 has no weight; give one to each, such as ;weight=95, or none$"),
        ("http://a;weight=0", r"^every weight is 0, so nobody would be asked; one must be above$"),
        ("http://a;weight=half http://b;weight=1", r"^item 1 of 2: expected a whole number .* as its weight"),
        ("http://a;weight=-1", r"^expected a whole number"),
        ("http://a;weight=", r"^expected a whole number"),
        ("http://a;wieght=5", r"^expected a base URL with a host"),
        ("etcd+http://users", r"^there is no source etcd\+; there are srv\+http://_http\._tcp"),
        ("consul+http://school?dc=eu", r"^behind the \? of consul\+ stand tags: \?tag=v2"),
        ("eureka+http://VETS?tag=v2", r"^behind the \? of consul\+ stand tags"),
        ("consul+http://school:8500", r"^expected the name of a service, as in consul\+http://school"),
        ("srv+http://school:8500", r"^the records know the ports"),
        ("srv+http://sch ool", r"^item 2 of 2"),
        ("srv+http://", r"^expected the name of SRV records"),
        ("srv+http://-x", r"^expected the name of SRV records"),
        ("eureka+http://me:secret@VETS", r"^a source holds no user or password"),
        ("consul+http://school/..", r"^the base URL's path holds a '\.' or '\.\.' segment$"),
    ],
)
def test_what_is_no_place_is_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as failure:
        parse_places(text)
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("consul+http://school?tag=v2", "consul+http://school?tag=v2"),
        ("http://users:8000;weight=95 http://b;weight=5", "http://users:8000;weight=95 http://b;weight=5"),
        ("http://me:secret@users:8000", "http://***@users:8000"),
        ("consul+http://school?token=secret", "consul+http://school?***"),
    ],
)
def test_what_is_shown_holds_no_secret(text: str, shown: str) -> None:
    assert mask_places(text) == shown


@pytest.mark.parametrize(
    "text", ["http://a/x", "https://b:8443", "consul+http://school/x?tag=a&tag=b", f"srv+http://{SRV}"]
)
def test_a_place_is_written_as_it_was_read(text: str) -> None:
    assert texts_of(parse_places(text)) == [text]


def test_shares_are_shown_in_percent() -> None:
    places = parse_places("http://a;weight=2 eureka+http://B;weight=1 http://c;weight=0")
    assert texts_of(places) == ["http://a (66.7%)", "eureka+http://B (33.3%)", "http://c (0%)"]
