"""What is stored, and for whom.

options           the options: sizes, and what a route or a part stores
keys              cache keys, and purges
policy            what may be stored, and its freshness lifetime (RFC 9111, sections 3 and 4.2)
freshness         whether a stored response may be sent or must be validated (with its ETag), what is invalidated
conditional       conditions and ranges of the client's request: 200, 206, 304, 416
memory            stored responses in memory, an LRU bounded in bytes; recent purges
queries           every query of the database: stored responses become rows
notices           PostgreSQL announces purges at once
store_health      a circuit breaker for the database
bloom_filter      which keys the database may hold, so that other requests need not wait for it
database          stored responses in the database, on threads of its own
coalescing        one call upstream serves several concurrent requests
cache             the cache of one worker: memory, then the database, then one call
tracked_request   which fields a view reads of its request: Vary must name them
view              cached(): a view that stores the responses of another view
"""
