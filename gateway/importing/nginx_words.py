"""nginx's directives by their meaning here, those that keep requests out, and its variables as values."""

import re
from collections.abc import Sequence

from gateway.importing.nginx_syntax import Directive
from gateway.importing.values import literal

_VARIABLE = re.compile(r"\$([a-z0-9_]+)")
_WORDS = {
    "remote_addr": "client",
    "scheme": "scheme",
    "host": "host",
    "request_method": "method",
    "request_id": "request_id",
}
# Fields that the gateway sends itself.
FORWARDED = frozenset({"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-scheme", "forwarded"})
UPGRADE = frozenset({"upgrade", "connection"})
# Tuning of nginx itself, and behaviour that the gateway always has.
NO_MEANING = frozenset(
    [
        "user",
        "worker_processes",
        "worker_rlimit_nofile",
        "pid",
        "events",
        "default_type",
        "types",
        "sendfile",
        "tcp_nopush",
        "tcp_nodelay",
        "server_tokens",
        "keepalive_timeout",
        "keepalive_requests",
        "types_hash_max_size",
        "server_names_hash_bucket_size",
        "charset",
        "proxy_http_version",
        "proxy_buffering",
        "proxy_buffers",
        "proxy_buffer_size",
        "proxy_busy_buffers_size",
        "proxy_redirect",
        "proxy_request_buffering",
        "proxy_max_temp_file_size",
        "proxy_temp_file_write_size",
        "client_body_buffer_size",
        "client_header_buffer_size",
        "large_client_header_buffers",
        "reset_timedout_connection",
        "map_hash_bucket_size",
        "variables_hash_max_size",
        "proxy_headers_hash_max_size",
        "proxy_headers_hash_bucket_size",
        "resolver",
        "resolver_timeout",
        "ssl_session_cache",
        "ssl_session_timeout",
        "ssl_session_tickets",
        "ssl_prefer_server_ciphers",
        "ssl_dhparam",
        "ssl_ciphers",
        "gzip_types",
        "gzip_min_length",
        "gzip_vary",
        "gzip_proxied",
        "gzip_comp_level",
        "gzip_http_version",
        "gzip_disable",
        "gzip_buffers",
        "zone",
        "keepalive",
        "server_name_in_redirect",
        "port_in_redirect",
        "absolute_redirect",
        "http2",
    ]
)
LOGS = frozenset({"access_log", "error_log", "log_format", "log_not_found"})
ACCESS = frozenset(
    [
        "allow",
        "deny",
        "auth_basic",
        "auth_basic_user_file",
        "auth_request",
        "auth_request_set",
        "satisfy",
        "ssl_verify_client",
        "ssl_client_certificate",
        "limit_conn",
        "limit_conn_zone",
        "limit_except",
        "auth_jwt",
        "secure_link",
    ]
)
# The directives of ACCESS that keep requests out; the others refine them, or count.
GUARDS = re.compile(
    r"allow|deny|auth_(?!.*(?:_file|_set|_zone)$).*|access_by_.*|oauth.*|vouch.*|ssl_verify_client|secure_link|limit_except"
)
FILES = frozenset(
    {"root", "alias", "index", "try_files", "autoindex", "fastcgi_pass", "uwsgi_pass", "grpc_pass", "scgi_pass"}
)
ROUTING = frozenset({"rewrite", "if", "map", "geo", "split_clients", "include", "set", "mirror", "stream"})


def guards_of(blocks: Sequence[Directive]) -> list[Directive]:
    """The directives that keep requests out of a location; `blocks` are the location first, then its server and `http`.

    A directive that a nearer block has too, such as `auth_basic off`, does not count in farther ones; an `if` that
    refuses counts everywhere.
    """
    found: list[Directive] = []
    seen: set[str] = set()
    for block in blocks:
        names = {child.name for child in block.children}
        for child in block.children:
            kind = "allow" if child.name == "deny" else child.name
            is_guard = GUARDS.fullmatch(child.name) and kind not in seen and child.value != "off"
            if is_guard or (child.name == "if" and any(map(_refuses, child.children))):
                found.append(child)
        seen |= names | ({"allow"} if "deny" in names else set())
    only_allowed = all((one.name, one.value) == ("allow", "all") for one in found if one.name in {"allow", "deny"})
    return [one for one in found if one.name not in {"allow", "deny"} or not only_allowed]


def _refuses(directive: Directive) -> bool:
    return directive.name == "deny" or (directive.name == "return" and directive.value.startswith(("4", "5")))


def field_value(text: str) -> str:
    """A header's value with nginx's variables as values in braces; an unknown one stays, with its `$`."""
    return _VARIABLE.sub(lambda match: _word(match[1]), literal(text))


def _word(variable: str) -> str:
    """`remote_addr` -> `{client}`, as a value of the request; an unknown one stays a variable."""
    if variable in _WORDS:
        return f"{{{_WORDS[variable]}}}"
    for prefix, word in (("http_", "header"), ("cookie_", "cookie"), ("arg_", "query")):
        if variable.startswith(prefix):
            name = variable.removeprefix(prefix)
            return f"{{{word}.{name.replace('_', '-') if word == 'header' else name}}}"
    return f"${variable}"


def named(one: Directive, name: str) -> str:
    """`zone=one:10m` -> `one:10m`."""
    return next((word.partition("=")[2] for word in one.words if word.startswith(f"{name}=")), "")
