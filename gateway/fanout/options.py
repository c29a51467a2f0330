"""The options of a fan-out: its parts, options for all of them, and options for each."""

from functools import partial

from gateway import units
from gateway.cache.options import CACHE
from gateway.http.queries import masked_line
from gateway.options import (
    FIELD,
    FUNCTION,
    NAMES,
    POSITIVE,
    SOME_SIZE,
    TIMEOUT,
    Option,
    Unit,
    list_of,
    matching,
    one_of,
)
from gateway.upstreams.targets import parse_part

TARGET = Unit("target", parse_part, mask=masked_line)
STATUSES = Unit("list of statuses", partial(units.set_of, parse=partial(units.whole, least=400, most=599)))
MEMBERS = list_of("list of JSON names", units.member_name)
METHOD = matching("method", r"[A-Z][A-Z-]*", "an upper-case method, such as GET")
JSON = Unit("JSON", units.json_text)

# fmt: off
# families, name, unit, default, example, sentence
PARTS = Option("route", "PART_*", TARGET, "", "orders:/orders?user={id}",
               "A part of a fan-out: `upstream:/path`, with values of the request and of other parts in braces.",
               "parts")
OPTIONAL = Option("route", "OPTIONAL", NAMES, "", "team,orders",
                  "Parts that may fail without failing the response; a part with a default is optional too.")
# Options for all parts: attributes of `plan.Fan`.
OF_FAN: tuple[Option, ...] = (
    Option("gateway route", "MERGE", one_of("keyed|flat"), "keyed", "flat",
           "How parts become one object: each under its name (`keyed`), or all their members side by side (`flat`)."),
    Option("gateway route", "CONCURRENCY", POSITIVE, "8", "16", "How many calls of one mapped part run at a time."),
    Option("gateway route", "MAX_ITEMS", POSITIVE, "100", "500", "The most calls of one mapped part."),
    Option("gateway route", "PASS", STATUSES, "", "404,410",
           "Statuses of a required part that are passed on as the response's status, instead of 502.", "passes"),
)
OF_ROUTE = (PARTS, OPTIONAL, *OF_FAN)
# Options for one part: attributes of `plan.Part`.
OF_PART: tuple[Option, ...] = (
    Option("part", "TIMEOUT", TIMEOUT, "", "300ms", "The time for this part, within the route's."),
    Option("part", "PICK", MEMBERS, "", "id,name",
           "The members to keep of the part's JSON object, or of each object of its list."),
    Option("part", "DEFAULT", JSON, "null", "[]", "The value to use for the part if it fails."),
    Option("part", "METHOD", METHOD, "GET", "POST", "The method of the call."),
    Option("part", "HEADER_*", FIELD, "", "acme", "Sets a header of the call; a lone `-` deletes it.", "headers",
           has_values=True),
    Option("part", "CACHE", CACHE, "", "60s", "Stores responses to this part's calls, as a route's `CACHE` does."),
    Option("part", "MAX_BODY", SOME_SIZE, "10MiB", "1MiB", "The largest response of this part."),
)
FUNCTION_OF_PART = Option("part", "LEGACY", FUNCTION, "", "teams.load",
                          "The synchronous function that makes this part.")
# fmt: on
