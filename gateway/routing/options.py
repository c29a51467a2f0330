"""The options of a route that say which requests it takes."""

from functools import partial

from gateway import units
from gateway.http.queries import masked_line
from gateway.options import DURATION, LEVELS, ON, ORIGINS, Option, Unit, either, list_of
from gateway.routing.conditions import parse_when
from gateway.routing.patterns import parse_line


def middleware_path(text: str) -> str:
    """The dotted path of a middleware. Raises ValueError."""
    if "." not in text or not all(part.isidentifier() for part in text.split(".")):
        raise ValueError("expected the dotted path of a class or function, such as team.middleware.Tenant")
    return text


METHODS = list_of("list of methods", partial(units.matching, pattern=r"[A-Z][A-Z-]*", expected="upper-case methods"))
LINE = Unit("route", parse_line, mask=masked_line)

# fmt: off
# families, name, unit, default, example, sentence
ROUTE = Option("route", "", LINE, "", "GET,HEAD api.example.com/u/{id} -> users:/users/{id}",
               "`[METHOD,...] [host]/path ... -> upstream[:/path]`; `{name}`, `{n:int}` take one segment, `/**` all.",
               "line")
CASE = Option(LEVELS, "CASE", either("strict|ignore", "ignore"), "strict", "ignore",
              "`ignore` matches the literals of a route's path without regard to ASCII case; the path is sent as "
              "it came.",
              "ignores_case")
WHEN = Option("upstream route", "WHEN", Unit("conditions", parse_when), "", "header.x-version=2|3 !cookie.beta",
              "The route takes a request only if all of these hold; it wins over the same route without conditions.")
OF_ROUTE: tuple[Option, ...] = (
    CASE,
    WHEN,
    Option("upstream route", "PATH", either("strict|raw", "raw"), "strict", "raw",
           "`raw` accepts paths that otherwise get 400: with dot segments, or ambiguous between routes.",
           "raw_path"),
    Option(LEVELS, "CORS", ORIGINS, "", "https://app.example.com",
           "Origins that browsers may call from; `*` is any. If unset, OPTIONS is proxied."),
    Option(LEVELS, "CORS_METHODS", METHODS, "", "GET,PUT",
           "Methods that pages of these origins may use; if unset, the one that the browser asks for."),
    Option(LEVELS, "CORS_HEADERS", list_of("list of header names", units.field_name), "", "content-type,x-tenant",
           "Headers that such pages may send; if unset, those that the browser asks for."),
    Option(LEVELS, "CORS_MAX_AGE", DURATION, "10m", "24h",
           "How long a browser may keep the response to its preflight."),
    Option(LEVELS, "CORS_CREDENTIALS", ON, "", "off",
           "Whether browsers send cookies and other credentials; if unset, for named origins only. Never with `*`."),
    Option(LEVELS, "CACHE_CONTROL", Unit("header value", units.field_value), "", "public, max-age=3600",
           "The Cache-Control of 2xx and 304 responses to clients; the gateway's own cache ignores it."),
    Option(LEVELS, "MIDDLEWARE", list_of("list of dotted paths", middleware_path), "", "team.middleware.Tenant",
           "Async-capable Django middleware around the views, the outermost first."),
)
# fmt: on
