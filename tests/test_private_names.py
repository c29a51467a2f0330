"""What the gateway uses of libraries without their promise: private names, and public ones that no page describes.

A library may change these in any release. Each is listed here, by the file that uses it and with what for; an upgrade
that takes one away fails with a sentence that says so. Other tests read the files: who uses another one lists it.
"""

import ast
import functools
import importlib
import inspect
import os
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import django
import pytest

from tests.test_house import MODULES, PACKAGE, imports_of, place, tree_of

READS_AN_ANSWER = "the protocol reads one answer after the other with a parser of its own making"
READS_A_BODY = "the body of an answer is read, watched and broken off"
SPEAKS_WEBSOCKET = "frames of WebSocket on a connection that a 101 has left over"
ENDS_WORKERS = "our parent process keeps and ends the workers in its own way"
BUILDS_LATE = "META, POST, FILES and the body are built when a view asks for them"

_STREAM = "aiohttp.StreamReader."
_SERVER = "granian.server.mp.MPServer."
_REQUEST, _RESPONSE = "django.http.HttpRequest.", "django.http.response.HttpResponseBase."
_TESTED = "django.test.client.AsyncClientHandler."


def _of(owner: str, names: str, why: str) -> dict[str, str]:
    return {owner + name: why for name in names.split()}


