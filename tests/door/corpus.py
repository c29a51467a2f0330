"""The cases: bytes that a client may send, what RFC 9112 says of them, and the one meaning that may go up.

Our own matrix stands in `cases_*.py`, one module a part of a request. What others test is stated again in
`restated.py`, as cases of ours; `loaders.py` reads their own files, from folders that somebody has unpacked by hand.

An expectation is one of four:
- `VALID`: must go up, with exactly this meaning;
- `INVALID`: must be refused;
- `REPAIRED`: must be refused by the letter, HOWEVER Granian repairs it unseen by us, to the one meaning that
  docs/door.md states;
- `EITHER`: the RFC leaves it to the recipient, or a policy of the gateway stricter than the RFC refuses it. What goes
  up is clean and has exactly this meaning.
A case that holds several requests expects the first ones to go up, in order, as many as it has meanings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from .strict import Fault, Field, Request, read_all


class Expect(Enum):
    VALID = "valid"
    INVALID = "invalid"
    EITHER = "either"
    REPAIRED = "repaired"


VALID, INVALID, EITHER, REPAIRED = Expect.VALID, Expect.INVALID, Expect.EITHER, Expect.REPAIRED


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a request says, however it is spelled: the target in origin-form, the body without its coding."""

    method: bytes
    target: bytes
    body: bytes = b""
    fields: tuple[Field, ...] = ()  # end to end, names in lower case
    host: bytes = b""  # in lower case, with its port unless that is 80
    or_target: bytes | None = None  # the target by the letter, where `target` is what it is repaired to

    def __repr__(self) -> str:
        return f"{self.method!r} {self.target!r} {len(self.body)} bytes"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    raw: bytes
    expect: Expect
    source: str
    meanings: tuple[Meaning, ...] = ()
    corpus: str = "own"
    requests: int = 1  # so many answers may come
    has_head: bool = False  # its first head is whole: a proxy may send it up before it sees what is wrong behind it
    is_cut: bool = False  # its last request is not whole, yet nothing in it ends the reading: what follows is its rest
    must_close: bool = False  # its framing is such that no request may follow on the connection

    def __repr__(self) -> str:
        return self.name


# RFC 9112, 6.1 and 6.3: the server MUST close the connection after its answer.
_CLOSING = frozenset(
    (
        Fault.LENGTH_INVALID,
        Fault.LENGTH_HUGE,
        Fault.LENGTH_CONFLICT,
        Fault.LENGTH_BESIDE_CODING,
        Fault.CODING_NOT_FINAL,
        Fault.CODING_IN_1_0,
    )
)
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")
# What ends at a hop, what a proxy writes itself, and what it believes of nobody: not in the meaning of a request.
NOT_END_TO_END = frozenset(
    b"connection keep-alive proxy-connection proxy-authorization proxy-authenticate te trailer transfer-encoding "
    b"upgrade host content-length expect via forwarded x-request-id traceparent tracestate http2-settings "
    b"proxy x-real-ip x-original-url "
    # A relay makes a handshake of its own with the service (RFC 6455, section 4.1).
    b"sec-websocket-key sec-websocket-version sec-websocket-extensions".split()
)


