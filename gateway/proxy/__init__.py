"""The view that forwards; fetch().

keywords   the options of proxy(), typed for editors
view       proxy(): what goes up, what comes down
fetch      calls that the gateway makes itself: fetch() and the parts of a fan-out
"""
