"""Words of the environment become values, and back: durations, sizes, lists, addresses, field values.

A parser takes text without white space around it and returns a value, or raises ValueError with a message that says
what was expected. A message never quotes the text: it ends up in logs and terminals, and the text may be a secret that
stands in the wrong variable, or the content of a file. To show a text, put it through a mask first.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeVar

ItemT = TypeVar("ItemT")
Network = IPv4Network | IPv6Network
UrlParts = tuple[str, str, int, str]  # scheme, host without brackets, port, raw prefix without its trailing slash

DEFAULT_PORTS = {"http": 80, "https": 443}

_NUMBER = r"[0-9]{1,12}"
_DURATION = re.compile(rf"({_NUMBER}(?:\.[0-9]{{1,9}})?)(ms|s|m|h|d)?")
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86_400)}
_LONGEST_S = 3 * 365 * 86_400.0  # anything longer is a typing mistake, and overflows the timers of some platforms
_SIZE = re.compile(rf"({_NUMBER})(B|kB|MB|GB|KiB|MiB|GiB)?")
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_PERCENTAGE = re.compile(rf"({_NUMBER}(?:\.[0-9]{{1,9}})?)(%)?")

_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_POSTGRESQL = re.compile(r"postgresql://(?:[^/?#]*@)?([^/?#@]+)/[^/?#\s]+(?:\?[^#\s]*)?")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?")
# Names as in RFC 1123, and with the underscore that compose files allow.
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*\.?")
# RFC 3986, section 3.3: path-abempty, without the comma, which separates one base URL from the next.
_PREFIX = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+;=:@-]|%[0-9A-Fa-f]{2})*)*")
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE)

TCHARS = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2: a token
NAME_PATTERN = r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*"  # of an upstream, a limit, a way of authentication
# C0 except the tab, DEL, C1: none of them prints, and CR, LF and NUL end or break a field line (RFC 9110, section 5.5).
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
PEM_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
PEM_KEY = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----(.+?)-----END \1PRIVATE KEY-----", re.DOTALL)

_USER_INFO = re.compile(r"(?<=://).*@", re.DOTALL)
_SECRET_OF_URL = re.compile(r"(?:(?<=://)|^(?!.*://)).*@", re.DOTALL)
_QUERY = re.compile(r"\?.*", re.DOTALL)


def as_text(value: object, example: str) -> str:
    """A text as it is. Raises ValueError for a value given in Python that is no text."""
    if not isinstance(value, str):
        raise ValueError(f"expected a text such as {example!r}, not {value!r}")
    return value


# -- quantities ---------------------------------------------------------------------------------------------------


def duration(text: str) -> float:
    """`500ms`, `60s`, `5m`, `1h`, `365d`, `1.5s` -> seconds."""
    match = _DURATION.fullmatch(as_text(text, "300ms"))
    if match is None:
        raise ValueError("expected a duration, such as 500ms, 60s, 5m or 1h")
    if match[2] is None:
        raise ValueError("a duration needs its unit, such as 500ms, 60s, 5m or 1h; a bare number says none")
    # Decimal, because 1100 * 0.001 is no longer 1.1 in floats.
    seconds = float(Decimal(match[1]) * _SECONDS[match[2]])
    if seconds > _LONGEST_S:
        raise ValueError("expected a duration of at most 1095d, three years")
    return seconds


def positive_duration(text: str) -> float:
    """A duration above zero -> seconds."""
    seconds = duration(text)
    if seconds <= 0:
        raise ValueError("expected a duration longer than zero, such as 500ms, 60s, 5m or 1h")
    return seconds


def seconds_or_more(text: str) -> float:
    """A duration of at least one second -> seconds."""
    seconds = duration(text)
    if seconds < 1:
        raise ValueError("expected a duration of at least 1s, such as 30s or 2m")
    return seconds


def format_duration(seconds: float) -> str:
    """Seconds, finite and not negative -> the text that `duration` reads, to the nanosecond: 0.8 -> `800ms`."""
    if not 0 <= seconds < math.inf:
        raise ValueError("expected seconds that are finite and not negative")
    if seconds == int(seconds):
        for unit, length, least in (
            ("d", 86_400, 86_400),
            ("h", 3600, 3600),
            ("m", 60, 120),
        ):  # 60s reads better than 1m
            if seconds >= least and seconds % length == 0:
                return f"{int(seconds) // length}{unit}"
        return f"{int(seconds)}s"
    milliseconds = round(seconds * 1000)
    if milliseconds / 1000 == seconds:
        return f"{milliseconds}ms"
    return f"{seconds:.9f}".rstrip("0") + "s"


def size(text: str) -> int:
    """`0B`, `64KiB`, `10MiB`, `1GiB`, and decimal `kB`, `MB`, `GB` -> bytes."""
    match = _SIZE.fullmatch(as_text(text, "10MiB"))
    if match is None:
        raise ValueError("expected a size, such as 0B, 64KiB, 10MiB or 1GiB (also kB, MB, GB)")
    if match[2] is None:
        raise ValueError("a size needs its unit, such as 0B, 64KiB, 10MiB or 1GiB; a bare number says none")
    return int(match[1]) * _BYTES[match[2]]


def positive_size(text: str) -> int:
    """A size of at least one byte -> bytes."""
    count = size(text)
    if count == 0:
        raise ValueError("expected a size above zero, such as 64KiB or 10MiB")
    return count


def format_size(count: int) -> str:
    """Bytes, not negative -> the text that `size` reads, in the largest binary unit that divides them: `64KiB`."""
    if count < 0:
        raise ValueError("expected bytes that are not negative")
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return f"{count}B"


def rate(text: str) -> int:
    """`100B/s`, `1KiB/s`: a size per second -> bytes per second; zero is `0B` or `0B/s`."""
    amount, slash, _ = text.partition("/")
    if _SIZE.fullmatch(amount) is None or text not in {amount, amount + "/s"}:
        raise ValueError("expected a size a second, such as 100B/s, 64KiB/s or 1MiB/s")
    count = size(amount)
    if count and not slash:
        raise ValueError("a rate is a size a second, such as 100B/s; a bare size says of which time")
    return count


def percentage(text: str) -> float:
    """`20%`, from 0% to 100% -> a fraction of one."""
    match = _PERCENTAGE.fullmatch(text)
    if match is None:
        raise ValueError("expected a percentage from 0% to 100%, such as 20%")
    if match[2] is None:
        raise ValueError("a percentage needs its %, such as 20%")
    fraction = Decimal(match[1]) / 100
    if fraction > 1:
        raise ValueError("expected a percentage from 0% to 100%")
    return float(fraction)


def whole(text: str, least: int = 0, most: int = 10**9) -> int:
    """A whole number from `least` to `most`."""
    value = int(text) if re.fullmatch(_NUMBER, text) else -1
    if not least <= value <= most:
        bound = f"from {least}" if most == 10**9 else f"from {least} to {most}"
        raise ValueError(f"expected a whole number {bound}")
    return value


# -- words --------------------------------------------------------------------------------------------------------


def choice(text: str, words: Sequence[str]) -> str:
    """One of `words`, spelled as it is."""
    if text not in words:
        raise ValueError(f"expected {' or '.join(words)}")
    return text


def items(text: str) -> tuple[str, ...]:
    """`a, b c` -> ('a', 'b', 'c'): separated by commas or white space, at least one."""
    if text.startswith("["):
        raise ValueError("a list is written with commas or spaces, never as JSON: one, two")
    found = tuple(word for word in re.split(r"[\s,]+", text) if word)
    if not found:
        raise ValueError("expected a list with at least one item, separated by commas or spaces")
    return found


def items_of(text: str, parse: Callable[[str], ItemT]) -> tuple[ItemT, ...]:
    """A list with every item parsed by `parse`; the message names the item that was wrong."""
    words = items(text)
    values: list[ItemT] = []
    for number, word in enumerate(words, start=1):
        try:
            values.append(parse(word))
        except ValueError as error:
            raise ValueError(f"item {number} of {len(words)}: {error}" if len(words) > 1 else str(error)) from None
    return tuple(values)


def set_of(text: str, parse: Callable[[str], ItemT]) -> frozenset[ItemT]:
    """As `items_of`, where order and repetition do not matter."""
    return frozenset(items_of(text, parse))


def name(text: str) -> str:
    """A name in the environment, in the lower case in which it is referred to."""
    if not re.fullmatch(NAME_PATTERN, as_text(text, "users")) or text.endswith("_file") or text == "file":
        raise ValueError("expected a name in lower case, such as users or user_orders")
    return text


def passing_names(text: str) -> tuple[str, ...]:
    """A list of names of any spelling; `*` is all, a lone `-` none: an empty tuple."""
    return () if text == "-" else items(text)


def dotted(text: str) -> str:
    """A Python module's path, such as `routes` or `site.routes`."""
    if not all(part.isidentifier() for part in text.split(".")):
        raise ValueError("expected the dotted path of a Python module, such as routes or team.routes")
    return text


