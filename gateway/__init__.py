"""Portway, an API gateway: the map of the house.

A module imports only modules that stand above it on this map; tests/test_house.py reads the imports and holds that.
Nothing is re-exported from here: Django imports this package before the models are ready.

floor: decide; no I/O, no Django, no aiohttp; time and chance are arguments
    errors      every failure has one word: whose fault, which phase, which status
    units       durations, sizes and other words of the environment become values
    headers     hop-by-hop, Forwarded, Via, field syntax: what RFC 9110 says of a field line
    tracing     request ids and W3C trace context
    cors        cross-origin requests
    redirects   Location fields said as the client must see them
    paths       which paths are refused, and what other servers could read in one
    queries     which parameters of a query go up, and how a query is shown
    patterns    the route grammar, its matching table, and the templates of targets
    plain       text that a terminal shows and does not act on
    verdicts    why a route does not get a request, in words
    fields      field values that decide about caching: dates, directives, entity tags, ranges
    codings     content codings undone, bounded
    storing     what may be stored, and for how long it is fresh
    freshness   whether a stored answer answers a request, how it is validated, what must be forgotten
    conditions  a stored answer meets a request's conditions and ranges
    memory      stored answers in memory, bounded in bytes; what a purge names
    merging     fan-out decided: what parts ask for, in which order, what the merged answer says
    retries     whether a request may be sent again, and within which budget
    ejection    whether an endpoint may be asked: ejected by requests, taken out by probes
    balancing   which endpoint answers next
    stalls      a blocked event loop: whose line it was, whether it is told
    restarts    when a worker that died is started again, and when a silent one counts as hung
    options     the one table of every variable: name, unit, default, example, sentence
    environment a variable's name and text: families, _FILE twins, service links, masks, the nearest name
    envfile     a file of variables, read as docker reads it
    config      what the environment says, as frozen records
    loading     the environment becomes one Config, or every problem at once
    origins     what is in force, as text, and where it came from
    databases   GATEWAY_DATABASE_URL as Django's DATABASES
    door        what is ambiguous is refused before any route sees it
middle: one kind of effect a file
    viewthread  the thread of a request that a view of the team's own answers
    exchange    the notebook of one request
    bodies      the memory for bodies that are kept whole, so much a worker
    inbox       a request's body as it arrives, and the news that the client left
    messages    Django's request and response, made lossless
    problems    answers of the gateway's own: JSON, and the problems that failures become
    answers     what a view of one's own returned becomes an answer that can be sent
    endpoints   one address of an upstream, and what is known of it
    calls       what a call to an endpoint is, and what comes of it
    shortage    what the gateway itself has run out of: nobody is judged for it
    tls         which authorities are trusted, which certificate is shown
    foreign     what aiohttp or the system raised becomes our error
    connections aiohttp's protocol and parser: where an answer ends, and what follows it unasked
    client      aiohttp: one call to one endpoint
    places      so many at a time, and a bounded queue before them
    resolver    the addresses of a name
    probes      one active probe
    bulkhead    threads for synchronous calls, so many, with a queue
    spans       what OpenTelemetry hears of a request and of each attempt upstream
    pool        an upstream's endpoints, their health and connections
    uploads     a request's body on its way up
    attempts    the attempt loop
    proxy       the view that forwards a request
    models      what the cache keeps in a database
    migrations  how its tables came to be
    health      whether one way to the database works, said at most once a minute
    known       which keys the database may hold
    rows        the queries of the cache
    store       stored answers in Django's database, through the async ORM on threads of its own
    filling     one call upstream whose answer may be stored, and serve several requests
    cache       memory first, the database behind it, one call upstream for all who ask at once
    legacy      the view that calls old synchronous code
    splice      JSON cut and joined byte for byte
    fetching    fetch(), and every call that the gateway makes by itself
    outcomes    how one part of a fan-out ended
    gathering   the parts of one request while they are asked for
    fanout      the view that merges several services
    typed       @fanout: the same with its parts in a function's signature
    observed    a request that notes which header fields a view reads
    cached      the view that answers from the cache what another one has answered before
    wrapping    which view answers a route, behind what a team has wrapped around it
    lines       the lines of urlpatterns, and what keeps them from being served
    starting    what a team's code does when a worker starts
    sever       cutting a client's connection, the honest end of an answer that broke off
    handover    a gateway that stops beside another one on its port loses no connection
roof: the edge
    guards      no spelling of a path reaches what another route guards
    routing     route(), from_environment(): patterns and views become Django's urlpatterns
    tally       what happened so far in one worker, counted
    past        what workers that ended have counted, added up
    board       where workers see each other's counts
    outlet      where lines go that are logged or printed: whoever does not read them holds nobody up
    telemetry   the log line
    loop        the worker's event loop, which code that exits does not end
    watchdog    who blocks the event loop is caught in the act
    runtime     what lives while a worker runs: pools, the requests in flight, draining
    address     the address to listen on: looked up, and tried
    startup     what must hold before a worker starts
    metrics     /-/metrics, as Prometheus reads it
    status      /-/status: what all workers show of themselves
    admin       who may ask the endpoints that are not open
    ops         the endpoints under /-/
    handler     the ASGI door: Django's ASGIHandler, lean
    explaining  what the gateway would do with a request, and why
    control     what the parent and its workers tell each other: draining, the end, signs of life
    supervisor  the parent process: workers that die or hang are replaced, and all end in order
    serve       granian's flags, the address, what is said at the start
    __main__    the `gateway` command
    management  what it runs: cache, check, config, explain, routes, serve, as Django's management commands
"""

__version__ = "0.1.0"
