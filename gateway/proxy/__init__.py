"""The view that forwards; fetch().

keywords   the options of proxy(), typed for editors
sent       what options add to a call and remove from it
view       proxy(): what is sent up, what is sent down
location   Location fields of an upstream, rewritten for the client
outgoing   a request on its way up: field lines, and the call
options    the options of mirroring
mirror     copies of requests to another upstream, once the answer is being sent
fetch      calls that the gateway makes itself: fetch() and the parts of a fan-out
"""
