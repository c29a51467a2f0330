"""The parts of a fan-out in their order, with the call for each."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from gateway.config.records import Config
from gateway.errors import GatewayError, Reason
from gateway.fanout.run import Gathering, Step, steps_for
from gateway.fanout.view import Fanout
from gateway.http.headers import Pairs
from gateway.http.request import GatewayRequest
from gateway.management.explain_call import Section, changes_rows, cors_rows, options_rows
from gateway.proxy.outgoing import own_pairs
from gateway.routing.entries import GatewayRoute
from gateway.units import format_duration
from gateway.upstreams.targets import Reference, TargetValueError


def fanned_out(config: Config, request: GatewayRequest, route: GatewayRoute, view: Fanout) -> Iterator[Section]:
    pools: Any = {name: SimpleNamespace(upstream=upstream) for name, upstream in config.upstreams.items()}
    steps = steps_for(view, pools)
    whole = view.whole
    gathering = Gathering(view.fan, steps, whole.timeout_s, request, view.own)
    yield Section("Parts, those of one number at the same time", _parts(gathering, steps, whole.timeout_s))
    pairs: Pairs = []
    for forward in dict.fromkeys(step.sent.forward for step in steps):
        seen = {name for name, _ in pairs}
        pairs += [pair for pair in own_pairs(request, forward) if pair[0] not in seen]
    kept = [row for row in changes_rows(request, pairs, {}, request.raw_headers) if row[0] != "removed"]
    kept += [
        ["set", name.decode(), "***", f"for the part {step.part.name}"]
        for step in steps
        for name, _ in step.sent.changes
    ]
    yield Section("Headers that go to parts", kept)
    deadline = [
        ["TIMEOUT", format_duration(whole.timeout_s), "the whole; " + options_rows(whole, view.own, route, None)[0][2]]
    ]
    yield Section("Options", deadline)
    retried = {step.upstream.name: step.upstream for step in steps if step.upstream is not None}
    yield Section("Retries", [[name, f"at most {upstream.retries} more"] for name, upstream in retried.items()])
    changes = [["set" if value else "removed", name, "***" if value else ""] for name, value in whole.response_headers]
    yield Section("Headers of the answer", [*changes, *cors_rows(route)])


def _parts(gathering: Gathering, steps: Sequence[Step], deadline_s: float) -> list[list[str]]:
    """The parts in the order in which they can begin; placeholders stand for values of other parts."""
    begun: dict[str, int] = {}
    waiting = list(steps)
    rows = []
    while waiting:
        ready = [step for step in waiting if step.needs <= begun.keys()]
        turn = max(begun.values(), default=0) + 1
        for step in ready:
            part = step.part
            try:
                url = _asked(gathering, step)
            except GatewayError as error:
                if not part.optional:
                    raise
                url = f"{error.reason.word}: {error.detail}"
            after = f"after {', '.join(sorted(step.needs))}" if step.needs else ""
            fails = f"optional: {part.default.decode()}" if part.optional else "required"
            limit = min(part.timeout_s or deadline_s, step.timeout_s)
            each = ", a call for each item" if part.target.mapped else ""
            rows.append([str(turn), part.name, url + each, format_duration(limit), fails, after])
        begun |= dict.fromkeys((step.part.name for step in ready), turn)
        waiting = [step for step in waiting if step not in ready]
    return rows


def _asked(gathering: Gathering, step: Step) -> str:
    """The call that makes a part."""
    if step.upstream is None:
        return f"{step.function.__name__}()" if step.function is not None else ""
    return f"{step.part.method} {step.upstream.places[0]}{_filled(gathering, step)}"


def _filled(gathering: Gathering, step: Step) -> str:
    target, unknown = step.part.target.shown(), set[str]()

    def text_of(reference: Reference) -> str:
        if reference.owner in step.needs:
            unknown.add(reference.text)
            return reference.text
        return gathering.text_of(reference)

    try:
        text = target.template.fill(gathering.raw, text_of)
    except TargetValueError as error:
        raise GatewayError(
            Reason.TEMPLATE_VALUE, f"The value of {error.reference.text} cannot stand in its URL."
        ) from None
    for placeholder in unknown:
        text = text.replace(quote(placeholder, safe=""), placeholder)
    return text
