"""Close codes and reasons (RFC 6455, section 7.4): which may be sent, and how one side's are passed to the other.

Granian sends any code, even one that no endpoint may send, so they are checked here.
"""

from typing import Final, NamedTuple

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NONE_GIVEN: Final = 1005
LOST: Final = 1006
POLICY: Final = 1008
TOO_LARGE: Final = 1009
FAILED: Final = 1011
_LONGEST_REASON: Final = 123  # bytes: a control frame holds 125, two of which are the code

CLIENT, UPSTREAM, GATEWAY = "client", "upstream", "gateway"


class Closing(NamedTuple):
    """How a socket ends: the code and reason of the closing side."""

    code: int
    reason: str
    by: str
    failure: str | None = None  # the reason in the log, where it is a failure

    def for_client(self) -> tuple[int, str]:
        """The code and reason for the client."""
        if self.by == UPSTREAM and self.code == LOST:  # never as if the upstream had sent it
            return FAILED, "the service is gone"
        return sendable(self.code), shortened(self.reason)

    def for_upstream(self) -> tuple[int, str]:
        """The code and reason for the upstream."""
        if self.by == CLIENT and self.code == LOST:
            return GOING_AWAY, ""
        return sendable(self.code), shortened(self.reason)


def may_be_sent(code: int) -> bool:
    """Whether an endpoint may send this code (RFC 6455, section 7.4.2, and IANA's registry)."""
    return (1000 <= code <= 1014 and code not in {1004, NONE_GIVEN, LOST}) or 3000 <= code <= 4999


def sendable(code: int) -> int:
    """The code, or the nearest one that may be sent: no code at all is a normal end."""
    if may_be_sent(code):
        return code
    return NORMAL if code == NONE_GIVEN else FAILED


def shortened(reason: str) -> str:
    """A reason that fits into a control frame, cut between two characters."""
    return reason.encode()[:_LONGEST_REASON].decode(errors="ignore")
