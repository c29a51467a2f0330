"""Words of the environment become values, and back."""

import re
from collections.abc import Callable
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import units

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0.0),
        ("500ms", 0.5),
        ("1100ms", 1.1),
        ("1.5s", 1.5),
        ("60s", 60.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("8760h", 31536000.0),
    ],
)
def test_a_duration_has_a_unit(text: str, seconds: float) -> None:
    assert units.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "5 s", "-1s", "1e3s", "1w", "5S", "1m30s", ".5s", "٣s", "inf", "nan", "26281h", "1096d"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        units.duration(text)


@pytest.mark.parametrize("text", ["0", "30", "1.5"])
def test_a_bare_number_is_no_duration_and_the_message_says_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"needs its unit, such as 500ms, 60s.*bare number"):
        units.duration(text)


@pytest.mark.parametrize("text", ["0s", "0ms"])
def test_a_timeout_is_longer_than_zero(text: str) -> None:
    with pytest.raises(ValueError, match="longer than zero"):
        units.positive_duration(text)


def test_a_worker_needs_a_moment_for_a_sign_of_life() -> None:
    assert (units.seconds_or_more("1s"), units.seconds_or_more("1500ms")) == (1.0, 1.5)
    for text in ("0s", "999ms"):
        with pytest.raises(ValueError, match="expected a duration of at least 1s"):
            units.seconds_or_more(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.8, "800ms"),
        (1.5, "1500ms"),
        (60, "60s"),
        (90, "90s"),
        (300, "5m"),
        (3600, "1h"),
        (7200, "2h"),
        (86_400, "1d"),
        (365 * 86_400, "365d"),
        (0.0005, "0.0005s"),
    ],
)
def test_seconds_are_written_in_the_unit_that_reads_best(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_what_is_no_length_of_time_is_not_written(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        units.format_duration(seconds)


@given(st.integers(0, 31_536_000_000))
def test_milliseconds_survive_writing_and_reading(milliseconds: int) -> None:
    assert units.duration(units.format_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("text", "count"),
    [("0B", 0), ("1B", 1), ("64KiB", 65536), ("10MiB", 10485760), ("1GiB", 2**30), ("2kB", 2000), ("1MB", 10**6)],
)
def test_a_size_has_a_unit(text: str, count: int) -> None:
    assert units.size(text) == count


@pytest.mark.parametrize("text", ["", "KiB", "1.5MiB", "-1B", "10 MiB", "64kib", "64KB", "64K", "64Mi"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size, such as 0B, 64KiB"):
        units.size(text)


def test_a_bare_number_is_no_size_and_the_message_says_so() -> None:
    with pytest.raises(ValueError, match=r"needs its unit.*bare number"):
        units.size("65536")
    with pytest.raises(ValueError, match="above zero"):
        units.positive_size("0B")


@given(st.integers(0, 10**12))
def test_sizes_survive_writing_and_reading(count: int) -> None:
    assert units.size(units.format_size(count)) == count


def test_a_size_is_written_in_the_largest_unit_that_divides_it() -> None:
    sizes = [0, 1, 1024, 1025, 10 * 2**20, 2**30]
    assert [units.format_size(count) for count in sizes] == ["0B", "1B", "1KiB", "1025B", "10MiB", "1GiB"]
    with pytest.raises(ValueError, match="not negative"):
        units.format_size(-1)


@pytest.mark.parametrize(
    ("text", "count"), [("100B/s", 100), ("1KiB/s", 1024), ("2kB/s", 2000), ("1GiB/s", 2**30), ("0B/s", 0), ("0B", 0)]
)
def test_a_rate_is_a_size_a_second(text: str, count: int) -> None:
    assert units.rate(text) == count


@pytest.mark.parametrize(
    "text", ["", "/s", "100/s", "100B/m", "100B/", "100B/S", "100 B/s", "100B /s", "1B/s/s", "-1B/s"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"size a second|needs its unit"):
        units.rate(text)


def test_a_bare_size_is_no_rate_and_the_message_says_so() -> None:
    with pytest.raises(ValueError, match="a bare size"):
        units.rate("100B")


def test_a_percentage_needs_its_sign() -> None:
    assert units.percentage("20%") == 0.2
    assert units.percentage("0.5%") == 0.005
    assert units.percentage("100%") == 1.0
    with pytest.raises(ValueError, match="needs its %"):
        units.percentage("20")
    for text in ("101%", "-1%", "", "%", "a%"):
        with pytest.raises(ValueError, match="from 0% to 100%"):
            units.percentage(text)


def test_a_whole_number_keeps_its_bounds() -> None:
    assert units.whole("0") == 0
    assert units.whole("16", least=1, most=16) == 16
    for text in ("-1", "1.0", "", "٣", "9" * 5000, "0x10", "1_000"):
        with pytest.raises(ValueError, match="a whole number from 0"):
            units.whole(text)
    with pytest.raises(ValueError, match="from 1 to 16"):
        units.whole("17", least=1, most=16)


def test_a_choice_names_its_words() -> None:
    assert units.choice("on", ("on", "off")) == "on"
    with pytest.raises(ValueError, match="expected on or off"):
        units.choice("true", ("on", "off"))


@pytest.mark.parametrize("text", ["a,b", "a b", "a, b", " a ,\n b ,", "a\tb"])
def test_a_list_takes_commas_or_white_space(text: str) -> None:
    assert units.items(text) == ("a", "b")


def test_a_list_is_never_json() -> None:
    with pytest.raises(ValueError, match="never as JSON"):
        units.items('["a", "b"]')
    with pytest.raises(ValueError, match="at least one"):
        units.items(" , ")


def test_a_list_says_which_item_is_wrong() -> None:
    with pytest.raises(ValueError, match="item 2 of 3: expected a whole number"):
        units.items_of("1,x,3", units.whole)
    with pytest.raises(ValueError, match=r"^expected a whole number"):
        units.items_of("x", units.whole)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("http://users", ("http", "users", 80, "")),
        ("http://users:8000", ("http", "users", 8000, "")),
        ("HTTPS://Users.Example.COM/", ("https", "users.example.com", 443, "")),
        ("http://my_service:8000/api/v1/", ("http", "my_service", 8000, "/api/v1")),
        ("http://10.0.0.1:80/a%2Fb;x", ("http", "10.0.0.1", 80, "/a%2Fb;x")),
        ("https://[2001:DB8::1]:8443/p", ("https", "2001:db8::1", 8443, "/p")),
        ("http://[::1]", ("http", "::1", 80, "")),
        ("http://h/@scope", ("http", "h", 80, "/@scope")),
    ],
)
def test_a_base_url_is_a_scheme_a_host_a_port_and_a_prefix(text: str, parts: units.UrlParts) -> None:
    assert units.base_url(text) == parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("users:8000", "begins with http"),
        ("ftp://users", "begins with http"),
        ("http:/users", "begins with http"),
        ("http://", "a base URL with a host"),
        ("http://:8000", "a base URL with a host"),
        ("http://users:", "a base URL with a host"),
        ("http://users:0", "a port from 1 to 65535"),
        ("http://users:65536", "a port from 1 to 65535"),
        ("http://users:http", "a base URL with a host"),
        ("http://-users-", "neither a name nor an address"),
        ("http://us ers", "neither a name nor an address"),
        ("http://bücher", "neither a name nor an address"),
        ("http://1.2.3", "neither a name nor an address"),
        ("http://8000", "neither a name nor an address"),
        ("http://[::1", "a base URL with a host"),
        ("http://[1::2::3]", "neither a name nor an address"),
        ("http://::1", "a base URL with a host"),
        ("http://user:secret@users", "no user or password; .* __HEADER_AUTHORIZATION_FILE"),
        ("http://users?x=1", "no query"),
        ("http://users/#x", "no query and no fragment"),
        ("http://users/a b", "percent-encoded"),
        ("http://users/a\r\nb", "percent-encoded"),
        ("http://users/%zz", "percent-encoded"),
        ("http://users/a/../b", "'.' or '..' segment"),
        ("http://users/a/%2E%2e", "'.' or '..' segment"),
        ("http://" + "a" * 64, "neither a name nor an address"),
        ("http://" + "a." * 130, "neither a name nor an address"),
    ],
)
def test_what_is_no_base_url_is_refused_with_its_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        units.base_url(text)
    assert "secret" not in str(caught.value)


def test_an_authority_leaves_the_default_port_out() -> None:
    assert units.authority_of("http", "users", 80) == "users"
    assert units.authority_of("https", "users", 80) == "users:80"
    assert units.authority_of("http", "::1", 8000) == "[::1]:8000"


def test_a_bind_is_an_address_and_a_port() -> None:
    assert units.bind("127.0.0.1:8000") == ("127.0.0.1", 8000)
    assert units.bind("[::]:8000") == ("::", 8000)
    assert units.bind("localhost:80") == ("localhost", 80)


@pytest.mark.parametrize(
    "text", ["8000", ":8000", "127.0.0.1", "::1:8000", "0.0.0.0:0", "0.0.0.0:99999", "256.0.0.1:80"]
)
def test_what_is_no_bind_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("such as 127.0.0.1:8000, 0.0.0.0:8000 or [::]:8000")):
        units.bind(text)


