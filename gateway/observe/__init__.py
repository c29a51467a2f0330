"""Log, counters, metrics, traces, status, the watchdog.

log             structlog: JSON lines for machines, aligned text for people; a request's fields are http.exchange's
added_fields    the fields of requests that GATEWAY_LOG_FIELDS names
own_output      what a team's own code says by logging and print()
outlet          where lines go: a slow reader blocks nothing
counters        the counts of one worker
histogram       how values are distributed
history         what happened lately: by the second, and the last minute by route and endpoint
process         what a process takes of the machine
shared_memory   a place for each worker's counts, made before the fork
process_locks   locks between workers that a killed one does not keep
in_flight       which requests a worker has, for its parent to say when it dies
message_ring    what one worker does is known to the others before its request is answered
snapshot        the state of a worker, and workers added up
socket_counts   what is counted of one WebSocket
mirror_counts   what is counted of copies of requests
status          /-/status: the workers added up, as JSON
metrics         /-/metrics: the same for Prometheus
exporters       which exporters of spans the OTEL_* variables ask for
steps           steps inside a request that get spans of their own
spans           OpenTelemetry: a span for each request and each attempt
signals         Django's signals of a request, where somebody listens
stalls          which code blocked the event loop, and how that is logged
throttle        how often the same thing is logged
watchdog        the thread that watches the event loop
"""
