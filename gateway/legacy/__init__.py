"""Synchronous code in threads of its own.

options    the options of a pool of threads
bulkhead   so many calls at a time, and a queue before them
view       legacy(): the view that calls a synchronous function
"""
