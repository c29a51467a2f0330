"""Log, counters, metrics, traces, status, the watchdog."""
