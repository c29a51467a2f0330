"""The environment becomes one frozen Config, or every problem at once.

`environment` makes entries of the variables; here the entries of one upstream or route become values, values become
records, and records are checked against each other. A step notes its problems and goes on with the rest, so that all of
them can be fixed in one go.

No message holds a credential: a problem's value is masked, and the text of a file is never shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from gateway import units
from gateway.auth import loading
from gateway.auth.records import AuthConfig, Way
from gateway.config import braces, environment, hints, own_answers, sources, ways
from gateway.config.assembly import level_of, route_of, upstream_of
from gateway.config.django_settings import ReadSettings, middleware_level, no_settings, settings_problems
from gateway.config.environment import Entry, ReadFile, Reading
from gateway.config.options import MAX_IN_FLIGHT_OF_HTTP2, PLAIN, SETTINGS
from gateway.config.records import Config, ConfigError, Problem, Settings
from gateway.config.table import TABLE
from gateway.fanout import options as fan_options
from gateway.fanout import plan
from gateway.fanout.plan import Fan, Part
from gateway.http import cors
from gateway.limits import grammar
from gateway.limits.grammar import RESERVED, Limits, NamedLimit
from gateway.limits.options import OF_ROUTE as OF_LIMITED_ROUTE
from gateway.limits.policies import limit_problems
from gateway.options import NO_LEVEL, Level, Refused, defaults_of, nearest, together
from gateway.routing.clashes import clashes
from gateway.routing.patterns import PatternError
from gateway.routing.records import Route
from gateway.upstreams.options import OF_CALL, parse_into
from gateway.upstreams.places import Place
from gateway.upstreams.records import Upstream
from gateway.upstreams.stickiness import key_of
from gateway.upstreams.targets import PartTarget, Target, TargetError, function_target

RATE_LIMIT = OF_LIMITED_ROUTE[0]
NO_TARGET = "no target; in a shell, quote the value: > is a redirection"
_WORDS = {"auth": "way"}
# Upstreams before the routes, which inherit from them.
_ORDER = {
    family: number for number, family in enumerate(("upstream", "route", "legacy", "auth", "rate_limit", "database"))
}
# Options that mean nothing without another one, by the beginnings of their names: they would be set in vain.
_PARTNERS = {
    "HEALTH_": "HEALTH",
    "QUEUE": "MAX_IN_FLIGHT",
    "CORS_": "CORS",
    "CACHE_MAX_BODY": "CACHE",
    "STALE_": "CACHE",
    "MIRROR_": "MIRROR",
}
NO_ROUTES_HELP = """\
export GATEWAY_UPSTREAM_USERS='http://127.0.0.1:9001'
export GATEWAY_ROUTE_USERS='/users/** -> users'
"""


def load(environ: Mapping[str, str], read_file: ReadFile, read_settings: ReadSettings = no_settings) -> Config:
    """The environment -> Config; `read_file` takes a path and returns its text, or raises OSError or UnicodeError.

    `read_settings` takes the path of the module that GATEWAY_SETTINGS names, and returns its settings.

    Raises ConfigError with all problems. A configuration without routes is fine here: Python may have some.
    """
    reading = environment.read(environ, read_file)
    owners: dict[tuple[str, str], list[Entry]] = {}
    for entry in reading.entries:
        owners.setdefault((entry.name.family, entry.name.owner), []).append(entry)
    draft = _Draft(reading)
    plain = owners.pop(("gateway", ""), [])
    settings, django = draft.settings(plain), draft.django(plain, read_settings)
    for (family, owner), entries in sorted(owners.items(), key=lambda one: (_ORDER[one[0][0]], one[0][1])):
        draft.add(family, owner, entries)
    draft.check_routes()
    draft.check_limits(reading.entries)
    for fault in ways.faults_of_rules(reading.entries, reading.declared["auth"], settings):
        draft.blame(*fault)
    for entry, message in sources.faults_of(reading.entries):
        draft.blame(entry, message)
    draft.check_partners(reading.entries)
    draft.check_braces(reading.entries)
    draft.check_credentials(reading.entries)
    draft.check_replacements(reading.entries)
    if draft.problems or settings is None:
        raise ConfigError(sorted(hints.without_consequences(draft.problems)))
    upstreams = {upstream.name: upstream for upstream in draft.upstreams}
    routes = tuple(route for _, route in draft.routes)
    warnings = [*reading.warnings, *hints.warnings(routes, upstreams, settings)]
    warnings += [word for way in draft.ways.values() for word in loading.warnings(way)]
    pools, databases = MappingProxyType(draft.pools), MappingProxyType(draft.databases)
    return Config(
        settings,
        MappingProxyType(upstreams),
        routes,
        tuple(warnings),
        pools,
        databases,
        MappingProxyType(django),
        draft.plain,
        MappingProxyType(draft.limits),
        AuthConfig(MappingProxyType(draft.ways)),
        tuple(reading.entries),
    )


class _Draft:
    """A Config under construction: the records so far, and every problem so far."""

    def __init__(self, reading: Reading) -> None:
        self.declared = reading.declared
        self.problems = [
            Problem(variable, value, str(error), error.hint) for variable, value, error in reading.refusals
        ]
        self.plain = NO_LEVEL
        self.upstreams: list[Upstream] = []
        self.routes: list[tuple[Entry, Route]] = []
        self.pools: dict[str, dict[str, Any]] = {}
        self.databases: dict[str, str] = {}
        self.limits: dict[str, NamedLimit] = {}
        self.ways: dict[str, Way] = {}
        self._secret: str | None = None

    def blame(self, entry: Entry, message: str, hint: str = "") -> None:
        self.problems.append(Problem(entry.variable, entry.shown, message, hint))

    def values(self, entries: Iterable[Entry]) -> dict[str, Any]:
        """The parsed values of entries, by attribute; those that do not parse are left out."""
        values: dict[str, Any] = {}
        for entry in entries:
            option = entry.name.option
            try:
                parse_into(values, option, entry.name.member, entry.text, entry.from_file)
            except (PatternError, TargetError) as error:
                self.blame(entry, _about_pattern(entry, error), environment.single_underscore(entry.name))
            except Refused as error:
                self.blame(entry, str(error), error.hint and f"{entry.name.prefix}{error.hint}")
            except ValueError as error:
                self.blame(entry, str(error), "" if option.name else environment.single_underscore(entry.name))
        return values

    def settings(self, entries: Sequence[Entry]) -> Settings | None:
        """The gateway's own settings; the plain options for all upstreams and routes become `plain`."""
        own = [entry for entry in entries if not entry.name.option.has_levels]
        values = defaults_of(PLAIN) | self.values(own)
        plain = [entry for entry in entries if entry.name.option.has_levels]
        self.plain = level_of(plain, self.values(plain))
        self._check_own_tls({entry.name.option.name: entry for entry in entries})
        if self.problems:
            return None
        self._secret = values.get("secret")
        settings = Settings(**{"reload_drain_s": values["drain_s"], **values}, cors=cors.rules_of(self.plain))
        if settings.speaks_http2 and settings.max_in_flight is None:
            # Connections are bounded, and one of HTTP/1.1 is one request; one of HTTP/2 is up to 100.
            settings = replace(settings, max_in_flight=MAX_IN_FLIGHT_OF_HTTP2)
        return settings

    def _check_own_tls(self, given: Mapping[str, Entry]) -> None:
        """TLS towards clients: options that mean nothing without another one."""
        cert, key = given.get("TLS_CERT"), given.get("TLS_KEY")
        if (cert is None) != (key is None):
            missing = "GATEWAY_TLS_KEY_FILE" if key is None else "GATEWAY_TLS_CERT_FILE"
            self.blame(cert or given["TLS_KEY"], f"a certificate and its key come together; set {missing} too")
        for name in ("TLS_MIN", "TLS_CLIENT_CA", "TLS_REDIRECT", "HTTP2"):
            if name in given and cert is None and given[name].text.strip() != "off":
                self.blame(given[name], "this means nothing without GATEWAY_TLS_CERT; set that too")
        if "HTTPS" in given and given["HTTPS"].text.strip() != "off" and "TRUSTED_PROXIES" not in given:
            self.blame(given["HTTPS"], "only a peer of GATEWAY_TRUSTED_PROXIES can say what was http; set that too")
        if "HSTS" in given and cert is None and "TRUSTED_PROXIES" not in given:
            self.blame(given["HSTS"], "nothing is https without GATEWAY_TLS_CERT or GATEWAY_TRUSTED_PROXIES")

    def django(self, entries: Iterable[Entry], read_settings: ReadSettings) -> dict[str, Any]:
        """The settings of the module that GATEWAY_SETTINGS names, if it is set."""
        entry = next((entry for entry in entries if entry.name.option is SETTINGS), None)
        if entry is None:
            return {}
        try:
            values = dict(read_settings(units.dotted(entry.text.strip())))
        except ValueError as error:
            if isinstance(error, Refused):  # else it is no module's path, which `settings` has reported
                self.blame(entry, str(error))
            return {}
        for problem in settings_problems(values):
            self.blame(entry, problem)
        self.plain = together(self.plain, middleware_level(values, entry.text.strip()))
        return values

    def add(self, family: str, owner: str, entries: Sequence[Entry]) -> None:
        """Add an upstream or route as far as it parses; blame options of one that is not declared."""
        own = [entry for entry in entries if not entry.name.part]
        given = {entry.name.option.name: entry for entry in own}
        values = self.values(own)
        if owner not in self.declared.get(family, {owner}):
            self._blame_undeclared(family, owner, entries)
        elif "places" in values:
            self._check_tls(given, values["places"])
            level = together(level_of(own, values), self.plain)
            # Masked, because with a cookie one could try passwords until they match.
            texts = [f"{one.variable.removesuffix('_FILE')}={one.name.option.unit.mask(one.text)}" for one in own]
            key = key_of(self._secret, texts)
            variable = (given.get("") or given["FROM"]).variable
            self.upstreams.append(upstream_of(owner, variable, values, level, self.plain, sticky_key=key))
        elif "line" in values:
            level = together(level_of(own, values), *self._above(values["line"][1]))
            fan = self._fan(entries, given, values, level)
            route = route_of(owner, given[""].variable, values, fan, level)
            self._check_route(route, given)
            self.routes.append((given[""], route))
        elif family == "legacy":
            self.pools[owner.lower()] = values
        elif "groups" in values:
            name, variable = owner.lower(), given[""].variable.removesuffix("_FILE")
            self.limits[name] = NamedLimit(
                name=name, groups=values["groups"], on_failure=values.get("on_failure"), variable=variable
            )
            if name in RESERVED:
                self.blame(given[""], f"no limit can be called {name}, which is a word of their grammar")
        elif "way" in values:
            self._add_way(owner, own, values)
        elif "url" in values:
            self._add_database(owner, given[""], values["url"])

    def _add_way(self, owner: str, entries: Sequence[Entry], values: Mapping[str, Any]) -> None:
        upstreams = [name.lower() for name in self.declared["upstream"]]
        way, faults = ways.way_of(owner, entries, values, upstreams)
        if way is not None:
            self.ways[way.name] = way
        for fault in faults:
            self.blame(*fault)

    def _above(self, target: object) -> tuple[Level, ...]:
        """The levels above a route's own: its upstream's, which includes the plain one, or the plain one alone."""
        name = target.upstream if isinstance(target, Target) else ""
        levels = [upstream.level for upstream in self.upstreams if upstream.name == name]
        return (*levels, self.plain)

    def _add_database(self, owner: str, entry: Entry, url: str) -> None:
        if owner == "DEFAULT":
            self.blame(entry, "the default database is set by GATEWAY_DATABASE_URL")
        self.databases[owner.lower()] = url

    def _blame_undeclared(self, family: str, owner: str, entries: Iterable[Entry]) -> None:
        near = nearest(owner, sorted(self.declared[family]))
        for entry in entries:
            declaration = entry.name.declaration
            hint = entry.variable.replace(f"_{owner}__", f"_{near}__", 1) if near else ""
            self.blame(
                entry, f"an option of {_WORDS.get(family, family)} {owner.lower()}, but {declaration} is not set", hint
            )

    def _check_tls(self, given: Mapping[str, Entry], places: Iterable[Place]) -> None:
        is_plain = all(place.scheme == "http" for place in places)
        for name, partner in (("CA", "CA"), ("CLIENT_CERT", "CLIENT_KEY"), ("CLIENT_KEY", "CLIENT_CERT")):
            if name in given and is_plain:
                self.blame(given[name], "only an https upstream takes this; the base URL is plain http")
            elif name in given and partner not in given:
                missing = f"{given[name].name.declaration}__{partner}_FILE"
                self.blame(given[name], f"a client certificate and its key come together; set {missing} too")

    def check_credentials(self, entries: Iterable[Entry]) -> None:
        """Credentials for all origins: browsers refuse that, and so must we (the Fetch standard, 3.2.5)."""
        by_variable = {entry.variable.removesuffix("_FILE"): entry for entry in entries}
        levels = [self.plain, *(upstream.level for upstream in self.upstreams), *(one.level for _, one in self.routes)]
        for level in levels:
            if level.get("cors_credentials") and "*" in level.get("cors", ()):
                entry = by_variable.pop(level.variable("cors_credentials"), None)
                if entry is not None:
                    self.blame(entry, f"{level.variable('cors')}=* is every page there is; name the origins instead")

    def check_braces(self, entries: Iterable[Entry]) -> None:
        """Values in braces that none of the routes using them has."""
        by_variable = {entry.variable.removesuffix("_FILE"): entry for entry in entries}
        for variable, message in braces.problems([route for _, route in self.routes]):
            self.blame(by_variable[variable], message)

    def check_replacements(self, entries: Iterable[Entry]) -> None:
        """Faults of ON_* and MIRROR for the routes that use them."""
        by_variable = {entry.variable.removesuffix("_FILE"): entry for entry in entries}
        names = {name.lower() for name in self.declared["upstream"]}
        routes, levels = [route for _, route in self.routes], [one.level for one in self.upstreams]
        faults = (*own_answers.replacement_faults(routes, names), *own_answers.mirror_faults(routes, levels, names))
        for variable, message, hint in faults:
            self.blame(by_variable[variable], message, hint)

    def check_partners(self, entries: Iterable[Entry]) -> None:
        """Options without effect on all their routes, because another one is missing, or is set."""
        levels = [upstream.level for upstream in self.upstreams] + [route.level for _, route in self.routes]
        blamed = [problem.variable.removesuffix("_FILE").rpartition("__")[2] for problem in self.problems]
        faulty = {word.removeprefix("GATEWAY_") for word in blamed}
        for entry in entries:
            option, name = entry.name.option, entry.name.option.name
            if entry.name.part or entry.name.family not in {"gateway", "upstream", "route"} or option.is_open:
                continue
            variable = entry.variable.removesuffix("_FILE")
            holding = [level for level in levels if level.variable(option.attribute) == variable]
            partner = next((_PARTNERS[stem] for stem in _PARTNERS if name.startswith(stem)), "")
            is_alone = not any(level.get(partner.lower()) for level in holding)
            if partner and partner not in faulty and holding and is_alone:
                has_plain = ("gateway", partner) in TABLE and partner != "MAX_IN_FLIGHT"
                prefix = entry.name.prefix if has_plain or entry.name.owner else "GATEWAY_UPSTREAM_<NAME>__"
                self.blame(entry, f"this means nothing without {prefix}{partner}; set that too")
            if name.startswith("RETRY_") and holding and all(level.get("retries") == 0 for level in holding):
                place = holding[0].variable("retries")
                self.blame(entry, f"{place}=0 switches retries off; drop one of the two")

    def _check_route(self, route: Route, given: Mapping[str, Entry]) -> None:
        entry, target, paths = given[""], route.target, route.pattern.paths
        if any(path.segments[:1] == ("-",) and (path.rest or len(path.segments) > 1) for path in paths):
            self.blame(entry, "/-/ belongs to the gateway itself; no route can begin with it")
        for name, fault in own_answers.faults_of(route, given, [option.name for option in OF_CALL]):
            self.blame(given[name], fault)
        if target is None and route.answer is None and route.fan is None and "LEGACY" not in given:
            self.blame(entry, NO_TARGET)
        if target is not None:
            self._check_upstream(entry, target.upstream)
        elif "MIRROR" in given:
            self.blame(given["MIRROR"], "this is for a route to an upstream: what goes up is copied")
        if (target or route.answer) is not None and route.fan is not None:
            self.blame(entry, "a route has a target or parts, not both")
        if "LEGACY" in given:
            self._check_legacy(route, given)

    def _check_legacy(self, route: Route, given: Mapping[str, Entry]) -> None:
        if (route.target or route.answer) is not None or route.fan is not None:
            self.blame(given["LEGACY"], "a route has a function or a target or parts, one of them")
        for name, entry in given.items():
            if entry.name.option in OF_CALL and name != "MAX_BODY":
                hint = f"GATEWAY_LEGACY_{(route.legacy or 'x').rpartition('.')[2].strip('_').upper()}__TIMEOUT"
                self.blame(entry, "this means nothing for a legacy function", hint if name == "TIMEOUT" else "")

    def _check_upstream(self, entry: Entry, upstream: str) -> None:
        if upstream.upper() in self.declared["upstream"]:
            return
        near = nearest(upstream, sorted(name.lower() for name in self.declared["upstream"]))
        # A file's text is not shown, and here it would be.
        name, known = ("of that name", "<NAME>") if entry.from_file else (upstream, upstream.upper())
        self.blame(entry, f"there is no upstream {name}; set GATEWAY_UPSTREAM_{known} to its base URL", near)

    def _declared(self, entries: Sequence[Entry]) -> dict[str, Entry]:
        """The entry that declares each part of a route: its target, or its function; in the order of their names."""
        parts = {entry.name.member.lower(): entry for entry in entries if entry.name.option.name == "PART_*"}
        for entry in entries:
            if entry.name.option is fan_options.FUNCTION_OF_PART:
                if entry.name.part in parts:
                    self.blame(entry, "a part has a function or a target, not both")
                parts[entry.name.part] = entry
        for entry in entries:
            if entry.name.part and entry.name.part not in parts:
                self.blame(entry, f"an option of the part {entry.name.part}, which is not set")
            if not parts and entry.name.option in {*fan_options.OF_FAN, fan_options.OPTIONAL}:
                self.blame(entry, f"this means nothing without parts; set {entry.name.declaration}__PART_<NAME>")
            of_function = (
                parts[entry.name.part].name.option is fan_options.FUNCTION_OF_PART
                if entry.name.part in parts
                else False
            )
            if of_function and entry.name.option.name in {"METHOD", "HEADER_*", "CACHE"}:
                self.blame(entry, "this means nothing for a function")
        return dict(sorted(parts.items()))

    def _fan(
        self, entries: Sequence[Entry], given: Mapping[str, Entry], values: Mapping[str, Any], level: Level
    ) -> Fan | None:
        """The parts of a route, or None where it has none."""
        declared = self._declared(entries)
        options_of: dict[str, dict[str, Any]] = {name: {} for name in declared}
        for name in dict.fromkeys(entry.name.part for entry in entries if entry.name.part):
            options_of[name] = self.values([entry for entry in entries if entry.name.part == name])
        if not declared:
            return None
        targets: dict[str, PartTarget] = dict(values.get("parts", ()))
        functions = {name: options["legacy"] for name, options in options_of.items() if "legacy" in options}
        targets = dict(sorted({**targets, **{name: function_target(path) for name, path in functions.items()}}.items()))
        self._check_parts(declared, targets, values["line"][0].shared_params, level.get("merge", "keyed"))
        optional = set(values.get("optional", ()))
        for name in sorted(optional - declared.keys()):
            self.blame(given["OPTIONAL"], f"there is no part {name}", nearest(name, declared))
        parts = []
        for name, target in targets.items():
            options = options_of[name]
            is_optional = name in optional or "default" in options
            own = {
                option.attribute: options[option.attribute]
                for option in fan_options.OF_PART
                if option.attribute in options
            }
            parts.append(Part(name=name, target=target, optional=is_optional, **own))
        fan = {option.attribute: level.get(option.attribute) for option in fan_options.OF_FAN}
        fan["forward"] = level.get("forward_headers")
        return Fan(parts=tuple(parts), **{name: value for name, value in fan.items() if value is not None})

    def _check_parts(
        self, declared: Mapping[str, Entry], targets: Mapping[str, PartTarget], params: Sequence[str], merge: str
    ) -> None:
        for name, target in targets.items():
            if not target.is_function:
                self._check_upstream(declared[name], target.upstream)
        if targets.keys() != declared.keys():
            return  # a reference to a part that does not parse would be blamed for it
        for name, fault in plan.problems(targets, params, merge=merge):
            entry = declared[name]
            self.blame(entry, "the file's parts do not fit together" if entry.from_file else fault)

    def check_limits(self, entries: Iterable[Entry]) -> None:
        """Unknown names of limits; parameters that a route's path does not have; costs beyond a burst."""
        known = sorted(name.lower() for name in self.declared["rate_limit"])
        parsed = {entry: self._limits(entry) for entry in entries if entry.name.option is RATE_LIMIT}
        for entry, limits in parsed.items():
            for name in (item for item in limits if isinstance(item, str) and item not in known):
                shown = "the file names a limit that there is not" if entry.from_file else f"there is no limit {name}"
                self.blame(entry, f"{shown}; set GATEWAY_RATE_LIMIT_<NAME>", nearest(name, known))
        for entry, route in self.routes:
            for problem in limit_problems(route.level, route.pattern.shared_params, self.limits):
                self.blame(entry, problem)

    def _limits(self, entry: Entry) -> Limits:
        try:
            return grammar.limits(entry.text.strip())
        except ValueError:  # reported with its level
            return ()

    def check_routes(self) -> None:
        for clash in clashes([route.pattern for _, route in self.routes]):
            entry, other = self.routes[clash.second][0], self.routes[clash.first][1].variable
            if clash.first == clash.second:
                self.blame(entry, f"two of its paths take {clash.example}")
            elif clash.are_equal:
                self.blame(entry, f"the same route as {other}: both take {clash.example}")
            else:
                self.blame(entry, f"both this and {other} take {clash.example}, and neither is more specific")


def _about_pattern(entry: Entry, error: PatternError | TargetError) -> str:
    if entry.from_file:  # the parser's message may quote the text
        return "the file does not hold a route: [METHOD,...] [host]/path -> upstream[:/path]"
    # `/users/** -> users` without quotes: the shell took `> users` for a redirection and left the dash.
    return NO_TARGET if entry.text.rstrip().endswith(" -") else str(error)
