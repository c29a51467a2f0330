"""The view that forwards; fetch().

keywords   the options of proxy(), typed for editors
sent       what options put into a call and take out of it
view       proxy(): what goes up, what comes down
location   Location fields of an upstream, rewritten for the client
outgoing   what goes up for a request: field lines, and the call
options    the options of mirroring
mirror     copies of requests to another upstream, once the answer goes down
fetch      calls that the gateway makes itself: fetch() and the parts of a fan-out
"""
