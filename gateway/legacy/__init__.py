"""Synchronous code in threads of its own."""
