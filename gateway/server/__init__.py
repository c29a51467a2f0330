"""ASGI, the worker, /-/, Granian, signals, listening sockets.

in_process   a worker inside a test, for the clients of django.test
websocket    one WebSocket from ASGI to its end
opening      a request and its exchange are opened, from an ASGI scope
asgi         one request from ASGI to its answer
worker       state of a worker: pools, cache, requests in flight
snapshot     the published state of this worker and of the others
admin        access to the endpoints under /-/
ops          the endpoints under /-/
page.html    the status page
https        from http to https: the URL, Strict-Transport-Security
plain_port   the plain port beside TLS: to https, and for probes
tls          the certificate as files, for as long as it is served
granian      `gateway serve`: Granian with our flags
supervisor   the parent of the workers of one generation, which keeps them alive
restarts     how long to wait after a worker died, and when one counts as hung; the supervisor acts on it
loop         the event loop of a worker
control      signals between the parent and its workers: ready, drain, stop
abort        the connection of a client is cut, where an answer broke off
connections  connections that carry several requests (HTTP/2): counted, and ended when they idle
reuseport    a port is handed over to the next gateway
"""
