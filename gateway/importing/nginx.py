"""nginx: `location` becomes a route, `upstream` and `proxy_pass` upstreams; simple directives become options."""

import re
from collections.abc import Sequence

from gateway.importing import nginx_words as words
from gateway.importing.draft import FORBIDDEN, Draft, Weight
from gateway.importing.expressions import expression_paths
from gateway.importing.nginx_server import Server, listening, server_of
from gateway.importing.nginx_syntax import Directive
from gateway.importing.nginx_words import guards_of, named
from gateway.importing.values import INT, PathError, duration, encoded, host_hint, number, service_name, size, weighted

_TIME = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)?")
_TIME_MS = {"ms": 1, None: 1000, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_RATE = re.compile(r"rate=([0-9]{1,9})r/([sm])")


def is_nginx(text: str) -> bool:
    """Whether a text is a configuration of nginx."""
    return re.search(r"(?m)^\s*(?:location\s[^{;]*|server|http|upstream\s+\S+)\s*\{", text) is not None


def read(root: Directive, draft: Draft) -> None:
    """Make the environment of a whole file, or of one that is included in `http`."""
    http = root.first("http") or root
    levels = [http] if http is root else [http, root]
    for block in {id(one): one for one in levels}.values():
        _known(block, draft)
    upstreams = {one.value: one for one in http.all("upstream")}
    zones = {}
    for zone in http.all("limit_req_zone"):
        zones[named(zone, "zone").partition(":")[0]] = zone
    blocks = http.all("server")
    servers = [server_of(block, is_only=len(blocks) == 1) for block in blocks]
    listening(servers, draft)
    _plain(http, draft)
    for server in servers:
        _known(server.block, draft)
        _Reader(draft, http, server, upstreams, zones).read()


def _known(block: Directive, draft: Draft) -> None:
    """Directives of a block that mean nothing here, or cannot be expressed."""
    block.skip(words.NO_MEANING)
    for child in block.children:
        if child.name in words.LOGS:
            draft.leave(Weight.DETAIL, child.node, f"{child.name}: the log is GATEWAY_LOG")
        elif child.name in words.ACCESS or words.GUARDS.fullmatch(child.name):
            draft.leave(Weight.ACCESS, child.node, f"{child.name} {' '.join(child.words)}")
        elif child.name in words.ROUTING:
            draft.leave(Weight.ROUTING, child.node, f"{child.name} {' '.join(child.words)}")


def _plain(http: Directive, draft: Draft) -> None:
    """Options for all locations, unless they set their own."""
    # nginx's own default is 1 MiB, ours 10.
    limit = http.first("client_max_body_size")
    _size(draft, "GATEWAY", limit.value if limit else "1m", limit or http)
    if (gzip := http.first("gzip")) is not None and gzip.value == "on":
        draft.option("GATEWAY", "COMPRESS", "on", gzip.node)


class _Reader:
    """One server's locations."""

    def __init__(
        self,
        draft: Draft,
        http: Directive,
        server: Server,
        upstreams: dict[str, Directive],
        zones: dict[str, Directive],
    ) -> None:
        self.draft = draft
        self.http = http
        self.server = server
        self.upstreams = upstreams
        self.zones = zones
        self.root: Directive | None = None  # the folder that files of this server are in

    def read(self) -> None:
        block, draft = self.server.block, self.draft
        block.skip(frozenset({"ssl_certificate", "ssl_certificate_key"}))
        if (limit := block.first("client_max_body_size")) is not None:
            self._of_server("client_max_body_size", limit)
        locations = block.all("location")
        answer = block.first("return")
        if answer is not None:
            self._returned("/", answer, is_exact=False)
        self.root = block.first("root") or self.http.first("root")
        for name in words.FILES - {"root", "index"}:
            for one in block.all(name):
                draft.leave(Weight.ROUTING, one.node, f"{name} {' '.join(one.words)}")
        for location in locations:
            self._location(location)

    def _of_server(self, name: str, directive: Directive) -> None:
        """A limit of the server applies to its locations; it is read again with each."""
        directive.node.scalar()

    def _location(self, location: Directive, outer: tuple[Directive, ...] = ()) -> None:
        draft = self.draft
        modifier, path = (location.words[0], location.words[-1]) if len(location.words) > 1 else ("", location.value)
        shown = f"location {' '.join(location.words)}"
        guards = guards_of((location, *outer, self.server.block, self.http))
        is_pattern = modifier in {"~", "~*"} or path.startswith("@")
        if is_pattern and guards and not path.startswith("@"):
            draft.leave(
                Weight.ACCESS,
                location.node,
                f"{shown}: no route can say it; other routes have its requests, and let in",
            )
        if is_pattern and not guards and self._expression(location, path, ignores_case=modifier == "~*"):
            return
        if is_pattern:
            draft.leave(Weight.ROUTING, location.node, f"{shown}: a route is no regular expression, and has a path")
            return
        path = encoded(path)
        for inner in location.all("location"):
            self._location(inner, (location, *outer))
        made = self._answered(location, path, guards, is_exact=modifier == "=")
        _known(location, draft)
        if not made:
            self._proxied(location, path, guards, is_exact=modifier == "=")

    def _answered(self, location: Directive, path: str, guards: Sequence[Directive], *, is_exact: bool) -> bool:
        """Whether the location answers all clients by itself; if so, it is expressed."""
        if location.first("internal") is not None:
            self._route(path, "404", location, is_exact=is_exact)
        elif guards and all((one.name, one.value) == ("deny", "all") for one in guards):
            self._route(path, FORBIDDEN, location, is_exact=is_exact)
            for one in location.all("deny"):
                one.node.take()
        elif (answer := location.first("return")) is not None:
            self._returned(path, answer, is_exact=is_exact)
        else:
            return False
        return True

    def _route(self, path: str, right: str, location: Directive, *, is_exact: bool) -> None:
        for host in self.server.hosts:
            pattern = path if is_exact else f"{path.rstrip('/')}/**"
            self.draft.route(
                f"{host} {path if path.strip('/') else 'all'}", f"{host}{pattern} -> {right}", location.node
            )

    def _proxied(self, location: Directive, path: str, guards: Sequence[Directive], *, is_exact: bool) -> None:
        draft, shown = self.draft, f"location {' '.join(location.words)}"
        target = location.first("proxy_pass")
        if target is None and (folder := location.first("root") or location.first("alias") or self.root) is not None:
            self._files(location, path, folder, guards, is_exact=is_exact)
            return
        if target is None:
            what = ", ".join(sorted({child.name for child in location.children} & words.FILES)) or "nothing to proxy to"
            weight = Weight.ACCESS if guards else Weight.ROUTING
            draft.leave(weight, location.node, f"{shown}: {what}")
            if guards and not location.all("location"):
                self._route(path, FORBIDDEN, location, is_exact=is_exact)
            return
        found = self._target(path, target, is_exact=is_exact)
        if found is None:
            if guards:
                self._route(path, FORBIDDEN, location, is_exact=is_exact)
            return
        pattern, right = found
        for host in self.server.hosts:
            hint = path if path.strip("/") else "all"
            stem = draft.route(f"{host} {hint}", f"{host}{pattern} -> {right}", location.node)
            self._options(stem, location)
            for one in guards:
                draft.close(stem, one.node, f"{one.name} {' '.join(one.words)}".strip())
            self._retries(stem, right, location)

    def _expression(self, location: Directive, text: str, *, ignores_case: bool) -> bool:
        """A proxied location with a regular expression that a route can express; returns whether it is one."""
        target = location.first("proxy_pass")
        match = re.fullmatch(r"(https?)://([^/$]+)", target.value) if target is not None else None
        if (
            target is None
            or match is None
            or {"return", "internal", "location"} & {one.name for one in location.children}
        ):
            return False
        try:
            paths = expression_paths(text) if text.startswith("^") else []
        except PathError:
            paths = []
        if not paths:
            return False
        _known(location, self.draft)
        right = service_name(self._upstream(match[1], match[2], target))
        if any(":int}" in path for path in paths):
            self.draft.note(Weight.ROUTING, location.node, f"location {' '.join(location.words)}: {INT}")
        for host in self.server.hosts:
            line = " ".join(f"{host}{path}" for path in paths)
            stem = self.draft.route(f"{host} {paths[0]}", f"{line} -> {right}", location.node)
            if ignores_case:
                self.draft.option(stem, "CASE", "ignore", location.node, Weight.ROUTING)
            self._options(stem, location)
            self._retries(stem, right, location)
        return True

    def _retries(self, stem: str, right: str, location: Directive) -> None:
        upstream = f"GATEWAY_UPSTREAM_{right.partition(':')[0].upper()}"
        for one in self._inherited(location, "proxy_next_upstream_tries")[:1]:
            if (tries := number(one.value)) and tries >= 1:
                self.draft.option_of([stem, upstream], "RETRIES", str(int(tries) - 1), one.node, Weight.BEHAVIOUR)

    def _files(
        self, location: Directive, path: str, folder: Directive, guards: Sequence[Directive], *, is_exact: bool
    ) -> None:
        """A folder, if the location names no service: the location's path is below `root`, but not below `alias`."""
        draft, prefix = self.draft, path.rstrip("/")
        base = folder.value.rstrip("/") + ("" if folder.name == "alias" or is_exact else prefix)
        if is_exact and folder.name == "root":
            base = f"{base}{path}"
        for one in location.all("try_files"):
            if one.words not in (["$uri", "=404"], ["$uri", "$uri/", "=404"]):
                draft.leave(Weight.ROUTING, one.node, f"try_files {' '.join(one.words)}: what is no file is 404")
        location.skip(frozenset({"index", "expires", "autoindex"}) if not location.all("autoindex") else frozenset())
        right = f"file:{base}" + ("" if is_exact else "/**")
        if "$" in base or not base.startswith("/"):
            draft.leave(Weight.ROUTING, folder.node, f"{folder.name} {folder.value}: no folder with a path of its own")
            return
        for host in self.server.hosts:
            pattern = path if is_exact else f"{prefix}/**"
            stem = draft.route(f"{host} {path if prefix else 'all'}", f"GET {host}{pattern} -> {right}", location.node)
            draft.needs(stem, base, is_folder=not is_exact, node=folder.node)
            for one in guards:
                draft.close(stem, one.node, f"{one.name} {' '.join(one.words)}".strip())

    # -- where it goes ----------------------------------------------------------------------------------------------

    def _target(self, path: str, target: Directive, *, is_exact: bool) -> tuple[str, str] | None:
        url = target.value
        match = re.fullmatch(r"(https?)://([^/$]+)(/[^$]*)?", url)
        if match is None:
            self.draft.leave(Weight.ROUTING, target.node, f"proxy_pass {url}: no plain http or https URL")
            return None
        scheme, authority, uri = match[1], match[2], match[3]
        service = service_name(self._upstream(scheme, authority, target))
        prefix = path.rstrip("/")
        if uri is None:
            return (path if is_exact else f"{prefix}/**"), service
        if is_exact:
            return path, f"{service}:{uri}"
        return f"{prefix}/**", f"{service}:{uri.rstrip('/')}/**"

    def _upstream(self, scheme: str, authority: str, target: Directive) -> str:
        block = self.upstreams.get(authority)
        if block is None:
            url = f"{scheme}://{authority}"
            return self.draft.upstream(host_hint(url), [url], target.node)
        draft, urls, weights = self.draft, list[str](), list[str]()
        for server in block.all("server"):
            flags = server.words[1:]
            if server.value.startswith("unix:") or {"backup", "down"} & set(flags):
                draft.leave(Weight.ROUTING, server.node, f"server {' '.join(server.words)}: left out")
                continue
            urls.append(f"{scheme}://{server.value}")
            weights.append(next((flag.removeprefix("weight=") for flag in flags if flag.startswith("weight=")), "1"))
        if not urls:
            return draft.upstream(authority, [f"{scheme}://{authority}"], block.node)
        stem = draft.upstream(authority, weighted(urls, weights), block.node)
        block.skip(words.NO_MEANING)
        self._balance(block, stem)
        return stem

    def _balance(self, block: Directive, stem: str) -> None:
        draft = self.draft
        if (one := block.first("ip_hash")) is not None:
            draft.option(stem, "BALANCE", "hash:client", one.node)
        elif block.first("least_conn") is None and block.first("random") is None:
            if (one := block.first("hash")) is not None:
                by_header = re.fullmatch(r"\$http_([a-z0-9_]+)", one.value)
                by_cookie = re.fullmatch(r"\$cookie_([A-Za-z0-9_]+)", one.value)
                by = f"header:{by_header[1].replace('_', '-')}" if by_header else "client"
                by = f"cookie:{by_cookie[1]}" if by_cookie else by
                if not by_header and not by_cookie and one.value != "$remote_addr":
                    draft.leave(Weight.BEHAVIOUR, one.node, f"hash {one.value}: by client instead")
                draft.option(stem, "BALANCE", f"hash:{by}", one.node)
            else:
                draft.option(stem, "BALANCE", "round_robin", block.node)

    def _returned(self, path: str, answer: Directive, *, is_exact: bool) -> None:
        """`return 301 URL`, `return 403`."""
        draft, words = self.draft, answer.words
        status, url = (words[0], words[1] if len(words) > 1 else "") if words[0].isdigit() else ("302", words[0])
        prefix = path.rstrip("/")
        pattern = path if is_exact else f"{prefix}/**"
        keeps_path = url.endswith("$request_uri")
        url = url.removesuffix("$request_uri").replace("$scheme", "https")
        is_to_tls = keeps_path and url in {"https://$host", "https://$server_name", "https://$http_host"}
        if is_to_tls:
            draft.leave(Weight.BEHAVIOUR, answer.node, "to https: GATEWAY_TLS_REDIRECT, or GATEWAY_HTTPS=redirect")
            return
        if "$" in url or (status.startswith("2") and url):
            draft.leave(Weight.ROUTING, answer.node, f"return {' '.join(words)}")
            return
        right = f"{status} {url}{prefix}/**" if keeps_path and not is_exact else f"{status} {url}".strip()
        for host in self.server.hosts:
            draft.route(f"{host} {path if prefix else 'all'}", f"{host}{pattern} -> {right}", answer.node)

    # -- options ----------------------------------------------------------------------------------------------------

    def _inherited(self, location: Directive, name: str) -> list[Directive]:
        """The directives of the nearest level that has any."""
        for block in (location, self.server.block, self.http):
            if found := block.all(name):
                return found
        return []

    def _options(self, stem: str, location: Directive) -> None:
        draft = self.draft
        for name, options in (
            ("proxy_connect_timeout", ("CONNECT_TIMEOUT",)),
            ("proxy_read_timeout", ("TIMEOUT", "IDLE_TIMEOUT")),
        ):
            for one in self._inherited(location, name)[:1]:
                for option in options:
                    self._time(stem, option, one)
        for block in (location, self.server.block):
            block.skip(
                frozenset({"proxy_send_timeout", "client_body_timeout", "client_header_timeout", "send_timeout"})
            )
        limit = location.first("client_max_body_size") or self.server.block.first("client_max_body_size")
        if limit is not None:
            _size(draft, stem, limit.value, limit)
        for one in self._inherited(location, "proxy_set_header"):
            self._request_header(stem, one)
        for one in self._inherited(location, "proxy_hide_header"):
            self._header(stem, "RESPONSE_HEADER", one.value, "-", one)
        for one in self._inherited(location, "add_header"):
            if len(one.words) > 1:
                self._header(stem, "RESPONSE_HEADER", one.words[0], one.words[1], one)
        self._limits(stem, location)
        self._cache(stem, location)
        for one in self._inherited(location, "error_page"):
            self._page(stem, one)

    def _page(self, stem: str, one: Directive) -> None:
        """`error_page 404 /404.html`: a file as replacement, if files are served from a folder."""
        *statuses, uri = one.words or [""]
        known = [status for status in statuses if re.fullmatch(r"[345][0-9]{2}", status)]
        if known != statuses or not known or not re.fullmatch(r"/[^$?]*", uri) or self.root is None:
            self.draft.leave(Weight.ROUTING, one.node, f"error_page {' '.join(one.words)}")
            return
        path = f"{self.root.value.rstrip('/')}{uri}"
        for status in statuses:
            if self.draft.option(stem, f"ON_{status}", f"file:{path}", one.node):
                self.draft.needs(f"{stem}__ON_{status}", path, is_folder=False, node=one.node)

    def _request_header(self, stem: str, one: Directive) -> None:
        name, value = one.value, one.words[1] if len(one.words) > 1 else ""
        if name.lower() == "host":
            if value in {"$host", "$http_host", "$server_name"}:
                self.draft.option(stem, "HOST", "preserve", one.node)
            elif value not in {"$proxy_host", ""}:
                self._header(stem, "HEADER", name, value, one)
        elif name.lower() not in words.FORWARDED | words.UPGRADE:
            self._header(stem, "HEADER", name, value or "-", one)

    def _header(self, stem: str, option: str, name: str, value: str, one: Directive) -> None:
        if option == "HEADER":
            value = words.field_value(value)
        if "$" in value or not re.fullmatch(r"[A-Za-z0-9-]+", name):
            self.draft.leave(
                Weight.BEHAVIOUR, one.node, f"{one.name} {' '.join(one.words)}: holds a variable or an odd name"
            )
            return
        self.draft.option(stem, f"{option}_{name.upper().replace('-', '_')}", value, one.node)

    def _time(self, stem: str, option: str, one: Directive) -> None:
        match = _TIME.fullmatch(one.value)
        if match is None:
            self.draft.leave(Weight.BEHAVIOUR, one.node, f"{one.name} {one.value}")
        else:
            self.draft.option(stem, option, duration(int(match[1]) * _TIME_MS[match[2]]), one.node)

    def _limits(self, stem: str, location: Directive) -> None:
        limits = []
        for one in self._inherited(location, "limit_req"):
            zone = self.zones.get(named(one, "zone"))
            rate = None if zone is None else _RATE.search(" ".join(zone.words))
            if (
                zone is None
                or rate is None
                or zone.value not in {"$binary_remote_addr", "$remote_addr", "$server_name"}
            ):
                self.draft.leave(Weight.ACCESS, one.node, f"limit_req {' '.join(one.words)}")
                continue
            burst = int(number(named(one, "burst")) or 0) + 1
            by = "all" if zone.value == "$server_name" else "client"
            limits.append(f"{rate[1]}/1{rate[2]} burst {burst} by {by}")
            one.node.take()
        if limits:
            self.draft.option(
                stem,
                "RATE_LIMIT",
                " ".join(limits),
                location.all("limit_req")[0].node if location.all("limit_req") else location.node,
                Weight.ACCESS,
            )

    def _cache(self, stem: str, location: Directive) -> None:
        zones = self._inherited(location, "proxy_cache")
        valid = self._inherited(location, "proxy_cache_valid")
        self.http.skip(frozenset({"proxy_cache_path"}))
        if not zones or zones[0].value == "off":
            return
        lasting = next((one for one in valid if len(one.words) == 1 or "200" in one.words), None)
        if lasting is None:
            self.draft.option(stem, "CACHE", "on", zones[0].node)
            return
        match = _TIME.fullmatch(lasting.words[-1])
        if match is not None:
            self.draft.option(stem, "CACHE", duration(int(match[1]) * _TIME_MS[match[2]]), lasting.node)


def _size(draft: Draft, stem: str, text: str, one: Directive) -> None:
    try:
        draft.option(stem, "MAX_BODY", size(text), one.node)
    except ValueError as error:
        draft.leave(Weight.BEHAVIOUR, one.node, f"client_max_body_size: {error}")
