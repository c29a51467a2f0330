"""Portway, an API gateway: the map of the house.

A file imports its own room and the rooms above it here; tests/test_house.py holds that. On the ground stand `errors`
(each failure has one word, and the word its HTTP status), `units` (durations, sizes and such become values), `options`
(what an option is: a room declares its own, `config.table` adds them up), `text` (what a terminal shows).

http        HTTP as values, and one exchange of it
observe     log, counters, metrics, traces, status, the watchdog
limits      how much: rate limits by client, shared
upstreams   services: endpoints, health, limits, connections, attempts
discovery   instances of services: DNS, registries, an iterator of one's own
cache       what is stored, and for whom
proxy       the view that forwards; fetch()
auth        authentication: tokens, keys, passwords, another service; rules, the gate
sockets     WebSockets: the handshake, the relay between two sides, views of one's own
legacy      synchronous code in threads of its own
fanout      several services, one answer
answers     the gateway's own answers: statuses, redirects, files, fallbacks; compression
routing     the grammar, the table, urlpatterns: the public face
config      the environment becomes records; checks; the options in force, and their sources
importing   configurations of other gateways become an environment
reload      changes of the configuration without a lost request: generations, their parent
server      ASGI, the worker, /-/, Granian, signals, listening sockets
testing     the test kit: a gateway in a test, services that are objects
management  the commands, explain
"""

__version__ = "0.1.0"
