"""What options add to a call and remove from it: header fields, parameters of the query, fields of the client.

Compiled once for a view and an upstream; options without values in braces and without lists cost a request nothing.
"""

import copy
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from urllib.parse import quote

import structlog

from gateway.cache.freshness import CONDITIONS
from gateway.cache.tracked_request import TrackedRequest
from gateway.http import queries, values
from gateway.http.field_template import FieldTemplate, Value
from gateway.http.headers import OWS, Pairs, encoded_changes
from gateway.http.request import GatewayRequest
from gateway.observe.throttle import at_most_every
from gateway.upstreams.options import Fields, ProxyOptions

Changes = tuple[tuple[bytes, bytes | None], ...]

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
_dropped = at_most_every(60)


class Sent:
    """Compiled options of a call: `words` are those in its values, `changes` the fields that are the same in each
    call."""

    def __init__(self, options: ProxyOptions, further: Fields = (), forward: Sequence[str] | None = None) -> None:
        fields = tuple({**dict(options.headers), **dict(further)}.items())
        self.changes: Changes = encoded_changes(fields)
        self._templates = [(name.encode(), value) for name, value in fields if isinstance(value, FieldTemplate)]
        self._parameters = tuple({**dict(options.query_list or ()), **dict(options.query)}.items())
        query_names = options.forward_query
        self._query_names = None if query_names is None or "*" in query_names else frozenset(query_names)
        self.forward = options.forward_headers if options.forward_headers is not None else forward
        self.passing = None if self.forward is None or "*" in self.forward else Passing(self.forward)
        self.changes_fields = bool(self.changes or self._templates) or self.passing is not None
        self.changes_query = bool(self._parameters) or self._query_names is not None
        self.words = tuple(value.words for value in self._values())

    def _values(self) -> Iterator[Value]:
        for _, template in self._templates:
            yield from template.values
        for _, value in self._parameters:
            yield from value.values if isinstance(value, FieldTemplate) else ()

    def shown(self) -> "Sent":
        """The same as it may be shown: values of parameters are masked."""
        other = copy.copy(self)
        other._parameters = tuple((name, value if value is None else "***") for name, value in self._parameters)
        return other

    def changes_for(self, request: GatewayRequest) -> Changes:
        """The fields that are set in a call for this request; None as a value removes one."""
        if not self._templates:
            return self.changes
        return (*self.changes, *((name, _field(template, request, name)) for name, template in self._templates))

    def query_for(self, request: GatewayRequest, own: str, client: str) -> str:
        """The query to send, from the target's own and the client's (each without its question mark)."""
        if self._query_names is not None:
            client = queries.only(client, self._query_names)
        whole = queries.joined(own, client)
        return queries.changed(whole, self._encoded(request)) if self._parameters else whole

    def target_for(self, request: GatewayRequest, target: str) -> str:
        """The target of a call of the gateway's own, which has no query of the client's."""
        if not self._parameters:
            return target
        path, _, own = target.partition("?")
        whole = queries.changed(own, self._encoded(request))
        return f"{path}?{whole}" if whole else path

    def _encoded(self, request: GatewayRequest) -> Iterator[tuple[str, str | None]]:
        for name, value in self._parameters:
            if isinstance(value, FieldTemplate):
                filled = _filled(value, request, name.encode())
                yield name, None if filled is None else quote(filled, safe="")
            else:
                yield name, None if value is None else quote(value, safe="*")

    def note_read(self, request: GatewayRequest) -> None:
        """Report what a call for this request depends on beyond Vary, to a cache around a view of the team's own."""
        if self.words and isinstance(request, TrackedRequest):
            request.fields_read.update(".".join(words) for words in values.beyond_url(self.words))


class Passing:
    """The fields of the client that go up: names in lower case, some of which end in `*`."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(name.encode() for name in names if not name.endswith("*"))
        self._prefixes = tuple(name.removesuffix("*").encode() for name in names if name.endswith("*"))

    def of(self, pairs: Iterable[tuple[bytes, bytes]], *, for_cache: bool = False) -> Pairs:
        """The pairs that pass. For a cache (`for_cache`), conditions always pass: they are not the client's."""
        names = self._names | CONDITIONS if for_cache else self._names
        return [pair for pair in pairs if pair[0] in names or pair[0].startswith(self._prefixes)]


def _field(template: FieldTemplate, request: GatewayRequest, name: bytes) -> bytes | None:
    """A field's value. White space alone counts as none: else an empty field would be sent."""
    filled = _filled(template, request, name)
    return None if filled is None else filled.strip(OWS) or None


def _filled(template: FieldTemplate, request: GatewayRequest, name: bytes) -> bytes | None:
    """The value, never an empty one. One that does not fit in a field (a line break, not UTF-8) is reported, not
    set."""
    value_of = partial(values.value_of, request)
    filled = template.fill(value_of)
    is_unfit = filled is None and all(value_of(one.words) or one.default for one in template.values)
    if is_unfit and _dropped.take(time.monotonic()):
        words = ["{" + ".".join(one.words) + "}" for one in template.values]
        more = _dropped.take_held_back()
        _log.warning("value.dropped", field=name.decode(), values=words, route=request.exchange.route, more=more)
    return filled or None
