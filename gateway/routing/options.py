"""The options of a route that say which requests it takes."""

from gateway.http.queries import masked_line
from gateway.options import LEVELS, ORIGINS, Option, Unit, either
from gateway.routing.patterns import parse_line

LINE = Unit("route", parse_line, mask=masked_line)

# fmt: off
# families, name, unit, default, example, sentence
ROUTE = Option("route", "", LINE, "", "GET,HEAD api.example.com/u/{id} -> users:/users/{id}",
               "`[METHOD,...] [host]/path -> upstream[:/path]`; `{name}` is one segment, `/**` the rest.", "line")
OF_ROUTE: tuple[Option, ...] = (
    Option("upstream route", "PATH", either("strict|raw", "raw"), "strict", "raw",
           "`raw` lets paths through that are 400 elsewhere: with dot segments, or readable as another route's.",
           "raw_path"),
    Option(LEVELS, "CORS", ORIGINS, "", "https://app.example.com",
           "Origins that browsers may call from; `*` is any. Without it OPTIONS is proxied."),
)
# fmt: on
