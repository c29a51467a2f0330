"""Synchronous code in threads of its own.

options      the options of a pool of threads
parameters   values of a path as a function's type hints want them, for all views
bulkhead     so many calls at a time, and a queue before them
view         legacy(): the view that calls a synchronous function
"""
