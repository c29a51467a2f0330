"""HTTP as values, and one exchange of it.

methods         request methods, and which are safe or idempotent
headers         field lines as pairs of bytes: hop-by-hop fields, what a host may be, reading, setting
fields          field values, parsed strictly: dates, lists, directives, entity tags, ranges
forwarding      the client's address, and the proxies before here: X-Forwarded-*, Forwarded, trusted peers
paths           raw paths: how segments are compared, and what other servers could read in them
queries         query strings: what is joined to a target, and how a query is shown
identity        the client as authentication knows it, and values of that for header fields
placeholders    a text with values in braces, in pieces
field_template  values in braces within a header field
values          what may stand in braces, and what each word stands for
settable        which fields options and calls may set
codings         gzip and the like undone, within a limit
negotiation     which of JSON, NDJSON and events a client accepts
carried         values of a header field, a cookie, a parameter of the query, read in one way
cors            cross-origin requests, decided from the fields
trace_context   request ids and W3C trace context
via             Via: which gateways a message has passed, and whether this is one of them
validation      what is ambiguous in a request (target, Host, framing) is refused before any route sees it
exchange        the state of one request: ids, timings and result
lifetime        how a request ends: its task, its timers, what is closed when it is over
services        what a worker has for the views of its requests
clock           the clock of a worker, for what is kept over requests
deadline        time limits within a task
inbox           the body of a request as it arrives, and the news that its client left
body_budget     how much memory the bodies that are kept whole may take
request         Django's request over raw pairs, a raw path and a body that streams
response        Django's response over raw pairs and bytes, or an iterator of them
gate            what stands around the view of a route: what may answer before it, what changes its answer
problem         answers of the gateway's own: problems (RFC 9457) and JSON
any_request     views of the gateway, called with a plain Django request as tests do
view_result     what a view of a team's own returned becomes a response that can be sent
view_thread     the thread of a view of a team's own: its database connections and synchronous code
"""
