"""WebSockets: the handshake, the relay between two sides, views of one's own.

codes      close codes: which may be sent, what one side's mean to the other
origins    whose pages may open a socket
handshake  the upgrade towards an upstream, as values; an answer that is none
keepalive  sides that are gone without a word are noticed
client     the socket of a client: messages within their limit, counted, closed once
upstream   the socket of an upstream, on the connection that a 101 left over
session    what runs an open socket: a relay, or a view of a team's own
relay      messages both ways until one side, or the gateway, closes
upgrade    how a view answers a handshake: by passing it on, or by a function of a team's own
open       the sockets of a worker: how many, and how they close while it drains
"""
