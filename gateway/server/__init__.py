"""ASGI, the worker, /-/, Granian, signals, sockets."""
