"""Synchronous code in threads of its own.

options      the options of a pool of threads
parameters   values of a path converted by a function's type hints, for all views
bulkhead     a limit of calls at a time, and a queue before it
view         legacy(): the view that calls a synchronous function
"""