def apps(text: str) -> tuple[str, ...]:
    """Django apps by the paths of their packages, or of their AppConfig classes; each once."""
    found = items_of(text, dotted)
    for name in found:
        if name == "gateway":
            raise ValueError("the app gateway is always there; name your own")
        if found.count(name) > 1:
            raise ValueError(f"the app {name} stands twice")
    return found


def function_path(text: str) -> str:
    """A Python function's path, such as `reports.build`."""
    if "." not in text or not all(part.isidentifier() for part in text.split(".")):
        raise ValueError("expected the dotted path of a Python function, such as reports.build")
    return text


def matching(text: str, pattern: str, expected: str) -> str:
    """A text that matches the whole `pattern`; `expected` describes it in words."""
    if not re.fullmatch(pattern, text):
        raise ValueError(f"expected {expected}")
    return text


def printable(text: str) -> str:
    """A secret word: ASCII that prints, without white space, so that it can stand in an Authorization field."""
    if not text or not all(33 <= ord(character) <= 126 for character in text):
        raise ValueError("expected printable ASCII without white space")
    return text


def json_text(text: str) -> bytes:
    """JSON as RFC 8259 has it (no NaN, no Infinity) -> the same, in UTF-8."""
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ValueError('expected JSON, such as null, [], {"name": "?"} or "text" with its quotes') from None
    return text.strip().encode()


