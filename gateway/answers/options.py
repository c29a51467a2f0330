"""The options of answers of the gateway's own."""

import re

from gateway.answers.targets import Answer, Page, parse_replacement
from gateway.errors import Reason
from gateway.http.queries import masked_line
from gateway.options import LEVELS, ON, Option, Refused, Unit, matching, nearest
from gateway.upstreams.targets import Target

Replacement = Answer | Page | Target | str  # a text is the body for another one

_STATUS = re.compile(r"[345][0-9]{2}|[345]xx")
_WORDS = frozenset(reason.word for reason in Reason)
BODY_SUFFIX = "_BODY".lower()  # in the form of members of open options

TEXT = Unit("text", str, mask=lambda text: f"{len(text)} characters")
MEDIA = matching(
    "media type", r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(?:; ?[ -~]+)?", "a media type, such as text/plain"
)
ANSWER = Unit("answer", parse_replacement, mask=masked_line)


def replacement(member: str, text: str) -> Replacement:
    """The value of ON_<member>: the replacement, or, for ON_<member>_BODY, its body. Raises ValueError."""
    member = member.lower()
    word = member.removesuffix(BODY_SUFFIX)
    if not _STATUS.fullmatch(word) and word not in _WORDS:
        near = nearest(word, _WORDS)
        raise Refused(
            "expected a status (404), a class (4XX, 5XX) or a reason of docs/errors.md", near and f"ON_{near.upper()}"
        )
    return text if word != member else parse_replacement(text)


def maintenance(text: str) -> bool | str:
    """`on`, `off`, or the path of a file: while it exists, routes are closed."""
    if text in {"on", "off"}:
        return text == "on"
    if "/" not in text:
        raise ValueError("expected on, off, or the path of a file with a slash in it, such as /run/portway/maintenance")
    return text


# fmt: off
OF_ROUTE: tuple[Option, ...] = (
    # families, name, unit, default, example, sentence
    Option("route", "BODY", TEXT, "", "User-agent: *", "The body of a route that is a status: `-> 200`."),
    Option("route", "TYPE", MEDIA, "", "text/plain", "The Content-Type of that body; unset, text/plain in UTF-8.",
           "media_type"),
    Option(LEVELS, "ON_*", ANSWER, "", "302 /login?next={url}",
           "The response to send for a status (`ON_404`, `ON_5XX`) or reason: status, page or upstream; `ON_5XX_BODY`.",
           "on", by_member=replacement, members=r"[3-5][0-9]{2}(_BODY)?|[3-5]XX(_BODY)?|[A-Z]+(_[A-Z0-9]+)*"),
    Option(LEVELS, "MAINTENANCE", Unit("on|off|path", maintenance), "off", "/run/portway/maintenance",
           "Returns 503 with Retry-After: `on`, or while this file exists; `/-/ready` stays 200."),
    Option(LEVELS, "COMPRESS", ON, "off", "on",
           "Compresses uncoded text of 1 KiB or more by gzip or zstd, as the client accepts; mind the BREACH attack."),
)
# fmt: on