def origin_form(target: bytes) -> bytes:
    """A target without scheme and authority; an empty path is `/` (RFC 9112, 3.2.1 and RFC 9110, 4.2.3)."""
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return target
    rest = target[absolute.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def meaning_of(request: Request) -> Meaning:
    """The meaning of a request as the strict reader read it."""
    dropped = NOT_END_TO_END | {
        option.strip(b" \t").lower() for value in request.values(b"connection") for option in value.split(b",")
    }
    fields = tuple(
        (name.lower(), b" ".join(value.split()))
        for name, value in request.fields
        if name.lower() not in dropped and not name.lower().startswith(b"x-forwarded-")
    )
    return Meaning(request.method, origin_form(request.target), request.body, fields, host_of(request))


def host_of(request: Request) -> bytes:
    """Whom the request is for: an absolute target says it, else Host (RFC 9112, 3.3)."""
    absolute = _ABSOLUTE.match(request.target)
    if absolute:
        host = absolute[0].partition(b"://")[2].rpartition(b"@")[2].lower()
    else:
        host = b"".join(request.values(b"host")[:1]).lower()
    return without_default_port(host)


def without_default_port(host: bytes) -> bytes:
    return next((host.removesuffix(port) for port in (b":", b":80", b":443") if host.endswith(port)), host)


def case(
    name: str,
    expect: Expect,
    raw: bytes,
    source: str,
    *,
    body: bytes | None = None,
    target: bytes | None = None,
    host: bytes | None = None,
    corpus: str = "own",
) -> Case:
    """A case whose meaning is what the strict reader makes of it; what a module states beside must agree with it.

    `target`, `body` and `host` state what a REPAIRED case is repaired to, where that is not what the reader guesses.
    """
    read = read_all(raw)
    good = []
    for request in read:
        if request.is_whole and all(fault.is_lenient for fault in request.faults):
            good.append(meaning_of(request))
        elif request.is_fatal or expect is not EITHER:
            break
    if expect is INVALID:
        good = []
    elif expect is REPAIRED:
        good = [meaning_of(read[0])]
    elif body is not None:
        assert good[0].body == body, f"{name}: the strict reader has the body {good[0].body!r}"
    if good:
        first = good[0]
        good[0] = replace(
            first,
            target=first.target if target is None else target,
            or_target=None if target is None or expect is REPAIRED else first.target,
            body=first.body if body is None else body,
            host=first.host if host is None else without_default_port(host),
        )
    return Case(
        name,
        raw,
        expect,
        source,
        tuple(good),
        corpus,
        max(len(read), 1),
        any(request.has_head for request in read[:1]),
        _is_cut(read),
        _must_close(read),
    )


def _is_cut(read: Sequence[Request]) -> bool:
    return bool(read) and not read[-1].is_whole and not read[-1].is_fatal


def _must_close(read: Sequence[Request]) -> bool:
    return any(fault in _CLOSING for request in read for fault in request.faults)


def expectation(raw: bytes) -> Expect:
    """What the strict reader alone says of these bytes; a cut request must not go up whole, so it is INVALID."""
    read = read_all(raw)
    faults = [fault for request in read for fault in request.faults]
    if faults[:1] == [Fault.BLANK_LINE_BEFORE]:
        faults = faults[1:]  # 2.2: one of them a server SHOULD ignore
    if not read or not all(request.is_whole for request in read) or not all(fault.is_lenient for fault in faults):
        return INVALID
    return EITHER if faults else VALID


# -- the cases of others ------------------------------------------------------------------------------------------

_COMMON_METHODS = frozenset(b"GET HEAD POST PUT DELETE OPTIONS PATCH".split())
_ODD_IN_TARGET = re.compile(rb"[\"<>\\^`{|}]|%(?![0-9A-Fa-f]{2})|(?:^|/)(?:\.|%2[eE]){1,2}(?:/|\?|$)|%00")
_TWIN = re.compile(rb"(content|transfer|host|x|proxy|via|forwarded)_|_(length|encoding|for|proto|host)", re.IGNORECASE)
# What Granian repairs unseen: see docs/door.md. A TARGET at fault is one only where it has a fragment.
_REPAIRABLE = frozenset(
    (Fault.CHUNK_SPACE, Fault.CHUNK_EXTENSION, Fault.TARGET, Fault.HOST_MISSING, Fault.HOST_DIFFERS)
)


def judged(name: str, raw: bytes, source: str, corpus: str) -> Case:
    """A case that others wrote: the strict reader and the policies of the gateway say what to expect, not they."""
    expect = expectation(raw)
    read = read_all(raw)
    if expect is not VALID and len(read) == 1 and _is_repaired(read[0]):
        path, fragment, _ = origin_form(read[0].target).partition(b"#")
        hosts = read[0].values(b"host")
        path = path.removesuffix(b"?") if fragment else path
        return case(name, REPAIRED, raw, source, target=path, host=hosts[0].lower() if hosts else None, corpus=corpus)
    if expect is INVALID and read and read[0].is_whole and all(fault.is_lenient for fault in read[0].faults):
        expect = EITHER  # a request that may go up comes before what is wrong
    if expect is VALID and (any(map(_is_policy, read)) or any(map(_closes, read[:-1]))):
        expect = EITHER
    return case(name, expect, raw, source, corpus=corpus)


def _is_repaired(request: Request) -> bool:
    faults = {fault for fault in request.faults if not fault.is_lenient or fault is Fault.HOST_DIFFERS}
    if not faults or not faults <= _REPAIRABLE or not request.is_whole:
        return False
    if Fault.TARGET in faults and not re.fullmatch(rb"/[!-\"$-~]*#[!-\"$-~]*", request.target):
        return False
    return Fault.HOST_MISSING not in faults or _ABSOLUTE.match(request.target) is not None


def _is_policy(request: Request) -> bool:
    """Valid, and yet refused or answered by the gateway itself, or left to it: docs/door.md says which and why."""
    return bool(
        request.method not in _COMMON_METHODS
        or request.target == b"*"
        or _ODD_IN_TARGET.search(request.target)
        or any(_TWIN.search(name) for name, _ in request.fields)
        or any(b"websocket" in value.lower() for value in request.values(b"upgrade"))
        or [value.lower() for value in request.values(b"expect")] not in ([], [b"100-continue"])
        or not all(map(_is_utf8, (value for _, value in request.fields)))
        or len(request.fields) > 100
        or b"," in b"".join(request.values(b"host"))
    )


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _closes(request: Request) -> bool:
    """Whether nothing is to be read behind this request."""
    options = b",".join(request.values(b"connection")).lower()
    return b"close" in options or (request.version == b"HTTP/1.0" and b"keep-alive" not in options)


__all__ = ["EITHER", "INVALID", "VALID", "Case", "Expect", "Fault", "Meaning", "case", "judged", "meaning_of"]


def own() -> list[Case]:
    """Our own matrix."""
    from . import cases_connection, cases_fields, cases_framing, cases_host, cases_request_line

    modules = (cases_request_line, cases_host, cases_framing, cases_fields, cases_connection)
    return [one for module in modules for one in module.cases()]