# File -> name -> what for.
USED: dict[str, dict[str, str]] = {
    "upstreams/connection": {
        **_of("aiohttp.helpers.", "TimerNoop EMPTY_BODY_STATUS_CODES", READS_AN_ANSWER),
        **_of("aiohttp.http_parser.", "HttpResponseParser RawResponseMessage", READS_AN_ANSWER),
        **_of("aiohttp.http_parser.HttpResponseParser.", "feed_data", READS_AN_ANSWER),
        **_of("aiohttp.http_parser.HttpResponseParser.", "feed_eof", "a kept connection has nothing left over"),
        **_of("aiohttp.http_parser.HttpResponseParser.", "pause_reading", "a body comes no faster than it is taken"),
        **_of("aiohttp.http_parser.RawResponseMessage.", "should_close code raw_headers headers", READS_AN_ANSWER),
        **_of("aiohttp.http_parser.RawResponseMessage.", "chunked upgrade", READS_AN_ANSWER),
        **_of("aiohttp.streams.", "EMPTY_PAYLOAD", "the body of an answer that has none"),
        **_of("aiohttp.http_exceptions.", "BadHttpMessage HttpProcessingError", "an answer that cannot be read"),
        **_of(_STREAM, "is_eof exception set_exception", READS_A_BODY),
    },
    "upstreams/body": {
        **_of(_STREAM, "_read_nowait", "what arrived before an error goes down before it"),
        **_of(_STREAM, "on_eof total_bytes wait_eof readany read_nowait is_eof exception set_exception", READS_A_BODY),
    },
    "upstreams/errors": _of("aiohttp.http_exceptions.", "HttpProcessingError", "an answer that cannot be read"),
    "server/supervisor": {
        **_of("granian.server.mp.", "MPServer WorkerProcess", ENDS_WORKERS),
        **_of(_SERVER, "_spawn_workers _spawn_worker _serve_loop _stop_workers on_startup", ENDS_WORKERS),
        **_of("granian.server.mp.WorkerProcess.", "inner", "the process of a worker, which we start ourselves"),
    },
    "server/granian": {
        **_of("granian.", "loops loops.register", "the event loop of a worker is ours"),
        **_of("granian.constants.", "HTTPModes Interfaces Loops SSLProtocols", "the options of the server"),
        **_of("granian.", "http.HTTP1Settings http.HTTP2Settings log.LogLevels", "the options of the server"),
        **_of(_SERVER, "serve", "serves until a signal"),
        **_of("granian.server.embed.", "Server", "small reads: a server in a process that has no workers"),
    },
    "config/tls": _of("ssl.", "_ssl _ssl._test_decode_cert", "the dates and names of a certificate, expired or not"),
    "sockets/upstream": {
        **_of("aiohttp.", "WSMsgType", SPEAKS_WEBSOCKET),
        **_of("aiohttp.base_protocol.", "BaseProtocol BaseProtocol._upgraded", SPEAKS_WEBSOCKET),
        **_of("aiohttp.base_protocol.BaseProtocol.", "connection_made connection_lost transport", SPEAKS_WEBSOCKET),
        **_of("aiohttp.client_exceptions.", "ClientConnectionResetError", SPEAKS_WEBSOCKET),
        **_of("aiohttp.http_websocket.", "WebSocketError WebSocketReader WebSocketWriter", SPEAKS_WEBSOCKET),
        **_of("aiohttp.http_websocket.WebSocketReader.", "feed_data", SPEAKS_WEBSOCKET),
        **_of("aiohttp.http_websocket.WebSocketWriter.", "send_frame close", SPEAKS_WEBSOCKET),
        **_of("aiohttp._websocket.reader.", "WebSocketDataQueue", SPEAKS_WEBSOCKET),
        **_of("aiohttp._websocket.reader.WebSocketDataQueue.", "read feed_eof", SPEAKS_WEBSOCKET),
        **_of("aiohttp.streams.", "EofStream", SPEAKS_WEBSOCKET),
    },
    "server/loop": _of("uvloop.Loop.", "run_forever", "a task that asks the process to exit does not end the loop"),
    "server/asgi": _of("django.core.handlers.asgi.", "ASGIHandler", "Django's own tools find the application"),
    "http/view_thread": {
        **_of("asgiref.sync.SyncToAsync.", "context_to_thread_executor", "a request's synchronous code has one thread"),
        **_of("asgiref.sync.SyncToAsync.", "thread_sensitive_context", "a request's synchronous code has one thread"),
        **_of(_RESPONSE, "_resource_closers", "a response that holds nothing is closed without a thread"),
    },
    "observe/signals": _of(_RESPONSE, "_resource_closers", "a response is closed without a signal of its own"),
    "server/in_process": _of(
        _TESTED, "_dont_enforce_csrf_checks", "the test clients of Django say it of their requests"
    ),
    "http/values": {
        **_of("django.http.cookie.", "parse_cookie", "cookies as Django reads them, of bytes that may be no latin-1"),
    },
    "http/request": {
        **_of(_REQUEST, "_body _stream _post _files _read_started _load_post_and_files", BUILDS_LATE),
        **_of(_REQUEST, "_set_content_type_params parse_file_upload", BUILDS_LATE),
        **_of(_REQUEST, "_encoding", "whether a wrapper has changed the request"),
        **_of(_REQUEST, "_get_raw_host _get_scheme", "host and scheme are what a trusted proxy says"),
        **_of(_TESTED, "_dont_enforce_csrf_checks", "middleware lets the test clients of Django pass"),
        **_of("django.http.cookie.", "parse_cookie", BUILDS_LATE),
        **_of("django.http.multipartparser.", "MultiPartParserError", "a form without a charset is refused"),
    },
    "http/response": _of(
        _RESPONSE,
        "_reason_phrase _charset _handler_class _resource_closers",
        "the response is made without Django's __init__, which would invent fields",
    ),
    "http/problem": _of("django.http.multipartparser.", "MultiPartParserError", "a form that is none is 400"),
    "proxy/view": _of(_REQUEST, "_body", "a body that a wrapper has read goes up all the same"),
    "cache/queries": {
        **_of("django.db.models.Model.", "_meta", "the columns of a table"),
        **_of("django.db.models.options.Options.", "concrete_fields db_table", "the columns of a table, its name"),
    },
    "config/checks": _of("django.core.checks.registry.", "registry", "Django's own checks run with ours"),
    "routing/entries": _of("django.urls.resolvers.", "RegexPattern", "a route is one of Django's patterns too"),
    "routing/urls": {
        **_of("django.urls.resolvers.", "RegexPattern", "Django's own lines are tried after the table"),
        **_of("django.urls.ResolverMatch.", "_func_path", "the name of a view in the log"),
    },
    "management/completion": _of(
        "argparse.",
        "_SubParsersAction _SubParsersAction._choices_actions ArgumentParser._actions",
        "what may follow a command: a parser has no public way to be asked",
    ),
    "routing/wrapping": _of(
        "django.utils.decorators.", "make_middleware_decorator", "a cache sees what stands around it"
    ),
}

