"""What is stored, and for whom.

options           the options of the cache, and the rule of a route
keys              what an answer is stored by, and what a purge names
policy            what may be stored, and for how long it is fresh (RFC 9111, sections 3 and 4.2)
freshness         whether a stored answer may be sent, and how it is validated
conditional       conditions and ranges of the request: 200, 206, 304, 416
memory            stored answers in memory, bounded in bytes
queries           stored answers as rows: every query of the database
store_health      whether the database works; a failure is logged once a minute
bloom_filter      which keys the database may hold, so that others need not wait for it
database          stored answers in the database, in threads of its own
coalescing        one call upstream for all who ask at once
cache             the cache of one worker: memory, then the database, then one call
tracked_request   which fields a view reads of its request: they must be named in Vary
view              cached(): the view that answers from the cache
"""
