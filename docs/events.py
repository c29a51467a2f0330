"""The events of the log: what stands in docs/events.md. A test compares each row with the calls in gateway/."""

from typing import NamedTuple


class Event(NamedTuple):
    """An event: `levels` and `fields` are lists of words; `meaning` is Markdown."""

    name: str
    levels: str
    fields: str
    meaning: str


# By what they are about, in the order in which somebody meets them.
EVENTS: dict[str, tuple[Event, ...]] = {
    "Start, workers and the end": (
        Event(
            "start",
            "info",
            "version address workers routes",
            "What is served, before it is; `routes`: the routes module's file. `GATEWAY_LOG=console` prints a table.",
        ),
        Event("start.upstream", "info", "upstream endpoints", "An upstream, and where it is."),
        Event(
            "start.route", "info", "route pattern target origin", "A route, and the variable or line that declares it."
        ),
        Event(
            "start.threads",
            "warning",
            "threads detail",
            "The routes module started threads: they are not in the workers. "
            "[When a worker starts](python-routes.md#when-a-worker-starts)",
        ),
        Event("start.failed", "error", "exception", "A worker could not start."),
        Event(
            "start.given_up", "error", "starts", "So many starts of workers failed that no other one is tried: exit."
        ),
        Event("worker.ready", "info", "pid", "A worker takes connections."),
        Event(
            "worker.start_waits",
            "warning",
            "function s",
            "A function of `on_worker_start()` has not returned after so many seconds; the worker is not ready yet.",
        ),
        Event(
            "worker.died",
            "error",
            "pid exit_code signal cause in_flight requests pause_s",
            "A worker ended unasked. `cause`: why the gateway ended it; `requests`: the ids of those lost with it, of "
            "`in_flight` in all; `pause_s`: when the next one starts, null where none does. "
            "[Workers that die](operating.md#workers-that-die-or-hang)",
        ),
        Event("drain.started", "info", "signal", "The gateway stops: it takes no connections, and ends what it has."),
        Event("drain.cut", "warning", "count", "So many requests had not ended within `GATEWAY_DRAIN` and were cut."),
        Event("drain.done", "info", "", "The last line: all has ended."),
    ),
    "Reload": (
        Event(
            "reload.started",
            "info",
            "by files",
            "A new configuration is tried. `by`: a signal, a request, a generation that died, or the changed `files`.",
        ),
        Event("reload.warnings", "warning", "problems", "What `check` would warn of in the new configuration."),
        Event(
            "reload.done",
            "info",
            "generation config ms files",
            "It serves; `config` is its hash. Under `gateway dev` only with the changed `files`.",
        ),
        Event(
            "reload.refused",
            "error",
            "problems serves",
            "`check` finds problems in it. `serves` is the generation that goes on.",
        ),
        Event("reload.failed", "error", "problems serves", "It is valid and did not start; likewise."),
        Event("generation.ended", "info", "generation cut", "An old generation has ended; it cut so many requests."),
        Event(
            "generation.died",
            "error",
            "generation pid exit_code signal",
            "The generation that served ended unasked; a reload follows. [Reload](reload.md)",
        ),
    ),
    "Requests": (
        Event(
            "request",
            "debug info warning error",
            "",
            "One for each request, when its last byte has left or failed. [Fields, levels](operating.md#the-log).",
        ),
        Event(
            "problem.unfinished",
            "error",
            "exception",
            "What was to change a problem on its way out failed: it left as it was.",
        ),
        Event(
            "fallback.failed",
            "warning",
            "variable upstream cause route",
            "The answer that should have stood in could not be had: the first answer went down.",
        ),
        Event(
            "value.dropped",
            "warning",
            "field values route more",
            "A header's value could not stand in a field, and was left out; `more` times since the last such line.",
        ),
        Event(
            "mirror.failed", "warning", "mirror cause request_id", "A copy of a request met an error of the gateway's."
        ),
        Event(
            "mirror.answered",
            "debug",
            "request_id route upstream status upstream_ms mirror mirror_status mirror_ms cause",
            "A copy was answered: beside what the client got. [Copies](proxying.md)",
        ),
    ),
    "Upstreams": (
        Event(
            "upstream.ejected",
            "warning",
            "upstream endpoint failure pause_s",
            "An endpoint failed too often and gets no requests for so long; `failure` is the last "
            "[reason](errors.md#reasons). [The log](upstreams.md#the-log)",
        ),
        Event("upstream.returned", "info", "upstream endpoint", "It gets requests again."),
        Event("upstream.down", "warning", "upstream endpoint cause", "Its probes fail: it gets no requests."),
        Event("upstream.up", "info", "upstream endpoint", "Its probes succeed again."),
        Event("upstream.changed", "info", "upstream host joined gone", "A name or registry has other instances now."),
        Event(
            "upstream.lookup_failed",
            "warning",
            "upstream host cause",
            "A name or registry cannot be asked; what was known stays. Once, until it works.",
        ),
        Event("upstream.lookup_works", "info", "upstream host", "It can be asked again."),
        Event(
            "upstream.lookup_empty",
            "warning",
            "upstream host kept",
            "A registry has no instance any more. That is doubted for a while: `kept` are used on. "
            "[Where instances are](instances.md)",
        ),
        Event(
            "upstream.too_many_addresses",
            "warning",
            "upstream host addresses used",
            "A name has more addresses than the gateway takes; it uses so many.",
        ),
        Event(
            "upstream.unasked_bytes",
            "warning",
            "upstream endpoint",
            "It sent bytes that answer no request; the connection was closed.",
        ),
    ),
    "Cache": (
        Event("cache.purged", "info", "kind value", "Somebody purged: one key, a prefix, a tag, or all."),
        Event(
            "cache.purge_late",
            "warning",
            "cause",
            "The other workers could not be told of a purge at once; they read it in the database, if there is one.",
        ),
        Event(
            "cache.stands_in",
            "warning",
            "target cause",
            "A view raised, and a stored response was sent in its place: the client saw nothing of it.",
        ),
        Event(
            "cache.revalidation_failed",
            "warning",
            "target cause",
            "A stored response could not be refreshed in the background; it is tried again.",
        ),
        Event("cache.not_stored", "warning", "target cause", "One response could not be written to the database."),
        Event(
            "cache.store_failed",
            "warning",
            "what cause",
            "The database of the cache is away; the memory goes on. "
            "[When the database fails](cache.md#when-the-database-fails)",
        ),
        Event("cache.store_works", "info", "what", "It is back."),
        Event(
            "cache.store_replaced",
            "warning",
            "",
            "Another database stands in its place, or an older copy: what was known of it is forgotten.",
        ),
    ),
    "Limits and who asks": (
        Event(
            "limits.store_away",
            "warning",
            "store cause held_back",
            "The counts of the limits cannot be read: of `valkey`, or the workers' own memory (`host`). "
            "[Rate limits](rate-limits.md)",
        ),
        Event("limits.store_back", "info", "store away_s", "They can again, after so long."),
        Event("limits.forgotten", "info", "limit count", "Somebody made keys free again by `gateway limits forget`."),
        Event("auth.keys_loaded", "info", "way keys", "So many keys of an issuer were read."),
        Event(
            "auth.keys_failed",
            "warning",
            "way cause keys",
            "They could not be; so many that were read before are used on. [Who asks](auth.md)",
        ),
        Event("auth.key_unusable", "warning", "way cause", "One key of a set cannot be used; the others are."),
        Event(
            "auth.value_left_out",
            "warning",
            "way value cause",
            "A role or scope with a comma in it does not go up: it would read as two.",
        ),
    ),
    "Python of your own": (
        Event(
            "app.log",
            "debug info warning error critical",
            "logger message exception",
            "What your code says by `logging`. [Your own lines](operating.md#the-log)",
        ),
        Event("app.print", "info", "text", "What it says by `print()`, a line each."),
        Event(
            "library",
            "warning error critical",
            "logger message exception",
            "What a library complains of.",
        ),
        Event(
            "legacy.stuck",
            "error",
            "pool threads calls frames",
            "All threads of a pool run calls that are over their time; `frames`: where the oldest one stands. "
            "[Legacy Python](legacy.md)",
        ),
        Event(
            "legacy.late",
            "warning",
            "pool function s request_id error",
            "A call ended after its client was answered.",
        ),
        Event("legacy.abandoned", "warning", "count calls", "The process ends while such calls run."),
        Event("view.abandoned", "warning", "count", "The process ends while threads of views run."),
        Event(
            "view.not_closed",
            "warning",
            "exception",
            "The end of a view's answer raised: a connection or a file may have stayed open in its thread.",
        ),
        Event(
            "loop.stalled",
            "warning",
            "ms is_over request_id frames threads held_back",
            "Something blocked the event loop, and with it all requests of a worker; `frames`: where, innermost first; "
            "`threads`, where nothing ran in the loop. "
            "[A blocked loop](legacy.md#an-event-loop-that-is-blocked-is-seen)",
        ),
        Event("loop.exit_refused", "error", "exception", "A task of your own tried to end the worker (`sys.exit()`)."),
    ),
    "Traces and the log itself": (
        Event("tracing.on", "info", "exporters", "Spans are exported. [Tracing](operating.md#tracing)"),
        Event("tracing.off", "warning", "cause", "They should be, and cannot."),
        Event("tracing.failing", "warning", "cause", "Some could not be sent, and are lost."),
        Event(
            "log.lost",
            "warning",
            "count",
            "Whoever reads the log was too slow, and so many lines were dropped. "
            "[Who reads it](operating.md#who-reads-it)",
        ),
    ),
}
