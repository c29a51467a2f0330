"""Request methods (RFC 9110, section 9)."""

from typing import Final

# Section 9.2.1: safe, so that sending one twice does no harm.
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# Section 9.2.2: may be sent again when it is not known whether the first one was acted on.
IDEMPOTENT_METHODS: Final = SAFE_METHODS | {"PUT", "DELETE"}
# Methods that metrics name; RFC 9110's others are refused, and any further one is a team's own.
SERVED_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
STANDARD_METHODS: Final = SERVED_METHODS | {"CONNECT", "TRACE"}
