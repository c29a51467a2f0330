"""How much: rate limits by client, shared.

options          the options of limits, at their levels, and of Valkey
grammar          `60/1m burst 20 by client` as records
gcra             the decision: one number per key, and the time; how long to wait, in whole seconds
keys             the key by which a request is counted
policies         the limits of a route, and their names
fields           the response fields RateLimit-Policy and RateLimit
store            the interface of every store of counts
table            counts in memory, bounded, found by digest
memory_store     the store `worker`; the store `host`, shared by the workers
resp             commands and answers of Valkey as bytes
valkey_url       GATEWAY_VALKEY_URL as a record
valkey           one connection to Valkey: pipelined, watched, reconnected
valkey_store     the store `valkey`: shared by all gateways that name it
limiter          the limits of one worker: which store decides, what is counted
gate             the gates of a route's stack; limited()
"""