def member_name(text: str) -> str:
    """The name of a member of a JSON object, as it would stand there without an escape."""
    if any(character in '"\\' or character < " " or "\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("expected the name of a JSON member, without quotes, backslashes and control characters")
    return text


def _refuse_constant(_: str) -> object:
    raise ValueError


def pem_certificate(text: str) -> str:
    """One or more certificates in PEM -> the same, ending in a newline."""
    if not PEM_CERTIFICATE.search(text):
        raise ValueError("expected PEM text with a CERTIFICATE block; a path belongs into the variable's _FILE twin")
    return text.strip() + "\n"


def pem_key(text: str) -> str:
    """A private key in PEM that no passphrase guards -> the same, ending in a newline."""
    match = PEM_KEY.search(text)
    if match is None:
        raise ValueError("expected PEM text with a PRIVATE KEY block; a path belongs into the variable's _FILE twin")
    if "ENCRYPTED" in match[1] or "ENCRYPTED" in match[2]:
        raise ValueError("expected a private key without a passphrase; the gateway has nobody to ask for it")
    return text.strip() + "\n"


# -- addresses ----------------------------------------------------------------------------------------------------


def base_url(text: str) -> UrlParts:
    """`http[s]://host[:port][/prefix]` -> (scheme, host without brackets, port, raw prefix without trailing slash)."""
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError("expected a base URL that begins with http:// or https://, such as http://users:8000")
    scheme, authority, path, tail = match[1].lower(), match[2], match[3], match[4]
    if "@" in authority:
        raise ValueError("a base URL holds no user or password; set them by __HEADER_AUTHORIZATION_FILE")
    if tail:
        raise ValueError("a base URL holds no query and no fragment; a route's target may have a query")
    host, port = _host_port(authority, DEFAULT_PORTS[scheme], "a base URL with a host, such as http://users:8000")
    if not _PREFIX.fullmatch(path):
        raise ValueError("the base URL's path holds characters that must be percent-encoded")
    if _DOT_SEGMENT.search(path):
        raise ValueError("the base URL's path holds a '.' or '..' segment")
    return scheme, host, port, path.rstrip("/")


def origin(text: str) -> str:
    """`https://host[:port]` as browsers send it in Origin (RFC 6454, section 7), `https://*.example.com`, or `*`."""
    if text == "*":
        return text
    expected = "expected an origin, such as https://app.example.com or http://localhost:3000, or *"
    match = _URL.fullmatch(text)
    if match is None or match[3] or match[4] or "@" in match[2]:
        raise ValueError(f"{expected}; it has no path, not even a slash")
    scheme = match[1].lower()
    any_below = "*." if match[2].startswith("*.") else ""
    authority = match[2].removeprefix("*.")
    host, port = _host_port(authority, DEFAULT_PORTS[scheme], expected.removeprefix("expected "))
    if any_below and ("." not in host or host.replace(".", "").isdigit() or ":" in host):
        raise ValueError(f"{expected}; `*.` stands before a domain of a team's own, as in https://*.example.com")
    return f"{scheme}://{any_below}{authority_of(scheme, host, port)}"


def origins(text: str) -> tuple[str, ...]:
    """A list of origins; `*` stands alone."""
    found = items_of(text, origin)
    if "*" in found and len(found) > 1:
        raise ValueError("* already means every origin; it stands alone")
    return found


def authority_of(scheme: str, host: str, port: int) -> str:
    """`users:8000`, `[::1]:8000`, and `users` alone where the port is the scheme's own."""
    shown = f"[{host}]" if ":" in host else host
    return shown if DEFAULT_PORTS.get(scheme) == port else f"{shown}:{port}"


def bind(text: str) -> tuple[str, int]:
    """`127.0.0.1:8000`, `[::]:8000`, `localhost:8000` -> (host without brackets, port)."""
    return _host_port(text, None, "an address and a port, such as 127.0.0.1:8000, 0.0.0.0:8000 or [::]:8000")


def network(text: str) -> Network:
    """`10.0.0.0/8`, `fd00::/8`, or one address, which is a network of itself."""
    try:
        return ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(
                "the address has bits set beyond its mask; 10.0.0.0/8 is a network, 10.0.0.1/8 is not"
            ) from None
        raise ValueError("expected IP networks, such as 10.0.0.0/8, 192.168.1.7 or fd00::/8") from None


def database_url(text: str) -> str:
    """`sqlite:///relative`, `sqlite:////absolute` or `postgresql://user:password@host:port/database`, as it is."""
    expected = "sqlite:///file, sqlite:////absolute/file or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    sqlite = text.startswith("sqlite:///") and text.strip("/") != "sqlite:" and not _UNPRINTABLE.search(text)
    if sqlite and not {"?", "#"} & set(text):
        return text
    match = _POSTGRESQL.fullmatch(text)
    if match is None:
        raise ValueError(f"expected {expected}; write /, ? and # in a password percent-encoded")
    _host_port(match[1], 5432, expected)
    return text


def _host_port(text: str, default_port: int | None, expected: str) -> tuple[str, int]:
    match = _AUTHORITY.fullmatch(text)
    if match is None or (match[2] is None and default_port is None):
        raise ValueError(f"expected {expected}")
    port = int(match[2]) if match[2] else default_port
    if port is None or not 1 <= port <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, as in {expected}")
    try:
        return _host(match[1].lower()), port
    except ValueError:
        raise ValueError(f"expected {expected}; the host is neither a name nor an address") from None


def host_name(text: str) -> str:
    """A name of DNS, in lower case; labels may begin with an underscore, as those of SRV records do."""
    text = text.lower()
    if not _HOST.fullmatch(text) or len(text) > 253:
        raise ValueError("expected a host name")
    return text


def _host(text: str) -> str:
    if text.startswith("["):
        return str(IPv6Address(text[1:-1]))
    # RFC 1123, section 2.1: a name's last label is not numeric, so one that ends in digits is an address or a mistake.
    if text.rpartition(".")[2].isdigit():
        return str(IPv4Address(text))
    return host_name(text)


# -- header fields ------------------------------------------------------------------------------------------------


def field_name(text: str) -> str:
    """A header field's name -> the same in lower case."""
    if not re.fullmatch(TCHARS, text):
        raise ValueError("expected the name of a header field, such as x-tenant")
    return text.lower()


def field_value(text: str) -> str:
    """A header field's value: UTF-8 that prints."""
    if _UNPRINTABLE.search(text):
        raise ValueError("expected a header value that prints: no line breaks, no NUL, no control characters")
    if any("\ud800" <= character <= "\udfff" for character in text):  # bytes that were not UTF-8 (PEP 383)
        raise ValueError("expected a header value in UTF-8")
    return text


def field_change(text: str) -> str | None:
    """What to do with a field: the value it gets, or None where a lone `-` deletes it."""
    return None if text == "-" else field_value(text)


# -- masks --------------------------------------------------------------------------------------------------------


def mask_user_info(text: str) -> str:
    """The text without what stands between `://` and the last `@`."""
    return _USER_INFO.sub("***@", text)


def mask_url(text: str) -> str:
    """A URL without its user, password and query, also where it is malformed; too much goes rather than too little."""
    return _QUERY.sub("?***", _SECRET_OF_URL.sub("***@", text, count=1))


def mask_all(text: str) -> str:
    """`***`; a lone `-`, which deletes a field, is no secret."""
    return text if text == "-" else "***"
