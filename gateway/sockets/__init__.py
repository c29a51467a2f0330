"""WebSockets: the handshake, the relay between two sides, views of one's own.

codes      close codes: which may be sent, and how one side's are passed to the other
origins    origins of pages that may open a socket
handshake  the upgrade towards an upstream, as values; refusals
keepalive  sides that vanished are noticed
client     the socket of a client: messages within their limit, counted, closed once
upstream   the socket of an upstream, on the connection after its 101
session    what runs an open socket: a relay, or a view of a team's own
relay      messages both ways until one side, or the gateway, closes
upgrade    answers to a handshake: by passing it on, or by a function of a team's own
open       the sockets of a worker: how many, and how they close while it drains
"""
