"""Services: endpoints, health, limits, connections, attempts.

places              where a service is, as a variable names it: base URLs, sources of instances, weights
records             a service as the configuration has it
options             the options of a call, and which of them applies
targets             an upstream and a template of path and query, filled with values
endpoint            one address of a service, and what is known of it
resolver            the addresses of a host name
load_balancing      which endpoint is next: the policies by name, and weights
stickiness          the cookie by which a client stays with an endpoint
outlier_detection   whether an endpoint may be asked: healthy, ejected, on trial
health_check        one active probe
concurrency_limit   a limit of requests at a time, and a queue before it
retry_policy        whether a request may be sent again, and the budget for that
tls                 which authorities are trusted, and the client certificate
heads               heads of answers: checked, and read where they are plain
small_reads         small pieces first, for clients that may read nothing
body                the body of an answer that comes in pieces
connection          one connection: a request is written, its answer read
network             where connections are made and names are looked up: the system, or a test
client              connections to endpoints: made, kept for the next request, closed
errors              an exception of aiohttp becomes a reason
shortage            what the gateway itself has run out of
upload              the body on its way up, kept while it is small, to be sent again
members             the endpoints of a service: of its list, of look-ups, of sources
pool                a service while the gateway runs: its endpoints, limits and connections
attempt             one attempt: its turn at an endpoint, its request and its answer
attempts            the loop of attempts: retries, hedging, time limits
calls               calls that the gateway makes by itself
"""