# Which parameters the gateway counts on, in their order: those of what it calls and of what it overrides.
PARAMETERS = {
    ("server/supervisor", _SERVER + "_spawn_worker"): "self idx target callback_loader",
    ("server/supervisor", _SERVER + "_spawn_workers"): "self spawn_target target_loader",
    ("server/supervisor", _SERVER + "_serve_loop"): "self spawn_target target_loader",
    ("server/supervisor", _SERVER + "_stop_workers"): "self",
    ("server/granian", _SERVER + "serve"): "self spawn_target target_loader wrap_loader",
    ("http/request", _REQUEST + "_set_content_type_params"): "self meta",
    ("http/request", _REQUEST + "parse_file_upload"): "self META post_data",
}

# What the gateway overrides, so that the library calls it.
CALLED_BY_THE_LIBRARY = [
    ("server/supervisor", _SERVER + "_spawn_workers"),
    ("server/supervisor", _SERVER + "_serve_loop"),
    ("server/supervisor", _SERVER + "_stop_workers"),
    ("http/request", _REQUEST + "_get_raw_host"),
    ("http/request", _REQUEST + "_get_scheme"),
    ("http/request", _REQUEST + "_stream"),
    ("http/request", _REQUEST + "parse_file_upload"),
]

# Python documents these, underscore and all.
OF_PYTHON = {"_replace", "_getframe", "_current_frames", "_exit"}
# Where public names lie that no page describes: whoever imports one lists it.
UNDESCRIBED = (
    *("aiohttp.", "granian.", "uvloop.loop.", "django.core.checks.registry.", "django.core.handlers."),
    *("django.http.cookie.", "django.http.multipartparser.", "django.urls.resolvers."),
)


# -- what the libraries have ----------------------------------------------------------------------------------------


def owner_of(name: str) -> tuple[object, str]:
    """What has the last part of a dotted name, and that part. Raises ImportError, AttributeError."""
    path, _, last = name.rpartition(".")
    words = path.split(".")
    for length in range(len(words), 0, -1):
        try:
            found: object = importlib.import_module(".".join(words[:length]))
        except ModuleNotFoundError:
            continue
        for word in words[length:]:
            found = getattr(found, word)
        return found, last
    raise ImportError(name)


@functools.cache
def attributes_in(kind: type) -> frozenset[str]:
    """The attributes that a class written in Python sets or reads of anything, its instances before all."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError):  # it is written in C
        return frozenset()
    return frozenset(node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def has(owner: object, name: str) -> bool:
    if hasattr(owner, name):
        return True
    return isinstance(owner, type) and any(name in attributes_in(kind) for kind in owner.__mro__)


def why_gone(module: str, name: str, why: str) -> str:
    """What to read after an upgrade that took a name away; nothing while it is there."""
    try:
        if has(*owner_of(name)):
            return ""
    except (ImportError, AttributeError):
        pass
    library = name.partition(".")[0]
    return f"{library} {version(library)} has no {name} any more, which gateway/{module}.py uses: {why}"


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in USED.items() for name in names])
def test_the_library_still_has_it(module: str, name: str) -> None:
    assert why_gone(module, name, USED[module][name]) == ""


@pytest.mark.parametrize(
    "name", ["aiohttp.helpers.TimerGone", "aiohttp.gone.Timer", _STREAM + "_read_gone", _SERVER + "_spawn_gone"]
)
def test_a_name_that_is_gone_is_said_with_who_uses_it(name: str) -> None:
    library = name.partition(".")[0]
    said = f"{library} {version(library)} has no {name} any more, which gateway/upstreams/client.py uses: to wait"
    assert why_gone("upstreams/client", name, "to wait") == said


@pytest.mark.parametrize(("module", "name"), PARAMETERS)
def test_it_still_takes_what_it_is_given(module: str, name: str) -> None:
    owner, last = owner_of(name)
    names = list(inspect.signature(getattr(owner, last)).parameters)
    wanted = PARAMETERS[module, name].split()
    assert names[: len(wanted)] == wanted, f"{name} has other parameters, and gateway/{module}.py counts on them"


@pytest.mark.parametrize(("module", "name"), CALLED_BY_THE_LIBRARY)
def test_what_is_overridden_is_still_called(module: str, name: str) -> None:
    owner, last = owner_of(name)
    assert isinstance(owner, type)
    called = any(last in attributes_in(kind) for kind in owner.__mro__)
    assert called, f"nothing calls {name}, which gateway/{module}.py overrides"


def test_granian_still_takes_the_options_that_it_is_given() -> None:
    (call,) = [
        node
        for node in ast.walk(tree_of(PACKAGE / "server/granian.py"))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Supervisor"
    ]
    given = {keyword.arg for keyword in call.keywords}
    server, _ = owner_of(_SERVER + "serve")
    assert given <= set(inspect.signature(server).parameters)  # type: ignore[arg-type]


# -- what the gateway uses ------------------------------------------------------------------------------------------


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_" and name not in OF_PYTHON


def is_listed(module: str, name: str) -> bool:
    return any(one.rpartition(".")[2] == name for one in USED.get(module, ()))


@functools.cache
def own_names(path: Path) -> frozenset[str]:
    """The private names that a file makes: functions, classes, variables, attributes, slots."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return frozenset(filter(is_private, names))


