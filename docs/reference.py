"""Writes the pages that come from the code, configuration.md, errors.md and events.md: `python -m docs.reference`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from docs.events import EVENTS, Event
from gateway.config.table import TABLE
from gateway.errors import Reason
from gateway.options import Option

# -- configuration.md ---------------------------------------------------------------------------------------------

_CONFIGURATION = """\
# Configuration

<!-- Written by `python -m docs.reference` from the rows in gateway/*/options.py; a test holds it current. -->

Portway is configured by environment variables: one for each upstream, route or setting. Options follow a double
underscore:

```sh
export GATEWAY_UPSTREAM_USERS='http://users-1:8000,http://users-2:8000'   # a service, at one or more base URLs
export GATEWAY_UPSTREAM_USERS__TIMEOUT=2s                                 # an option of it
export GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION_FILE=/run/secrets/users_token
export GATEWAY_ROUTE_USERS='/users/** -> users'                           # what the gateway answers, and from where
export GATEWAY_ROUTE_USERS__TIMEOUT=500ms                                 # the route's option beats the upstream's
```

- **Options can be set at three levels.** An option of a route can also be set on an upstream, for all routes that lead
  there, or as `GATEWAY_<OPTION>`, for all routes (`GATEWAY_TIMEOUT=2s`). An option of an upstream can be set as
  `GATEWAY_<OPTION>` for all upstreams. The nearest level wins. A lone `-` removes the value of the level above
  (`GATEWAY_ROUTE_ME__CACHE=-`); as the value of a header it removes the header from the message.
  [Three levels](routes.md#options-at-three-levels)
- Variables are upper case. The name of an upstream or a route is words, digits and single underscores (`USERS_V2`).
  Values refer to it in lower case (`-> users_v2`).
- **Every variable has a twin that ends in `_FILE`** and names a UTF-8 file to read the value from, without its byte
  order mark and one trailing newline. Secrets belong there. Setting both is an error; no name ends in `_FILE`.
- Durations have a unit (`500ms`, `60s`, `5m`, `1h`), and so do sizes (`64KiB`, `10MiB`, `1GiB`; also `kB`, `MB`, `GB`);
  percentages have a `%`; a rate is a size per second (`1KiB/s`). Lists are separated by commas or white space.
- An empty value counts as unset, with a warning. Quotes that arrive as part of a value are an error: the shell
  removes them, but `docker --env-file` does not.
- In `HEADER_X_Y` each `_` stands for a `-`: the field is `x-y`. Header values are never printed.
- Variables that Kubernetes sets for a Service called `gateway` or `gateway-x` (`GATEWAY_PORT=tcp://...`) are ignored.
- An unknown `GATEWAY_*` stops the start, and the error names the nearest valid name; `gateway check` shows all problems
  at once.
- Tracing is configured by the standard `OTEL_*` variables: [Tracing](operating.md#tracing).
"""

_SECTIONS = {
    "gateway": ("The gateway itself", "GATEWAY_"),
    "rate_limit": ("Limits with a name", "GATEWAY_RATE_LIMIT_<NAME>"),
    "upstream": ("Upstreams", "GATEWAY_UPSTREAM_<NAME>"),
    "route": ("Routes", "GATEWAY_ROUTE_<NAME>"),
    "part": ("Parts of a fan-out", "GATEWAY_ROUTE_<NAME>__PART_<PART>"),
    "auth": ("Ways to authenticate", "GATEWAY_AUTH_<NAME>"),
    "legacy": ("Legacy pools", "GATEWAY_LEGACY_<NAME>"),
    "database": ("Further databases", "GATEWAY_DATABASE_<NAME>"),
}


def configuration() -> str:
    """The whole of configuration.md."""
    sections = [line for family in _SECTIONS for line in _section(family)]
    return "\n".join([_CONFIGURATION, *sections])


def _section(family: str) -> Iterator[str]:
    title, prefix = _SECTIONS[family]
    rows = [option for (owner, _), option in TABLE.items() if owner == family]
    if family == "gateway":
        yield from _table(title, prefix, [option for option in rows if not option.has_levels])
        yield from _table("All upstreams and routes", prefix, [option for option in rows if option.has_levels])
    else:
        yield from _table(title, f"{prefix}__", rows)


def _table(title: str, prefix: str, rows: Sequence[Option]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| variable | value | default | example | meaning |"
    yield "|---|---|---|---|---|"
    for option in rows:
        above = [family for family in ("gateway", "upstream") if family in option.families.split()]
        is_route = prefix.startswith("GATEWAY_ROUTE_") and option.has_levels and not option.is_open
        default = option.default and f"`{option.default}`"
        if is_route:
            default = "the upstream's" if "upstream" in above else f"`GATEWAY_{option.name}`"
        variable = prefix + option.name.replace("*", "<X>") if option.name else prefix.removesuffix("__")
        yield _row_of_option(variable, option, default)
    yield ""


def _row_of_option(variable: str, option: Option, default: str) -> str:
    # What is a secret or a whole PEM file is shown the way it should be given.
    example = option.example or f"{option.name}_FILE=/run/secrets/{option.name.lower()}"
    cells = (f"`{variable}`", option.unit.label, default, f"`{example}`", option.sentence)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


# -- errors.md ----------------------------------------------------------------------------------------------------

_ERRORS = """\
# Errors

<!-- Written by `python -m docs.reference` from the list in gateway/errors.py; a test holds it current. -->

Every failure has one word, its *reason*. The response and the log line have the same word, so that somebody on call can
get from one to the other. Responses of your services, including a 404 or a 500, pass through unchanged and have no
reason.

```sh recipe
export GATEWAY_UPSTREAM_ORDERS=http://127.0.0.1:9009   # nobody listens there
export GATEWAY_ROUTE_ORDERS='/orders/** -> orders'
gateway serve
```

```console recipe
$ curl -i http://127.0.0.1:8000/orders/7
HTTP/1.1 502 Bad Gateway
content-type: application/problem+json
cache-control: no-store
proxy-status: portway; error=connection_refused; next-hop="orders"
x-request-id: 24c6fd586d754dcdd0a187dbc16e1032
...
$ curl http://127.0.0.1:8000/orders/7 | python3 -m json.tool
{
    "type": "urn:portway:error:connection_refused",
    "title": "The upstream refused the connection",
    "status": 502,
    "detail": "Nothing listens there: is the service up, and the port right?",
    "reason": "connection_refused",
    "request_id": "d01855c3cd836355aca86c3d27625095",
    "upstream": "orders"
}
```

- The body is a problem document by [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457), `Proxy-Status` is defined in
  [RFC 9209](https://www.rfc-editor.org/rfc/rfc9209). `GATEWAY_DISCLOSE=minimal` keeps the upstream's name out of both.
- The `request` line of the log has the same `reason` and `request_id`, and often a `cause`: the message of the system
  or the library. The cause is never sent to the client.
- A failure after the response began can no longer change the status. The client sees a transfer that broke off, never
  a short response that looks complete; the log line has the status that was sent, and the reason.
- 499 appears in the log only: the client had left, so no response could be sent. The exception is `client_body_broken`:
  a client that is still there gets a 400.
- Whose fault: *client* is the sender of the request; *gateway* is Portway, its limits, or your Python in it; *upstream*
  is a service, or the network on the way to it. The log's level follows: `info` for clients, `error` for Python,
  `warning` for the rest.
- Requests that are not valid HTTP at all are refused by Granian, the server library, with a bare 400, 414 or 431 and
  without a line in the log.

## Reasons

| reason | status | whose fault | `Proxy-Status` error | meaning | what to do |
|---|---|---|---|---|---|
"""


def errors() -> str:
    """The whole of errors.md."""
    return _ERRORS + "".join(map(_row_of_reason, Reason))


def _row_of_reason(reason: Reason) -> str:
    token = f"`{reason.token}`" if reason.token else ""
    cells = (f"`{reason.word}`", str(reason.status), reason.side.value, token, f"{reason.title}.", reason.advice)
    return f"| {' | '.join(cells)} |\n"


# -- events.md ----------------------------------------------------------------------------------------------------

_EVENTS = """\
# Log events

<!-- Written by `python -m docs.reference` from docs/events.py; a test holds it and the code together. -->

A line of the log is one JSON object with `timestamp`, `level` and `event`, then the fields below. Each line of a worker
has `worker`, its process id; a line that belongs to a request has its `request_id` and `trace_id`. `exception` is a
traceback. Lines that would repeat are limited, most of them to one a minute: `held_back` and `more` count the rest.
[The log](operating.md#the-log) explains how to read the lines, and which levels there are.

```sh recipe
export GATEWAY_UPSTREAM_USERS=http://127.0.0.1:9001
export GATEWAY_ROUTE_USERS='/users/** -> users'
gateway serve
```

```json log
{"timestamp": "2026-11-30T21:42:57.705Z", "level": "info", "event": "start.upstream",
 "upstream": "users", "endpoints": ["http://127.0.0.1:9001"]}
```
"""


def events() -> str:
    """The whole of events.md."""
    return _EVENTS + "".join(
        f"\n## {title}\n\n| event | level | fields | meaning |\n|---|---|---|---|\n{''.join(map(_row_of_event, rows))}"
        for title, rows in EVENTS.items()
    )


def _row_of_event(event: Event) -> str:
    fields = ", ".join(f"`{field}`" for field in event.fields.split())
    cells = (f"`{event.name}`", event.levels.replace(" ", ", "), fields, event.meaning)
    return f"| {' | '.join(cells)} |\n"


PAGES = {"configuration.md": configuration, "errors.md": errors, "events.md": events}

if __name__ == "__main__":
    for name, text_of in PAGES.items():
        Path(__file__).with_name(name).write_text(text_of(), encoding="utf-8")
