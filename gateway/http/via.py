"""Via: which gateways a message has passed, and whether this one is among them (RFC 9110, section 7.6.3).

What goes up carries `Via: 1.1 portway (1f0c3a9e)`. The eight digits are derived from what a gateway serves: its
replicas share them, and two gateways in a chain do not.
"""

from collections.abc import Iterable
from typing import Final

from gateway.http.headers import HTTP_1_0, Pair

_NAME: Final = b"via"


class Via:
    """The Via lines of one gateway; `identity` is its eight hex digits."""

    __slots__ = ("_1_0", "_1_1", "_2_0", "_mark", "identity")

    def __init__(self, identity: str) -> None:
        self.identity, self._mark = identity, b"portway (%b)" % identity.encode("ascii")
        self._1_0, self._1_1, self._2_0 = ((_NAME, b"%b %b" % (one, self._mark)) for one in (b"1.0", b"1.1", b"2.0"))

    def pair(self, http_version: str = "1.1") -> Pair:
        """The line for a message that was received in this version."""
        if http_version == "1.1":
            return self._1_1
        return self._1_0 if http_version in HTTP_1_0 else self._2_0

    def is_among(self, values: Iterable[bytes]) -> bool:
        """Whether a message with these values of Via has been here before.

        A proxy in between may remove comments from Via, as the RFC allows: then this cannot be known.
        """
        return any(self._mark in value for value in values)
