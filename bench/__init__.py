"""The benchmark: `python -m bench` runs every scenario and prints one markdown table for each.

machine    cores, pinning, free ports, the line that says what it ran on
processes  starting and ending what is measured; CPU and memory of a whole process tree from /proc
upstream   the service behind every gateway: constant 1 KB, delays, big downloads, swallowed uploads
apps       what we compare ourselves with, as ASGI applications: the floor, a bare hello, stock Django
targets    one function a target: how it is started. ADD A TARGET HERE
tokens     tokens for the load, and the way that takes them
load       wrk, and one big transfer each way
echo       round trips over WebSockets
measures   what one round yields: under load, in a transfer, at the start
scenarios  the table of scenarios. ADD A SCENARIO HERE
runner     interleaved rounds
report     medians, ratios, bars, markdown
faults     `python -m bench.faults`: what clients see while one of two servers fails, beside nginx and HAProxy
soak       `python -m bench.soak`: minutes of steady load with a fault every few seconds
profile    `python -m bench.profile`: where the time of a proxied GET goes, by room
__main__   the command line
"""
