"""The events of the log, for docs/events.md. A test compares each row with the calls in gateway/."""

from typing import NamedTuple


class Event(NamedTuple):
    """An event: `levels` and `fields` are lists of words; `meaning` is Markdown."""

    name: str
    levels: str
    fields: str
    meaning: str


# Grouped by topic, in the order in which an operator meets them.
EVENTS: dict[str, tuple[Event, ...]] = {
    "Start, workers and the end": (
        Event(
            "start",
            "info",
            "version address workers routes",
            "What will be served, before the port opens. `routes`: the file of the routes module. "
            "`GATEWAY_LOG=console` prints a table instead.",
        ),
        Event("start.upstream", "info", "upstream endpoints", "An upstream and its endpoints."),
        Event(
            "start.route", "info", "route pattern target origin", "A route, and the variable or line that declares it."
        ),
        Event(
            "start.threads",
            "warning",
            "threads detail",
            "The routes module started threads; the workers do not have these threads. "
            "[When a worker starts](python-routes.md#when-a-worker-starts)",
        ),
        Event("start.failed", "error", "exception", "A worker could not start."),
        Event(
            "start.given_up",
            "error",
            "starts",
            "After `starts` failed starts of workers the gateway gives up and exits.",
        ),
        Event("worker.ready", "info", "pid", "A worker accepts connections."),
        Event(
            "worker.start_waits",
            "warning",
            "function s",
            "A function of `on_worker_start()` has not returned after `s` seconds; the worker is not ready yet.",
        ),
        Event(
            "worker.died",
            "error",
            "pid exit_code signal cause in_flight requests pause_s",
            "A worker ended unexpectedly. `cause`: why, if the gateway killed it. `in_flight`: how many requests were "
            "lost; `requests`: the ids of the newest. `pause_s`: seconds until its successor starts, null if none. "
            "[Workers that die](operating.md#workers-that-die-or-hang)",
        ),
        Event("drain.started", "info", "signal", "The gateway begins to stop: it drains its connections and requests."),
        Event("drain.cut", "warning", "count", "`count` requests had not ended within `GATEWAY_DRAIN` and were cut."),
        Event("drain.done", "info", "", "The last line: everything has ended."),
    ),
    "Reload": (
        Event(
            "reload.started",
            "info",
            "by files",
            "A new configuration is tried. `by`: the cause: a signal, a request, a generation that died, or changed "
            "`files`.",
        ),
        Event("reload.warnings", "warning", "problems", "Warnings of `gateway check` about the new configuration."),
        Event(
            "reload.done",
            "info",
            "generation config ms files",
            "The new generation serves; `config` is the hash of its configuration. Under `gateway dev` the only field "
            "is `files`, the changed ones.",
        ),
        Event(
            "reload.refused",
            "error",
            "problems serves",
            "The new configuration has problems. `serves` is the generation that goes on.",
        ),
        Event(
            "reload.failed",
            "error",
            "problems serves",
            "The new configuration is valid, but did not start. `serves` is the generation that goes on.",
        ),
        Event(
            "generation.ended",
            "info",
            "generation cut",
            "An old generation has ended; `cut`: how many requests it cut.",
        ),
        Event(
            "generation.died",
            "error",
            "generation pid exit_code signal",
            "The serving generation ended unexpectedly; a reload follows. [Reload](reload.md)",
        ),
    ),
    "Requests": (
        Event(
            "request",
            "debug info warning error",
            "",
            "One line per request, when its last byte was sent or failed. [Fields, levels](operating.md#the-log).",
        ),
        Event(
            "problem.unfinished",
            "error",
            "exception",
            "The step that adds a route's header fields and fallbacks to an error response failed: the response was "
            "sent without them.",
        ),
        Event(
            "fallback.failed",
            "warning",
            "variable upstream cause route",
            "The page or service of an `ON_...` option did not work: the client got the first response.",
        ),
        Event(
            "value.dropped",
            "warning",
            "field values route more",
            "A value in braces was not valid in a header field, so the field was left out. `more`: how many lines like "
            "this were left out since the last one.",
        ),
        Event(
            "mirror.failed", "warning", "mirror cause request_id", "A mirrored request met an error inside the gateway."
        ),
        Event(
            "mirror.answered",
            "debug",
            "request_id route upstream status upstream_ms mirror mirror_status mirror_ms cause",
            "The mirror answered: its status and time, beside those that the client got. [Mirroring](routes.md)",
        ),
    ),
    "Upstreams": (
        Event(
            "upstream.ejected",
            "warning",
            "upstream endpoint failure pause_s",
            "An endpoint failed too often and gets no requests for `pause_s` seconds; `failure` is the last "
            "[reason](errors.md#reasons). [The log](upstreams.md#the-log)",
        ),
        Event("upstream.returned", "info", "upstream endpoint", "An ejected endpoint gets requests again."),
        Event(
            "upstream.down",
            "warning",
            "upstream endpoint cause",
            "The probes of an endpoint fail: it gets no requests.",
        ),
        Event("upstream.up", "info", "upstream endpoint", "The probes of an endpoint succeed again."),
        Event(
            "upstream.changed",
            "info",
            "upstream host joined gone",
            "DNS or a registry lists other instances than before: `joined` are new, `gone` are removed.",
        ),
        Event(
            "upstream.lookup_failed",
            "warning",
            "upstream host cause",
            "DNS or a registry cannot be reached; the last known instances stay in use. Logged once, until it works.",
        ),
        Event("upstream.lookup_works", "info", "upstream host", "DNS or the registry can be reached again."),
        Event(
            "upstream.lookup_empty",
            "warning",
            "upstream host kept",
            "A registry suddenly lists no instances. The gateway doubts this for a while: it goes on with the last "
            "known ones, `kept` in number. [Where instances are](instances.md)",
        ),
        Event(
            "upstream.too_many_addresses",
            "warning",
            "upstream host addresses used",
            "A name has more addresses than the gateway accepts; only `used` of them are used.",
        ),
        Event(
            "upstream.unasked_bytes",
            "warning",
            "upstream endpoint",
            "An endpoint sent bytes that belong to no response; the connection was closed.",
        ),
    ),
    "Cache": (
        Event("cache.purged", "info", "kind value", "Somebody purged a key, a prefix, a tag, or everything."),
        Event(
            "cache.purge_late",
            "warning",
            "cause",
            "A purge could not be sent to the other workers at once; they read it from the database, if there is one.",
        ),
        Event(
            "cache.stands_in",
            "warning",
            "target cause",
            "A view raised an exception, and the client got a stored response instead.",
        ),
        Event(
            "cache.revalidation_failed",
            "warning",
            "target cause",
            "A stored response could not be revalidated in the background; this is tried again.",
        ),
        Event("cache.not_stored", "warning", "target cause", "One response could not be written to the database."),
        Event(
            "cache.store_failed",
            "warning",
            "what cause",
            "The cache's database cannot be reached; the cache goes on in memory. "
            "[When the database fails](cache.md#when-the-database-fails)",
        ),
        Event("cache.store_works", "info", "what", "The cache's database works again."),
        Event(
            "cache.store_replaced",
            "warning",
            "",
            "The database was replaced by another one or by an older copy: the gateway forgets what it knew of it.",
        ),
    ),
    "Limits and authentication": (
        Event(
            "limits.store_away",
            "warning",
            "store cause held_back",
            "The counts of rate limits cannot be reached. `store`: `valkey`, or `host`, the memory shared by the "
            "workers. [Rate limits](rate-limits.md)",
        ),
        Event("limits.store_back", "info", "store away_s", "The counts can be reached again, after `away_s` seconds."),
        Event("limits.forgotten", "info", "limit count", "Somebody reset keys of a limit (`gateway limits forget`)."),
        Event("auth.keys_loaded", "info", "way keys", "The keys of an issuer were loaded; `keys`: how many."),
        Event(
            "auth.keys_failed",
            "warning",
            "way cause keys",
            "The keys of an issuer could not be loaded; `keys` that were loaded before stay in use. "
            "[Authentication](auth.md)",
        ),
        Event("auth.key_unusable", "warning", "way cause", "One key of a set cannot be used; the others can."),
        Event(
            "auth.value_left_out",
            "warning",
            "way value cause",
            "A role or scope that contains a comma is not sent upstream: the service would read it as two.",
        ),
    ),
    "Python of your own": (
        Event(
            "app.log",
            "debug info warning error critical",
            "logger message exception",
            "A message that your code logs by `logging`. [Your own lines](operating.md#the-log)",
        ),
        Event("app.print", "info", "text", "A line that your code prints by `print()`."),
        Event(
            "library",
            "warning error critical",
            "logger message exception",
            "A warning or error that a library logs.",
        ),
        Event(
            "legacy.stuck",
            "error",
            "pool threads calls frames",
            "All threads of a pool run calls that are over their time; `frames`: the stack of the oldest one. "
            "[Legacy Python](legacy.md)",
        ),
        Event(
            "legacy.late",
            "warning",
            "pool function s request_id error",
            "A call of a legacy function ended after its client had been answered; `s`: how long it took.",
        ),
        Event("legacy.abandoned", "warning", "count calls", "The process ends while calls of legacy functions run."),
        Event("view.abandoned", "warning", "count", "The process ends while threads of views run."),
        Event(
            "view.not_closed",
            "warning",
            "exception",
            "Closing a view's response raised an exception: a connection or a file may still be open in its thread.",
        ),
        Event(
            "loop.stalled",
            "warning",
            "ms is_over request_id frames threads held_back",
            "Something blocked the event loop, and with it all requests of a worker. `frames`: the stack, innermost "
            "first; `threads`: your code in other threads, if nothing ran in the loop. `is_over`: it has ended. "
            "[A blocked loop](legacy.md#an-event-loop-that-is-blocked-is-seen)",
        ),
        Event("loop.exit_refused", "error", "exception", "A task of your own tried to end the worker (`sys.exit()`)."),
    ),
    "Traces and the log itself": (
        Event("tracing.on", "info", "exporters", "Spans are exported. [Tracing](operating.md#tracing)"),
        Event("tracing.off", "warning", "cause", "Tracing is configured, but cannot be done."),
        Event("tracing.failing", "warning", "cause", "Some spans could not be sent, and are lost."),
        Event(
            "log.lost",
            "warning",
            "count",
            "The reader of the log was too slow, and `count` lines were dropped. "
            "[Who reads it](operating.md#who-reads-it)",
        ),
    ),
}
