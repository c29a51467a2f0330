"""Location fields that point at the upstream's own base, rewritten for the client."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
# A location that begins like this names another host (RFC 3986, section 4.2); for a browser with a backslash too
# (WHATWG URL).
_NETWORK_PATH = ("//", "/\\")
# Browsers and urlsplit drop these anywhere in a URL, so that it does not mean what it seems to.
_DROPPED = re.compile(r"[\t\r\n]")


@dataclass(frozen=True, slots=True)
class PathMap:
    """How a route maps paths: a path below `gateway` went up below `upstream`; both raw, no trailing slash."""

    upstream: str
    gateway: str

    def back(self, path: str) -> str | None:
        """An upstream's raw path (with query and fragment) as the client's; None where no client path leads there."""
        if not path.startswith(self.upstream):
            return None
        tail = path[len(self.upstream) :]
        if tail and tail[0] not in "/?#":
            return None
        moved = self.gateway + tail
        if not moved.startswith("/"):
            moved = "/" + moved
        return None if moved.startswith(_NETWORK_PATH) else moved


def origin_of(url: str) -> tuple[str, str, int] | None:
    """(scheme, host, port) of an absolute http(s) URL, else None."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    # A backslash ends the authority for a browser, and not for urlsplit.
    if parts.scheme not in _PORTS or not parts.hostname or "\\" in parts.netloc:
        return None
    return parts.scheme, parts.hostname, _PORTS[parts.scheme] if port is None else port


Origin = tuple[str, str, int]


def asked_origins(schemes: Iterable[str], hosts: Iterable[str]) -> frozenset[Origin]:
    """The origins under which the client may have asked: each scheme with each of the named hosts."""
    found = (origin_of(f"{scheme}://{host}") for scheme in schemes for host in hosts)
    return frozenset(origin for origin in found if origin is not None)


def rewritten(location: str, own: frozenset[Origin], paths: PathMap, asked: frozenset[Origin] = frozenset()) -> str:
    """The Location to send on; unchanged when it points elsewhere, or where no path of the gateway leads.

    `own` are the origins of the upstream itself: its base URLs. The origins in `asked`, under which the client asked,
    also mean the upstream if the client's Host goes up. A redirect from one of their hosts to its other scheme, mostly
    from http to https, keeps that scheme: its path is the upstream's all the same.
    """
    if _DROPPED.search(location):
        return location
    if location.startswith("/") and not location.startswith(_NETWORK_PATH):
        return paths.back(location) or location
    # `//host/path` is relative to the upstream's own scheme, whichever that is.
    absolute = [f"http:{location}", f"https:{location}"] if location.startswith("//") else [location]
    origins = [origin_of(url) for url in absolute]
    is_own = any(origin in own or origin in asked for origin in origins)
    if not is_own and not _is_other_scheme(origins[0], asked):
        return location
    after_scheme = location.index("//") + 2
    cut = min((cut for mark in "/?#" if (cut := location.find(mark, after_scheme)) >= 0), default=len(location))
    path = location[cut:]
    moved = paths.back(path if path.startswith("/") else "/" + path)
    if moved is None:
        return location
    return moved if is_own else location[:cut] + moved


def _is_other_scheme(origin: Origin | None, asked: frozenset[Origin]) -> bool:
    """Whether it is a host that the client asked, on the default port of another scheme."""
    if origin is None or origin[2] != _PORTS[origin[0]]:
        return False
    return any(host == origin[1] and scheme != origin[0] for scheme, host, _ in asked)
