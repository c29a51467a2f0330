"""Request methods (RFC 9110, section 9)."""

from typing import Final

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
