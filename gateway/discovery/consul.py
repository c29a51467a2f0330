"""Queries for Consul, and its answers: GET /v1/health/service/NAME, as a blocking query.

A query with the index of the last answer waits until something has changed, or `wait` is over. An index may go back
when a server was restored: then the query starts anew (Consul's documentation, Blocking Queries).
"""

from functools import partial
from typing import Final
from urllib.parse import quote

import msgspec

from gateway.discovery.answers import Away, instance_at, instances_among
from gateway.upstreams.places import Instance, Source

WAIT_S: Final = 60.0  # the wait for a change; Consul adds up to a sixteenth, so that clients do not all return at once


class _Weights(msgspec.Struct):
    passing: float = msgspec.field(default=1, name="Passing")


class _Service(msgspec.Struct):
    port: int = msgspec.field(name="Port", default=0)
    address: str = msgspec.field(name="Address", default="")
    weights: _Weights | None = msgspec.field(name="Weights", default=None)


class _Node(msgspec.Struct):
    address: str = msgspec.field(name="Address", default="")


class _Entry(msgspec.Struct):
    service: _Service = msgspec.field(name="Service")
    node: _Node | None = msgspec.field(name="Node", default=None)


_decode = msgspec.json.Decoder(list[_Entry]).decode


def target_of(source: Source, index: int, wait_s: float) -> str:
    """The query for the instances with passing checks; with an index it waits for a change."""
    query = ["passing=1", *(f"tag={quote(tag, safe='')}" for tag in source.tags)]
    if index:
        query += [f"index={index}", f"wait={max(1, round(wait_s))}s"]
    return f"/v1/health/service/{quote(source.name, safe='')}?{'&'.join(query)}"


def next_index(before: int, field: bytes | None) -> int:
    """The index for the next query: 0 if there is none, or if it has gone back."""
    try:
        index = int(field or b"")
    except ValueError:
        return 0
    # "Clients should sanity check that their index is at least 1", or they would never wait.
    return 0 if index < before else max(1, index)


def instances_of(source: Source, body: bytes) -> tuple[Instance, ...]:
    """The instances of an answer; one without a port is left out. Raises Away for an unreadable answer."""
    try:
        return instances_among(_decode(body), partial(_instance, source))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Away(f"its answer is no list of instances: {error}"[:300]) from error


def _instance(source: Source, entry: _Entry) -> Instance | None:
    """An instance at the service's own address, or at that of its node."""
    service = entry.service
    if not service.port:
        return None
    host = service.address or (entry.node.address if entry.node is not None else "")
    weight = 1.0 if service.weights is None else max(0.0, service.weights.passing)
    return instance_at(source.scheme, host, service.port, source.prefix, weight)