def of_others(path: Path) -> Iterator[str]:
    """The private names that a file uses of objects, and does not make itself."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute):
            if is_private(node.attr) and node.attr not in own_names(path):
                yield node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "hasattr", "setattr", "delattr"}:
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
            if isinstance(name, str) and is_private(name) and name not in own_names(path):
                yield name


def inherited(module: ModuleType) -> Iterator[str]:
    """The private names in classes of a file that a foreign class above them has too."""
    for kind in vars(module).values():
        if not isinstance(kind, type) or kind.__module__ != module.__name__:
            continue
        above = [one for one in kind.__mro__ if is_foreign(one.__module__)]
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind)))):
            name = node.attr if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"self", "cls"} else ""
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = node.name
            if is_private(name) and any(has(one, name) for one in above):
                yield name


@pytest.fixture(scope="module")
def models() -> None:
    """What some of our modules must have before they can be imported."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    django.setup()


def is_foreign(module: str) -> bool:
    root = module.partition(".")[0]
    return root != "gateway" and root not in sys.stdlib_module_names


def has_a_class(path: Path) -> bool:
    return any(isinstance(node, ast.ClassDef) and node.bases for node in ast.walk(tree_of(path)))


every_file = pytest.mark.parametrize("path", MODULES, ids=place)


@every_file
def test_a_private_name_of_another_is_listed(path: Path) -> None:
    assert {name for name in of_others(path) if not is_listed(place(path), name)} == set()


@pytest.mark.parametrize("path", [path for path in MODULES if has_a_class(path)], ids=place)
@pytest.mark.usefixtures("models")
def test_a_private_name_of_a_class_above_is_listed(path: Path) -> None:
    module = importlib.import_module("gateway." + place(path).replace("/", ".").removesuffix(".__init__"))
    assert {name for name in inherited(module) if not is_listed(place(path), name)} == set()


@every_file
def test_a_listed_name_in_quotes_is_listed_for_who_writes_it(path: Path) -> None:
    """As `_BUILT_LATER` of the cache's view has them."""
    listed = {name.rpartition(".")[2] for names in USED.values() for name in names}
    texts = {node.value for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant)}
    written = {text for text in texts if isinstance(text, str) and is_private(text) and text in listed}
    assert {name for name in written - own_names(path) if not is_listed(place(path), name)} == set()


@every_file
def test_what_is_imported_from_where_nothing_is_described_is_listed(path: Path) -> None:
    for name in imports_of(path):
        parts = name.split(".")
        hidden = is_foreign(name) and any(map(is_private, parts))
        if hidden or (name.startswith(UNDESCRIBED) and not inspect.ismodule(getattr(*owner_of(name), None))):
            assert name in USED.get(place(path), {}), f"gateway/{place(path)}.py imports {name}"


def words_in(path: Path) -> Iterator[str]:
    """Every name that a file writes: of a variable, an attribute, an import, a method, or in quotes."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.alias | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("module", USED)
def test_nothing_is_listed_that_is_not_used(module: str) -> None:
    # One makes what another hands out, one what decorators are made of: nobody imports them.
    unseen = {"WorkerProcess", "make_middleware_decorator"}
    listed = {name.rpartition(".")[2] for name in USED[module]}
    assert listed - unseen - set(words_in(PACKAGE / f"{module}.py")) == set()