def test_a_network_may_be_one_address() -> None:
    assert units.network("10.0.0.0/8") == ip_network("10.0.0.0/8")
    assert units.network("10.0.0.1") == ip_network("10.0.0.1/32")
    assert units.network("fd00::/8") == ip_network("fd00::/8")


def test_a_network_with_host_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="bits set beyond its mask"):
        units.network("10.1.0.1/8")
    for text in ("private", "10.0.0", "10.0.0.0/33", "*"):
        with pytest.raises(ValueError, match="expected IP networks"):
            units.network(text)


def test_an_origin_is_what_a_browser_sends() -> None:
    assert units.origin("HTTPS://App.example.com:443") == "https://app.example.com"
    assert units.origin("http://localhost:3000") == "http://localhost:3000"
    assert units.origin("http://[::1]:3000") == "http://[::1]:3000"
    assert units.origin("*") == "*"


@pytest.mark.parametrize(
    "text", ["app.example.com", "https://a/", "https://a/b", "https://a?x", "https://u:p@a", "null"]
)
def test_an_origin_has_no_path_and_no_user(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected an origin, such as https://app\.example\.com"):
        units.origin(text)


def test_the_star_stands_alone_among_origins() -> None:
    assert units.origins("https://a, https://b") == ("https://a", "https://b")
    with pytest.raises(ValueError, match="stands alone"):
        units.origins("*,https://a")


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///portway.sqlite3",
        "sqlite:////var/lib/portway/db.sqlite3",
        "postgresql://user:p%40ss@db:5432/portway",
        "postgresql://db/portway?sslmode=require",
        "postgresql://user@[::1]:5432/portway",
    ],
)
def test_a_database_url_is_sqlite_or_postgresql(text: str) -> None:
    assert units.database_url(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "portway.sqlite3",
        "sqlite://x",
        "sqlite:///",
        "mysql://db/x",
        "postgresql:///x",
        "postgresql://db",
        "postgresql://db/",
    ],
)
def test_other_databases_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected sqlite:///file"):
        units.database_url(text)


