"""The view that forwards; fetch().

keywords   the options of proxy(), typed for editors
view       proxy(): what goes up, what comes down
outgoing   what goes up for a request: field lines, and the call
fetch      calls that the gateway makes itself: fetch() and the parts of a fan-out
"""
