"""Request methods (RFC 9110, section 9)."""

from typing import Final

# Section 9.2.1: asks for nothing to be done, so that two at a time do no harm.
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# Section 9.2.2: may be sent again when it is not known whether the first one was acted on.
IDEMPOTENT_METHODS: Final = SAFE_METHODS | {"PUT", "DELETE"}
# What passes by its name: the others of RFC 9110 are refused, and any further one is a word of a team's own.
SERVED_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
STANDARD_METHODS: Final = SERVED_METHODS | {"CONNECT", "TRACE"}
