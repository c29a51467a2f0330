"""Answers of the gateway's own, checked against the route and the declared upstreams."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from gateway.answers.options import BODY_SUFFIX
from gateway.answers.replacements import replacements_of
from gateway.answers.targets import REDIRECTS, Answer, Folder, Page
from gateway.options import Level, nearest
from gateway.routing.patterns import PatternError, check_template
from gateway.routing.records import Route
from gateway.upstreams.targets import Target

_OF_A_TEXT = ("BODY", "TYPE")
# Options of calls that a route without an upstream may have: the others mean nothing there.
_ABOUT_CALLS = frozenset({"PATH", "LEGACY", "CACHE", "CACHE_MAX_BODY", "STALE_IF_ERROR"})


def faults_of(route: Route, given: Collection[str], of_calls: Collection[str]) -> Iterator[tuple[str, str]]:
    """Faults of the options that a route states itself: (option, sentence). `of_calls` are those of calls."""
    answer = route.answer
    for name in _OF_A_TEXT:
        if name in given and not (isinstance(answer, Answer) and answer.status not in REDIRECTS):
            yield name, "this is for a route that is a status, as in '/robots.txt -> 200'"
    if "TYPE" in given and "BODY" not in given:
        yield "TYPE", f"this means nothing without {route.variable}__BODY; set that too"
    if answer is None:
        return
    for name in given:
        is_about_calls = name in of_calls and name != "RESPONSE_HEADER_*"
        if (is_about_calls or name in _ABOUT_CALLS) and name != "PATH":
            yield name, "this means nothing for an answer of the gateway's own: there is no upstream"


def replacement_faults(routes: Iterable[Route], upstreams: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Faults of ON_* on the routes that use it: (variable, sentence, hint), each variable once."""
    reported: set[str] = set()
    for route in routes:
        rules = replacements_of(route.level)
        for rule in rules.rules if rules is not None else ():
            found = rule.replacement
            fault = hint = ""
            if isinstance(found, Target) and found.upstream not in upstreams:
                fault = f"there is no upstream {found.upstream}; set GATEWAY_UPSTREAM_{found.upstream.upper()}"
                hint = nearest(found.upstream, sorted(upstreams))
            elif isinstance(found, (Target, Answer)):
                try:
                    check_template(route.pattern, found.template)
                except PatternError as error:
                    fault = f"{error}, on {route.variable}"
            if rule.body is not None and not (isinstance(found, Answer) and found.status not in REDIRECTS):
                fault = fault or "its _BODY is for a status alone, as in ON_5XX=503"
            if fault and rule.variable not in reported:
                reported.add(rule.variable)
                yield rule.variable, fault, hint
        for word, value in route.level.members.get("on", {}).items():
            variable = route.level.variable("on", word)
            is_alone = isinstance(value, str) and word.removesuffix(BODY_SUFFIX) not in route.level.members["on"]
            if is_alone and variable not in reported:
                reported.add(variable)
                yield variable, f"this means nothing without {variable.removesuffix('_BODY')}; set that too", ""


def mirror_faults(
    routes: Iterable[Route], levels: Iterable[Level], upstreams: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    """Unknown upstreams of copies: (variable, sentence, hint), each variable once."""
    held = {level.variable("mirror"): level.get("mirror") for level in (*levels, *(route.level for route in routes))}
    for variable, name in held.items():
        if name is not None and name not in upstreams:
            fault = f"there is no upstream {name}; set GATEWAY_UPSTREAM_{name.upper()}"
            yield variable, fault, nearest(name, sorted(upstreams))


def missing_files(routes: Iterable[Route]) -> Iterator[str]:
    """A sentence for each missing folder, file or page."""
    for route in routes:
        answer = route.answer
        if isinstance(answer, Folder) and not _is_there(answer):
            yield f"{route.variable}: there is no {'folder' if answer.rest else 'file'} {answer.path}"
        rules = replacements_of(route.level)
        for rule in rules.rules if rules is not None else ():
            if isinstance(rule.replacement, Page) and not Path(rule.replacement.path).is_file():
                yield f"{rule.variable}: there is no file {rule.replacement.path}"


def _is_there(folder: Folder) -> bool:
    path = Path(folder.path)
    return path.is_dir() if folder.rest else path.is_file()


def redirect_loops(routes: Iterable[Route], *, knows_scheme: bool) -> Iterator[str]:
    """A warning for each redirect to https that leads to its own URL: behind a balancer it would never end."""
    for route in routes:
        answer = route.answer
        if not isinstance(answer, Answer) or not answer.origin.startswith("https://") or knows_scheme:
            continue
        host = answer.origin.removeprefix("https://").partition(":")[0]
        path = answer.text.partition("https://")[2].partition("/")[2].partition("#")[0].partition("?")[0]
        if any(one.host in {"", host} and f"/{path}" == one.path for one in route.pattern.paths):
            yield (
                f"{route.variable}: this redirect to https leads to the same route. Where a proxy in front ends TLS it "
                "never ends: use GATEWAY_HTTPS=redirect, and name that proxy in GATEWAY_TRUSTED_PROXIES"
            )
