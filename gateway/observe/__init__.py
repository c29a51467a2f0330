"""Log, counters, metrics, traces, status, the watchdog.

log             structlog: JSON lines for machines, aligned text for people
outlet          where lines go: a slow reader of them holds nobody up
counters        what happened so far in one worker
histogram       how values are distributed
shared_memory   a place for each worker's counts, made before the fork
snapshot        what a worker shows to the others, and workers added up
status          /-/status: what every worker shows of itself
metrics         /-/metrics: the same for Prometheus
exporters       which exporters of spans the OTEL_* variables ask for
spans           OpenTelemetry: a span for each request and each attempt
stalls          what is said of a blocked event loop, and how often
throttle        how often the same thing is logged
watchdog        the thread that watches the event loop
"""