def test_names_and_modules_are_spelled_as_python_and_the_environment_have_them() -> None:
    assert units.name("users_v2") == "users_v2"
    assert units.dotted("team.routes") == "team.routes"
    for text in ("Users", "2fa", "a__b", "a_", "x_file", "file", ""):
        with pytest.raises(ValueError, match="a name in lower case"):
            units.name(text)
    for text in ("routes.py/", "team/routes", "", "a..b", "a-b"):
        with pytest.raises(ValueError, match="dotted path"):
            units.dotted(text)


def test_a_set_is_a_list_in_which_order_and_repetition_mean_nothing() -> None:
    assert units.set_of("3,1 2,1", int) == units.set_of("1 2 3", int) == frozenset({1, 2, 3})
    with pytest.raises(ValueError, match=r"item 2 of 2: invalid literal"):
        units.set_of("1,x", int)
    with pytest.raises(ValueError, match="at least one item"):
        units.set_of(" , ", int)


def test_a_header_name_is_a_token_in_lower_case() -> None:
    assert units.field_name("X-Tenant") == "x-tenant"
    for text in ("", "x tenant", "x:y", "ü"):
        with pytest.raises(ValueError, match="the name of a header field"):
            units.field_name(text)


def test_a_header_value_is_utf_8_that_prints() -> None:
    assert units.field_value("Bearer abc") == "Bearer abc"
    assert units.field_value("a\tbü") == "a\tbü"
    for text in ("a\r\nb", "a\nb", "a\0b", "\x1b[31m", "\x7f", "\x85"):
        with pytest.raises(ValueError, match="no line breaks, no NUL"):
            units.field_value(text)
    with pytest.raises(ValueError, match="UTF-8"):
        units.field_value(b"\xff".decode("utf-8", "surrogateescape"))


