"""Valid values that are probably mistakes, and problems that follow from another one: hints for readers of `check`."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gateway.config.records import Problem, Settings
from gateway.routing.patterns import Pattern
from gateway.routing.records import Route
from gateway.upstreams.records import Upstream
from gateway.upstreams.targets import Template

_UNREADABLE = "cannot read the file "
_IN_A_SHELL = "no target; in a shell"
_EXPRESS = re.compile(r":([A-Za-z_]\w*)", re.ASCII)
_HERE = {"127.0.0.1", "localhost", "::1"}
_ANYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - only compared, not bound


def without_consequences(problems: Iterable[Problem]) -> list[Problem]:
    """The problems, without those about a missing variable that has a file which could not be read."""
    problems = list(problems)
    unreadable = [
        one.variable.removesuffix("_FILE")
        for one in problems
        if one.variable.endswith("_FILE") and one.message.startswith(_UNREADABLE)
    ]
    return [one for one in problems if not any(_follows(one, variable) for variable in unreadable)]


def _follows(problem: Problem, variable: str) -> bool:
    if problem.message.startswith(_UNREADABLE):
        return False
    if problem.message.startswith(_IN_A_SHELL):  # for a route with a part that could not be read
        return variable.startswith(f"{problem.variable}__PART_")
    return re.search(rf"\b{re.escape(variable)}(?:_FILE)?\b", problem.message) is not None


def warnings(routes: Sequence[Route], upstreams: Mapping[str, Upstream], settings: Settings) -> Iterator[str]:
    """A sentence for each route and upstream that is valid, and probably not what was meant."""
    for route in routes:
        for path in route.pattern.paths:
            yield from _of_path(route, path)
    for upstream in upstreams.values():
        for base in upstream.bases:
            if base.port == settings.bind[1] and _is_here(base.host, settings.bind[0]):
                leads = f"{base.origin} is the gateway itself, by GATEWAY_BIND"
                yield f"{upstream.variable}: {leads}: what goes there comes back, and is answered with 508"


def _of_path(route: Route, path: Pattern) -> Iterator[str]:
    host = path.host
    if host and "." not in host and host != "localhost":
        # By the grammar that is a host, and no request ever matches it.
        yield f"{route.variable}: '{host}' is taken for a host; a path begins with a slash: '/{host}/...'"
    for name in (match[1] for match in map(_EXPRESS.fullmatch, path.path.split("/")) if match is not None):
        yield f"{route.variable}: ':{name}' stands for itself; a value is written in braces: '{{{name}}}'"
    target = route.target
    if path.rest and target is not None and target.template is not None and _is_one_path(target.template):
        text = target.shown().text
        yield f"{route.variable}: all of '{path.path}' becomes one path, {text}; did you mean {text.rstrip('/')}/**?"


def _is_one_path(template: Template) -> bool:
    """Whether a target is one path for all requests, and no file, such as the one page of a browser application."""
    last = template.text.partition("?")[0].rpartition("/")[2]
    return not template.rest and not template.references and "." not in last and "?" not in template.text


def _is_here(host: str, bound: str) -> bool:
    """Whether the host of an upstream is the gateway's own address, judged by the names."""
    return host == bound or (host in _HERE and (bound in _ANYWHERE or bound in _HERE))


def unused_upstreams(upstreams: Mapping[str, Upstream], used: Iterable[str]) -> Iterator[str]:
    """A sentence for each upstream that nothing leads to."""
    for name in sorted(upstreams.keys() - set(used)):
        yield f"{upstreams[name].variable}: no route leads there, so that nothing reaches it"
