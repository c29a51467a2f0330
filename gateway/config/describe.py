"""The routing table as rows of words, and the file that it comes from."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.urls import URLPattern

from gateway.auth.rules import Requirement
from gateway.config import effective
from gateway.config.table import TABLE
from gateway.fanout.options import OF_FAN
from gateway.fanout.view import Fanout
from gateway.limits.grammar import text_of
from gateway.proxy.mirror import text_of_share
from gateway.proxy.view import Proxy
from gateway.routing.conditions import text_of as text_of_when
from gateway.routing.entries import GatewayRoute, describe
from gateway.routing.middleware import name_of_middleware
from gateway.routing.urls import Routes


def rows(routes: Routes) -> list[dict[str, Any]]:
    """The effective routing table, a row per route: pattern, target, name, origin as written, and the options set."""
    table: list[dict[str, Any]] = [
        {
            "pattern": route.rule.text,
            "target": describe(route),
            "name": route.name or "",
            "origin": route.origin,
            "options": _options_of(route),
            "inherited": inherited(route),
        }
        for route in routes.routes
    ]
    for other in routes.others:
        target, name = (describe(other), other.name or "") if isinstance(other, URLPattern) else ("included", "")
        row = {"pattern": str(other.pattern), "target": target, "name": name, "origin": "urlpatterns"}
        table.append({**row, "options": {}, "inherited": {}})
    return table


def inherited(route: GatewayRoute) -> dict[str, str]:
    """The options that a route inherits from its upstream or from a plain variable, each with that variable."""
    view, prefix = route.endpoint, f"{route.origin.removesuffix('_FILE')}__"
    own = effective.options_of_call(view.own) if isinstance(view, (Proxy, Fanout)) else {}
    held = {
        _word(attribute, member): variable
        for (attribute, member), variable in sorted(route.level.variables.items())
        if attribute in _OF_ROUTE and not variable.startswith(prefix)
    }
    return {word: variable for word, variable in held.items() if word not in own}


_OF_ROUTE = {
    option.attribute: option for (family, _), option in TABLE.items() if family == "route" and option not in OF_FAN
}


def _word(attribute: str, member: str) -> str:
    """The name of an option in lower case: `timeout`, `header_x_tenant`."""
    return _OF_ROUTE[attribute].name.replace("*", member.replace("-", "_")).lower()


def _text(value: object) -> str:
    if isinstance(value, float):
        return text_of_share(value)
    return ("on" if value else "off") if isinstance(value, bool) or value is None else str(value)


def _options_of(route: GatewayRoute) -> dict[str, str]:
    view = route.endpoint
    shown = effective.options_of_call(view.own) if isinstance(view, (Proxy, Fanout)) else {}
    if isinstance(view, Fanout):
        shown |= effective.options_of_fan(view.fan)
    if route.cache is not None:
        shown |= effective.options_of_cache(route.cache.rule)
    if route.rule.ignores_case:
        shown["case"] = "ignore"
    if route.rule.when:
        shown["when"] = text_of_when(route.rule.when)
    if route.raw_path:
        shown["path"] = "raw"
    shown |= _asked_of_clients(route.stack.requirements)
    if route.level.variable("rate_limit").startswith(route.origin):
        shown["rate_limit"] = text_of(route.level.get("rate_limit", ()))
    for name in ("compress", "mirror", "mirror_share", "mirror_unsafe"):
        if route.level.variable(name).startswith(route.origin):
            shown[name] = _text(route.level.get(name))
    if "cost" in route.level.values:
        shown["cost"] = str(route.level.get("cost", 1))
    if middleware := route.level.get("middleware"):
        shown["middleware"] = ",".join(map(name_of_middleware, middleware))
    return shown if route.cors is None else {**shown, "cors": ",".join(route.cors)}


def _asked_of_clients(requirements: Sequence[Requirement]) -> dict[str, str]:
    """What clients must satisfy, from all levels: a guarded route must not look open."""
    words = {
        "auth": [str(one.rule) for one in requirements],
        "roles": [role for one in requirements for role in one.roles],
        "scopes": [scope for one in requirements for scope in one.scopes],
    }
    return {word: ",".join(dict.fromkeys(given)) for word, given in words.items() if given}


def file_of(urlconf: str) -> str:
    """The file of the routes module, once it is loaded; empty where it has none."""
    return getattr(sys.modules.get(urlconf), "__file__", None) or ""


def own_file_of(urlconf: str) -> str:
    """As `file_of`, but empty for the routes.py that comes with the gateway."""
    file = file_of(urlconf)
    return "" if file and Path(file) == _SHIPPED else file


_SHIPPED = Path(__file__).resolve().parent.parent.parent / "routes.py"