def test_a_lone_dash_deletes_a_field() -> None:
    assert units.field_change("-") is None
    assert units.field_change("--") == "--"


def test_pem_is_the_text_itself() -> None:
    assert units.pem_certificate(f"\n{CERTIFICATE}\n\n") == CERTIFICATE + "\n"
    assert units.pem_key(KEY) == KEY + "\n"
    assert units.pem_key(KEY.replace("PRIVATE", "RSA PRIVATE"))
    with pytest.raises(ValueError, match="a path belongs into the variable's _FILE twin"):
        units.pem_certificate("/etc/ssl/ca.pem")
    with pytest.raises(ValueError, match="PRIVATE KEY block"):
        units.pem_key(CERTIFICATE)


@pytest.mark.parametrize(
    "marker", ["BEGIN ENCRYPTED PRIVATE KEY", "BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"]
)
def test_a_key_behind_a_passphrase_is_refused(marker: str) -> None:
    end = "ENCRYPTED " if "BEGIN ENC" in marker else "RSA "
    with pytest.raises(ValueError, match="without a passphrase"):
        units.pem_key(f"-----{marker}-----\nMIIE\n-----END {end}PRIVATE KEY-----")


def test_json_is_json() -> None:
    assert units.json_text(' {"a": [1, 1.10]} ') == b'{"a": [1, 1.10]}'
    for text in ("", "{a}", "NaN", "[" * 100_000, "9" * 5000):
        with pytest.raises(ValueError, match="expected JSON"):
            units.json_text(text)


def test_a_secret_word_prints_and_has_no_white_space() -> None:
    assert units.printable("s3cr3t") == "s3cr3t"
    for text in ("", "two words", "ü", "a\n"):
        with pytest.raises(ValueError, match="without white space"):
            units.printable(text)


@pytest.mark.parametrize(
    ("mask", "text", "shown"),
    [
        (units.mask_all, "anything", "***"),
        (units.mask_all, "-", "-"),
        (units.mask_user_info, "/@{user} -> users", "/@{user} -> users"),
        (units.mask_user_info, "http://u:p@ss@users/x", "http://***@users/x"),
        (units.mask_user_info, "http://u:p\n@users", "http://***@users"),
        (units.mask_url, "http://users:8000/a", "http://users:8000/a"),
        (units.mask_url, "postgresql://u:p@db/x?password=p", "postgresql://***@db/x?***"),
        (units.mask_url, "http:/u:p@users", "***@users"),
        (units.mask_url, "http://a,http://u:p@b", "http://***@b"),
    ],
)
def test_a_mask_hides_credentials(mask: Callable[[str], str], text: str, shown: str) -> None:
    assert mask(text) == shown


PARSERS: list[Callable[[str], object]] = [
    units.duration,
    units.size,
    units.percentage,
    units.whole,
    units.items,
    units.base_url,
    units.origins,
    units.bind,
    units.network,
    units.database_url,
    units.name,
    units.dotted,
    units.field_name,
    units.field_value,
    units.pem_certificate,
    units.pem_key,
    units.json_text,
    units.printable,
]


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.text() | st.from_regex(r"(https?|postgresql|sqlite)://[^\s]*", fullmatch=True))
def test_a_parser_returns_a_value_or_raises_value_error(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017  hypothesis decides whether it raises


@pytest.mark.parametrize("parse", PARSERS)
def test_a_message_never_quotes_the_text(parse: Callable[[str], object]) -> None:
    for text in ("\x00hunter2\n", "http://hunter2:hunter2@[hunter2", "[hunter2"):
        try:
            parse(text)
        except ValueError as error:
            assert "hunter2" not in str(error)  # noqa: PT017  not every parser refuses every text
