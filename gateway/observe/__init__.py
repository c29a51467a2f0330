"""Log, counters, metrics, traces, status, the watchdog.

log             structlog: JSON lines for machines, aligned text for people; a request's fields are http.exchange's
added_fields    the fields of requests that GATEWAY_LOG_FIELDS names
own_output      output of a team's own code by logging and print()
outlet          where lines go: a slow reader blocks nothing
counters        the counts of one worker
histogram       how values are distributed
history         recent counts: by the second, and the last minute by route and endpoint
pool_faults     why a pool of connections cannot reach its database
process         memory, processor time and files of a process
shared_memory   a place for each worker's counts, made before the fork
process_locks   locks between workers, which a killed worker does not keep
in_flight       requests that a worker has, for its parent to log when it dies
message_ring    messages from a worker to the others, published before its request is answered
snapshot        the state of a worker, and workers added up
socket_counts   counts of one WebSocket
mirror_counts   counts of copies of requests
status          /-/status: the workers added up, as JSON
metrics         /-/metrics: the same for Prometheus
exporters       exporters of spans, by the OTEL_* variables
steps           steps inside a request that get spans of their own
spans           OpenTelemetry: a span for each request and each attempt
signals         Django's signals of a request, where there are receivers
stalls          code that blocked the event loop, and how that is logged
throttle        how often the same thing is logged
watchdog        the thread that watches the event loop
"""
