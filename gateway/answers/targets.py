"""Targets of routes other than upstreams, and replacements of answers.

403                                a status
301 /spaces/                       a redirect; braces and `/**` as in the target of an upstream
308 https://example.com/**
file:/var/www/js-sdk/**            files of a folder; without `/**` one file
file:/srv/pages/404.html           in ON_404: a page, under the status that it stands in for
"""

import re
from dataclasses import dataclass

from gateway import units
from gateway.http.queries import joined, masked_target
from gateway.upstreams.targets import Reference, Target, TargetError, Template, parse_target, parse_template

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_STATUS = re.compile(r"[0-9]{3}")
_ORIGIN = re.compile(r"(https?://[^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_HAS_OWN_QUERY = frozenset({"url", "query"})  # a URL with these already has what it needs of the client's query


@dataclass(frozen=True, slots=True)
class Answer:
    """A status; a redirect also has its URL: an origin or '', a template, a fragment with its `#` or ''."""

    text: str
    status: int
    origin: str = ""
    template: Template | None = None
    fragment: str = ""

    @property
    def shown(self) -> str:
        """The text as it may be shown: a value in its query may be a key."""
        return masked_target(self.text)

    @property
    def keeps_query(self) -> bool:
        """Whether the client's query is added, unless the URL includes it already."""
        references: tuple[Reference, ...] = self.template.references if self.template is not None else ()
        return all(reference.owner not in _HAS_OWN_QUERY for reference in references)

    def location(self, path: str, own_query: str, client_query: str) -> str:
        """The Location from a filled path and query. A path that a browser would read as a host stays a path."""
        query = joined(own_query, client_query if self.keeps_query else "")
        path = path.replace("\\", "%5C")
        if not self.origin and path.startswith("//"):
            path = "/." + path  # RFC 3986, section 4.2: `//` begins an authority
        return f"{self.origin}{path}{'?' + query if query else ''}{self.fragment}"


@dataclass(frozen=True, slots=True)
class Folder:
    """Files below a folder (`rest`), or one file."""

    text: str
    path: str
    rest: bool


@dataclass(frozen=True, slots=True)
class Page:
    """A file that stands in for an answer, under its status."""

    text: str
    path: str


def parse_own(text: str) -> Answer | Folder | None:
    """The target of a route, if it is an answer of the gateway's own; None for an upstream's. Raises TargetError."""
    text = text.strip()
    if text.startswith("file:"):
        path = text.removeprefix("file:")
        if not path or any(char < " " for char in path):
            raise TargetError("a folder is written file:/var/www/site/**, one file file:/srv/robots.txt")
        rest = path.endswith("/**")
        return Folder(text, path.removesuffix("/**") or "/", rest)
    status, _, url = text.partition(" ")
    return _answer(text, status, url.strip()) if _STATUS.fullmatch(status) else None


def parse_replacement(text: str) -> Answer | Page | Target:
    """Parse a replacement of an answer. Raises TargetError."""
    found = parse_own(text)
    if isinstance(found, Folder):
        if found.rest:
            raise TargetError("one file stands in for an answer: file:/srv/pages/404.html")
        return Page(found.text, found.path)
    return found or parse_target(text)


def _answer(text: str, word: str, url: str) -> Answer:
    status = int(word)
    if not 200 <= status <= 599:
        raise TargetError("expected a status from 200 to 599")
    if status in REDIRECTS:
        if not url:
            raise TargetError(f"{status} needs the URL that it leads to: {status} /there or {status} https://...")
        return _redirect(text, status, url)
    if url:
        raise TargetError(f"{status} leads nowhere; a URL stands after 301, 302, 303, 307 and 308")
    if 300 <= status <= 399:
        raise TargetError(f"{status} is no answer of its own; a redirect is 301, 302, 303, 307 or 308")
    return Answer(text, status)


def _redirect(text: str, status: int, url: str) -> Answer:
    whole, hash_, fragment = url.partition("#")
    match = _ORIGIN.fullmatch(whole)
    origin, target = (match[1], match[2] or "/") if match is not None else ("", whole)
    if origin:
        try:
            units.base_url(origin)
        except ValueError as error:
            raise TargetError(f"the redirect's host: {error}; values in braces cannot stand there") from None
    if not target.startswith("/") or (not origin and target.startswith("//")):
        raise TargetError(
            f"'{masked_target(whole)}' is no place to go: a path begins with one slash, a URL with https:// or http://"
        )
    if any(not "!" <= char <= "~" or char in "{}" for char in fragment):
        raise TargetError("a fragment holds no white space, no braces, and only ASCII")
    return Answer(text, status, origin.lower() if origin else "", parse_template(target), hash_ + fragment)
