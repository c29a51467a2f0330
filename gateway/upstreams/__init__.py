"""Services: endpoints, health, limits, connections, attempts.

records             a service as the configuration has it
options             the options of a call, and which of them holds
targets             an upstream and a template of path and query, filled with values
endpoint            one address of a service, and what is known of it
resolver            the addresses of a host name
load_balancing      which endpoint is next: the policies by name
outlier_detection   whether an endpoint may be asked: healthy, ejected, on trial
health_check        one active probe
concurrency_limit   so many requests at a time, and a queue before them
retry_policy        whether a request may be sent again, and the budget for that
tls                 which authorities are trusted, and the client certificate
call                what a call is and what comes of it; the bytes of its head
connection          one connection: aiohttp's protocol and parser
client              one call to one endpoint; connections are kept for the next one
errors              what aiohttp raised becomes a reason
shortage            what the gateway itself has run out of
upload              the body on its way up, kept while it is small, to be sent again
pool                a service while the gateway runs: its endpoints, limits and connections
attempts            the loop of attempts: retries, hedging, time limits
"""
