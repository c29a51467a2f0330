"""The plan of a fan-out: what each part needs, and in which order parts can run.

A part's target is `upstream:/path?query` with placeholders: `{id}` is a parameter of the route's path, `{query.page}`
one of the client's query, `{header.x-tenant}` a field of its request, `{user.team_id}` a field of another part, and
`{orders[].product_id}` that field of every item of a list: such a part is mapped, one call for each distinct target.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.cache.policy import Rule
from gateway.http.field_template import Value
from gateway.http.values import OWN, problem_of
from gateway.legacy.view import Legacy
from gateway.upstreams.options import Fields
from gateway.upstreams.targets import LAST, RESERVED, PartTarget, Reference, function_target


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a fan-out. `default` is the JSON text that replaces a failed optional part."""

    name: str
    target: PartTarget
    optional: bool = False
    default: bytes = b"null"
    timeout_s: float | None = None  # within the route's
    pick: tuple[str, ...] = ()
    method: str = "GET"
    headers: Fields = ()
    max_body_bytes: int = 10 * 2**20
    cache: Rule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fan:
    """The parts of a route, and the options for all of them."""

    parts: tuple[Part, ...]
    merge: str = "keyed"
    concurrency: int = 8  # calls of one mapped part at a time
    max_items: int = 100  # calls of one mapped part
    passes: frozenset[int] = frozenset()  # statuses of a required part that become the answer's
    forward: tuple[str, ...] | None = None  # further client fields that are sent to parts


# -- the plan -----------------------------------------------------------------------------------------------------
def needs(target: PartTarget, parts: Iterable[str]) -> frozenset[str]:
    """The parts that a target refers to."""
    return frozenset(reference.owner for reference in target.references) & frozenset(parts)


def problems(
    targets: Mapping[str, PartTarget], params: Sequence[str], *, merge: str = "keyed"
) -> Iterator[tuple[str, str]]:
    """Faults in the parts of a route with these path parameters: (part, sentence)."""
    for name, target in targets.items():
        if name in RESERVED or name in params:
            what = "a parameter of the path" if name in params else "the client's request"
            yield name, f"a part cannot be called {name}: in a target {{{name}}} is {what}"
        if name == LAST:
            yield name, f"a part cannot be called {name}: so is the last event of a stream"
        if merge == "flat" and target.mapped is not None:
            yield name, f"the part {name} is a list, which has no members to be merged flat"
        for reference in target.references:
            if (fault := _fault_of(reference, target, targets, params)) is not None:
                yield name, fault
    for name in _in_cycles({name: target for name, target in targets.items() if name not in {*RESERVED, *params}}):
        yield name, f"the part {name} waits for itself, through {', '.join(sorted(needs(targets[name], targets)))}"


def _fault_of(
    reference: Reference, target: PartTarget, targets: Mapping[str, PartTarget], params: Sequence[str]
) -> str | None:
    owner, text = reference.owner, reference.text
    if owner in RESERVED:
        if len(reference.fields) != 1 or reference.item_fields is not None:
            return f"{text} needs one name, as in {{{owner}.{'page' if owner == 'query' else 'x-tenant'}}}"
        return None
    if owner in params:
        return None if not reference.fields and reference.item_fields is None else f"{text}: {owner} is a text"
    if owner in targets:
        return None
    if owner in OWN and not target.is_function:  # a function's parameters are no template
        words = (owner, *reference.fields)
        return (problem := problem_of(Value(text, words))) and f"{text} {problem}"
    known = [f"{{{param}}}" for param in params] + [f"{{{part}...}}" for part in targets]
    return f"{text} is neither a parameter of the path nor a part; there are {', '.join(known)}"


def _in_cycles(targets: Mapping[str, PartTarget]) -> list[str]:
    """The parts that can never start, because they wait for each other."""
    waiting = {name: needs(target, targets) for name, target in targets.items()}
    while ready := [name for name, others in waiting.items() if not others & waiting.keys()]:
        for name in ready:
            del waiting[name]
    return [name for name, others in waiting.items() if name in _reachable(others, waiting)]


def _reachable(start: Iterable[str], waiting: Mapping[str, frozenset[str]]) -> set[str]:
    seen: set[str] = set()
    queue = list(start)
    while queue:
        name = queue.pop()
        if name not in seen and name in waiting:
            seen.add(name)
            queue.extend(waiting[name])
    return seen


def with_functions(fan: Fan, functions: Mapping[str, Legacy]) -> Fan:
    """The fan-out with the dependencies of its function parts, taken from their signatures."""
    names = [part.name for part in fan.parts]

    def asking(part: Part) -> Part:
        if part.name not in functions:
            return part
        return replace(part, target=function_target(part.target.text, functions[part.name].asks_for(names)))

    return replace(fan, parts=tuple(asking(part) for part in fan.parts))
