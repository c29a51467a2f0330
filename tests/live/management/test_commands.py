"""The `gateway` command as a person types it: what it prints where, and its exit code."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway import __version__
from tests.live.harness import HOME, OK, Answer, Gateway, Upstream, Wire, eventually, free_port, request_bytes

COMMAND = Path(sys.executable).parent / "gateway"
USERS = {"GATEWAY_UPSTREAM_USERS": "http://127.0.0.1:9001", "GATEWAY_ROUTE_USERS": "/users/** -> users"}
# Home's own would be found too: each test brings the routes that it means.
ROUTES = "from gateway.routing import from_environment\n\nurlpatterns = [*from_environment()]\n"


def environment_of(environment: Mapping[str, str]) -> dict[str, str]:
    """These GATEWAY_* and no others."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("GATEWAY_")} | dict(
        environment
    )


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    output: str
    errors: str

    @property
    def lines(self) -> list[str]:
        return self.errors.splitlines()


def run(cwd: Path, *arguments: str, **environment: str) -> Ran:
    """Run the installed `gateway` to its end."""
    done = subprocess.run(
        [COMMAND, *arguments],
        cwd=cwd,
        env=environment_of(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def write_routes(folder: Path, text: str, name: str = "routes.py") -> None:
    (folder / name).write_text(text, encoding="utf-8")


# -- check ------------------------------------------------------------------------------------------------------------


def test_compression_without_its_packages_is_said_at_the_start(tmp_path: Path) -> None:
    hidden = "import gateway.answers.coders\n\ngateway.answers.coders.find_spec = lambda name: None\n"
    write_routes(tmp_path, hidden + ROUTES)
    for command in ("check", "serve"):
        ran = run(tmp_path, command, **USERS, GATEWAY_UPSTREAM_USERS__COMPRESS="on")
        assert ran.code == 2
        assert "GATEWAY_UPSTREAM_USERS__COMPRESS: it needs isal and zstandard, of the extra [compress]" in ran.errors
    assert run(tmp_path, "check", **USERS).code == 0


def test_a_good_configuration(tmp_path: Path) -> None:
    assert run(tmp_path, "check", **USERS) == Ran(0, "The configuration is good: upstreams 1, routes 1.\n", "")


def test_check_is_quick(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    times = []
    for _ in range(2):
        started = time.monotonic()
        run(tmp_path, "check", **USERS)
        times.append(time.monotonic() - started)
    record_property("gateway check, bar 0.5 s", f"{min(times):.2f} s")


def test_all_problems_of_the_environment_come_at_once(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        "check",
        GATEWAY_UPSTREM_USERS="http://127.0.0.1:9001",
        GATEWAY_WORKERS="0",
        GATEWAY_ROUTE_USERS="/users/**",
        gateway_bind="127.0.0.1:8000",
        GATEWAY_DRAIN="8",
    )
    assert (ran.code, ran.output) == (2, "")
    assert ran.errors == (
        "5 problems in the environment:\n"
        "  GATEWAY_DRAIN = 8\n"
        "      a duration needs its unit, such as 500ms, 60s, 5m or 1h; a bare number says none\n"
        "  GATEWAY_ROUTE_USERS = /users/**\n"
        "      no target; in a shell, quote the value: > is a redirection\n"
        "  GATEWAY_UPSTREM_USERS = http://127.0.0.1:9001\n"
        "      there is no such variable\n"
        "      did you mean GATEWAY_UPSTREAM_USERS?\n"
        "  GATEWAY_WORKERS = 0\n"
        "      expected a whole number from 1 to 256\n"
        "  gateway_bind = 127.0.0.1:8000\n"
        "      variables are upper case\n"
        "      did you mean GATEWAY_BIND?\n"
    )


ESCAPES = "\x1b]0;owned\x07\x9b31m\u202e"
HOSTILE_ROUTES = f"""
from django.urls import path
from gateway.routing import from_environment
async def view(request): ...
urlpatterns = [*from_environment(), path({ESCAPES!r}, view)]
"""


@pytest.mark.parametrize(
    ("words", "routes", "environment"),
    [
        (["check"], ROUTES, {"GATEWAY_ROUTE_A": f"/a/{ESCAPES} -> users"}),
        (["check", "--env-file", ESCAPES], ROUTES, {}),
        (["check"], f"raise ValueError({ESCAPES!r})", {}),
        (["check", ESCAPES], ROUTES, {}),
        (["routes"], HOSTILE_ROUTES, {}),
        (["explain", "GET", f"/users/{ESCAPES}", "-H", f"X: {ESCAPES}"], ROUTES, {}),
        (["explain", f"G{ESCAPES}", "/users"], ROUTES, {}),
        (["cache", "why", "GET", f"/users/{ESCAPES}"], ROUTES, {"GATEWAY_ROUTE_USERS__CACHE": "on"}),
        (["cache", "purge", ESCAPES], ROUTES, {"GATEWAY_ROUTE_USERS__CACHE": "on"}),
        ([ESCAPES], ROUTES, {}),
    ],
    ids=lambda value: " ".join(value[:2]).replace(ESCAPES, "...") if isinstance(value, list) else "",
)
def test_what_a_terminal_would_act_on_is_shown_instead(
    tmp_path: Path, words: list[str], routes: str, environment: dict[str, str]
) -> None:
    write_routes(tmp_path, routes)
    ran = run(tmp_path, *words, **{**USERS, **environment})
    said = ran.output + ran.errors
    assert "]0;owned" in said
    assert said.replace("\n", "").isprintable(), ascii(said)


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("nothing.invalid:8000", "GATEWAY_BIND: the host name has no address here: "),
        (":8000", "GATEWAY_BIND = :8000"),
        ("*:8000", "GATEWAY_BIND = *:8000"),
        ("127.0.0.1", "GATEWAY_BIND = 127.0.0.1"),
        ("127.0.0.1:0", "GATEWAY_BIND = 127.0.0.1:0"),
        ("127.0.0.1:http", "GATEWAY_BIND = 127.0.0.1:http"),
        ("127.1:8000", "GATEWAY_BIND = 127.1:8000"),
        ("::1:8000", "GATEWAY_BIND = ::1:8000"),
        ("unix:/run/gateway", "GATEWAY_BIND = unix:/run/gateway"),
    ],
)
def test_an_address_that_cannot_be_served_is_refused(tmp_path: Path, bind: str, expected: str) -> None:
    write_routes(tmp_path, ROUTES)
    ran = run(tmp_path, "check", **USERS, GATEWAY_BIND=bind)
    assert ran.code == 2
    assert expected in ran.errors


def test_an_address_of_another_machine_is_a_warning(tmp_path: Path) -> None:
    """A configuration may be checked elsewhere than where it serves."""
    write_routes(tmp_path, ROUTES)
    ran = run(tmp_path, "check", **USERS, GATEWAY_BIND="192.0.2.1:8000")
    assert ran.code == 0
    assert ran.lines == [
        "gateway: warning: on this machine: cannot listen on 192.0.2.1:0: cannot assign requested address"
    ]


@pytest.mark.parametrize("command", ["check", "serve", "routes", "config"])
def test_no_command_gets_past_a_faulty_environment(tmp_path: Path, command: str) -> None:
    ran = run(tmp_path, command, **USERS, GATEWAY_LOG="yaml")
    assert (ran.code, ran.output) == (2, "")
    assert ran.lines[:2] == ["1 problem in the environment:", "  GATEWAY_LOG = yaml"]


@pytest.mark.parametrize("command", ["check", "serve"])
def test_no_route_at_all_shows_two_lines_to_copy(tmp_path: Path, command: str) -> None:
    ran = run(tmp_path, command)
    assert (ran.code, ran.output) == (2, "")
    first, *to_copy = ran.lines
    assert first == "gateway: there is no route yet; for a start:"
    # They are meant to be pasted: a shell reads them, and then they are good.
    assert len(to_copy) == 2
    script = "\n".join(to_copy) + f"\nexec {COMMAND} check\n"
    done = subprocess.run(["/bin/sh", "-c", script], cwd=tmp_path, env=environment_of({}), check=False, timeout=60)
    assert done.returncode == 0


def test_a_warning_is_no_problem(tmp_path: Path) -> None:
    ran = run(tmp_path, "check", **USERS, GATEWAY_CORS="")
    assert ran.code == 0
    assert ran.lines == ["gateway: warning: GATEWAY_CORS is empty, which counts as not set"]


@pytest.mark.parametrize(
    ("name", "value", "is_warned"),
    [
        ("CACHE_CONTROL", "max-age=3600", True),
        ("CACHE_CONTROL", "public", True),
        ("CACHE_CONTROL", "private, max-age=60", True),
        ("CDN_CACHE_CONTROL", "s-maxage=60", True),
        ("EXPIRES", "Fri, 31 Dec 2100 23:59:59 GMT", True),
        ("EXPIRES", "0", False),
        ("CACHE_CONTROL", "no-store", False),
        ("CACHE_CONTROL", "no-cache, max-age=60", False),
        ("CACHE_CONTROL", "max-age=0", False),
        ("CACHE_CONTROL", "-", False),
        ("X_FRAME_OPTIONS", "DENY", False),
    ],
)
def test_a_field_that_lets_caches_keep_failures_is_warned_of(
    tmp_path: Path, name: str, value: str, *, is_warned: bool
) -> None:
    field = f"response_header_{name.lower()}"
    (tmp_path / "routes.py").write_text(
        "from django.urls import path\nfrom gateway.routing import cached, from_environment, proxy, route\n"
        f"view = proxy('users', {field}={value!r})\n"
        "urlpatterns = [*from_environment(), route('/python', view), path('django/', cached(view))]\n"
    )
    variables = {f"GATEWAY_{owner}__{field.upper()}": value for owner in ("UPSTREAM_USERS", "ROUTE_USERS", "ROUTE_FAN")}
    ran = run(
        tmp_path, "check", **USERS, GATEWAY_ROUTE_FAN="GET /fan", GATEWAY_ROUTE_FAN__PART_P="users:/", **variables
    )
    assert ran.code == 0
    places = [line.split(": it is set on answers of every status")[0] for line in ran.lines]
    expected = sorted([*variables, f"routes.py:4: {field}", f"django/: {field}"])
    assert sorted(place.removeprefix("gateway: warning: ") for place in places) == (expected if is_warned else [])


def test_every_command_that_tells_of_a_route_tells_how_long_it_lets_stale_answers_stand_in(tmp_path: Path) -> None:
    said = {**USERS, "GATEWAY_ROUTE_USERS__CACHE": "60s", "GATEWAY_ROUTE_USERS__STALE_IF_ERROR": "5m"}
    assert "stored for as long as it says, else 60s, stale for 5m after a failure" in run(
        tmp_path, "explain", "GET", "/users/1", **said
    ).output.replace("  ", " ")
    assert "stale for 300 s after a failure" in run(tmp_path, "cache", "why", "GET", "/users/1", **said).output
    assert "stale_if_error=5m" in run(tmp_path, "routes", **said).output
    assert "GATEWAY_ROUTE_USERS__STALE_IF_ERROR" in run(tmp_path, "config", **said).output


def test_problems_of_certificates_and_routes_come_at_once(tmp_path: Path) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nbm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"
    (tmp_path / "ca.pem").write_text(pem, encoding="ascii")
    write_routes(
        tmp_path,
        "from gateway.routing import from_environment, proxy, route\n"
        "urlpatterns = [\n"
        "    *from_environment(),\n"
        "    route('/users/**', proxy('users')),\n"
        "    route('/a/**', proxy('nobody')),\n"
        "    route('/-/b', proxy('users')),\n"
        "]\n",
    )
    ran = run(
        tmp_path,
        "check",
        **USERS,
        GATEWAY_UPSTREAM_SAFE="https://127.0.0.1:9443",
        GATEWAY_UPSTREAM_SAFE__CA_FILE=str(tmp_path / "ca.pem"),
    )
    assert (ran.code, ran.output) == (2, "")
    assert len(ran.lines) == 4
    assert ran.lines[0].startswith("gateway: GATEWAY_UPSTREAM_SAFE: a certificate or key of it does not load: ")
    assert ran.lines[1:] == [
        "gateway: '/users/**' stands twice: GATEWAY_ROUTE_USERS and routes.py:4; both take /users",
        "gateway: routes.py:6: '/-/b' lies under /-/, which belongs to the gateway",
        "gateway: routes.py:5: there is no upstream nobody; set GATEWAY_UPSTREAM_NOBODY to its base URL",
    ]


# -- routes modules that cannot be served -----------------------------------------------------------------------------

HEAD = "from django.urls import include, path\nfrom gateway.routing import from_environment, proxy, route\n"
# A wrapper as teams write it, and what may stand behind one.
WRAPS = (
    HEAD
    + """
import functools
from django.urls import re_path
from gateway.routing import cached, legacy


def guard(view):
    @functools.wraps(view)
    async def inner(request, **params):
        return await view(request, **params)
    return inner


def report(year): ...


urlpatterns = [*from_environment(), %s]
"""
)
FAULTY = {
    "a syntax error": (
        "urlpatterns = [\n",
        "routes.py:1: SyntaxError: '[' was never closed",
    ),
    "a module that is not there": (
        "\nimport nothere\n",
        "routes.py:2: ModuleNotFoundError: No module named 'nothere'",
    ),
    "a name that is not there": (
        "from gateway.routing import rout\n",
        "routes.py:1: ImportError: cannot import name 'rout' from 'gateway.routing'",
    ),
    "an exception in a function of it": (
        "def lines():\n    return 1 / 0\n\nurlpatterns = lines()\n",
        "routes.py:2: ZeroDivisionError: division by zero",
    ),
    "an exit": (
        "import sys\nsys.exit(3)\n",
        "routes.py:2: SystemExit: 3",
    ),
    "a cancellation of its own loop": (
        "import asyncio\nraise asyncio.CancelledError('too late')\n",
        "routes.py:2: CancelledError: too late",
    ),
    "no urlpatterns": (
        "from gateway.routing import route\n",
        "routes.py defines no list urlpatterns",
    ),
    "no from_environment()": (
        HEAD + "urlpatterns = [route('/x', proxy('users'))]\n",
        "routes.py leaves out *from_environment(), so GATEWAY_ROUTE_* would be without effect",
    ),
    "from_environment() without its star": (
        HEAD + "urlpatterns = [from_environment()]\n",
        "routes.py: urlpatterns holds a list; write a star before it: *from_environment()",
    ),
    "a line that is none": (
        HEAD + "urlpatterns = [*from_environment(), 'x']\n",
        "routes.py: urlpatterns holds 'x', which is no route() or path() line",
    ),
    "an upstream that nobody defined": (
        HEAD + "urlpatterns = [*from_environment(), route('/x', proxy('user'))]\n",
        "routes.py:3: there is no upstream user; did you mean users?",
    ),
    "an upstream that nobody defined, in a path()": (
        HEAD + "urlpatterns = [*from_environment(), path('x/', include([path('y', proxy('user'))]))]\n",
        "y: there is no upstream user; did you mean users?",
    ),
    "two equal routes": (
        HEAD + "urlpatterns = [\n    *from_environment(),\n"
        "    route('/a/{x}', proxy('users')),\n    route('/a/{y}', proxy('users')),\n]\n",
        "'/a/{x}' stands twice: routes.py:5 and routes.py:6; both take /a/1",
    ),
    "route() inside include()": (
        HEAD + "urlpatterns = [*from_environment(), path('q/', include([route('/c', proxy('users'))]))]\n",
        "routes.py:3: route() lines do not work inside include(); write them into urlpatterns",
    ),
    "a pattern that does not parse": (
        HEAD + "urlpatterns = [\n    *from_environment(),\n    route('/a/{', proxy('users')),\n]\n",
        "routes.py:5: route('/a/{'): a brace without its partner in '{'",
    ),
    "a target that does not parse": (
        HEAD + "urlpatterns = [*from_environment(), route('/a', proxy('users:b'))]\n",
        "routes.py:3: ",
    ),
    "an option that there is not": (
        HEAD + "urlpatterns = [*from_environment(), route('/a', proxy('users', timeot='5s'))]\n",
        "routes.py:3: ValueError: timeot: a route has no such option; did you mean timeout?",
    ),
    "an option without its unit": (
        HEAD + "urlpatterns = [*from_environment(), route('/a', proxy('users', timeout='5'))]\n",
        "routes.py:3: ValueError: timeout: a duration needs its unit, such as 500ms, 60s, 5m or 1h",
    ),
    "a view that cannot be called": (
        HEAD + "urlpatterns = [*from_environment(), route('/a', 'users')]\n",
        "routes.py:3: route('/a'): ",
    ),
    "a view that does not take what its pattern gives": (
        HEAD + "def home(request): ...\nurlpatterns = [*from_environment(), route('/a/{id}', home)]\n",
        "routes.py:4: route('/a/{id}'): home() does not fit: got an unexpected keyword argument 'id'",
    ),
    "a view that wants what its pattern does not give": (
        HEAD + "async def home(request, id): ...\nurlpatterns = [*from_environment(), route('/a', home)]\n",
        "routes.py:4: route('/a'): home() does not fit: missing a required argument: 'id'",
    ),
    "a rest that Django's own line does not give": (
        WRAPS % "path('api/<path:rest>', proxy('users:/v1/**'))",
        "api/<path:rest>: the target users:/v1/** ends in '**', for which there is route(): ",
    ),
    "the same behind a wrapper, a cache and an include()": (
        WRAPS % "path('x/', include([path('<path:rest>', guard(cached(guard(proxy('users:/v1/**')))))]))",
        "<path:rest>: the target users:/v1/** ends in '**', for which there is route(): ",
    ),
    "a parameter that Django's own line does not give": (
        WRAPS % "path('x/<int:x>', proxy('users:/users/{id}'))",
        "x/<int:x>: '{id}' of the target users:/users/{id} is not in the pattern (its parameters: {x})",
    ),
    "the same in a query, behind a wrapper": (
        WRAPS % "re_path('^x/(?P<x>.)$', guard(proxy('users:/users?id={id}')))",
        "^x/(?P<x>.)$: '{id}' of the target users:/users?id={id} is not in the pattern (its parameters: {x})",
    ),
    "a parameter that a route behind a wrapper does not have": (
        WRAPS % "route('/x/{x}', guard(proxy('users:/users/{id}')))",
        "routes.py:19: '{id}' is not in the pattern (its parameters: {x})",
    ),
    "groups without names": (
        WRAPS % "re_path('^x/(.)$', proxy('users:/users'))",
        "^x/(.)$: users takes parameters by name: write (?P<id>...) instead of (...)",
    ),
    "groups without names before a cache": (
        WRAPS % "re_path('^x/', include([re_path('^(.)$', guard(cached(guard(guard))))]))",
        "^(.)$: guard takes parameters by name: write (?P<id>...) instead of (...)",
    ),
    "a function that Django's own line does not fit": (
        WRAPS % "path('x/<int:x>', guard(legacy(report)))",
        "x/<int:x>: report() does not fit: missing a required argument: 'year'",
    ),
    "a route under /-/": (
        HEAD + "urlpatterns = [*from_environment(), route('/-/a', proxy('users'))]\n",
        "routes.py:3: '/-/a' lies under /-/, which belongs to the gateway",
    ),
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """How `gateway check` ended for each of them, as many at a time as there are processors."""

    folders = {fault: tmp_path_factory.mktemp("faulty") for fault in FAULTY}

    def check(fault: str) -> Ran:
        write_routes(folders[fault], FAULTY[fault][0])
        return run(folders[fault], "check", **USERS)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(FAULTY, pool.map(check, FAULTY), strict=True))


@pytest.mark.parametrize("fault", FAULTY)
def test_a_routes_module_that_cannot_be_served(checked: dict[str, Ran], fault: str) -> None:
    ran, expected = checked[fault], FAULTY[fault][1]
    assert (ran.code, ran.output) == (2, "")
    assert len(ran.lines) == 1, ran.errors
    assert ran.lines[0].startswith(f"gateway: {expected}"), ran.errors


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothere", "GATEWAY_URLCONF=nothere: there is no module of that name"),
        ("not.here", "GATEWAY_URLCONF=not.here: there is no module of that name"),
        ("routes.py", "GATEWAY_URLCONF=routes.py: there is no module of that name; without .py: routes"),
    ],
)
def test_a_routes_module_that_is_not_there(tmp_path: Path, name: str, expected: str) -> None:
    ran = run(tmp_path, "check", **USERS, GATEWAY_URLCONF=name)
    assert (ran.code, ran.lines) == (2, [f"gateway: {expected}"])


@pytest.mark.parametrize("command", ["routes", "serve"])
def test_the_other_commands_say_the_same(tmp_path: Path, command: str) -> None:
    write_routes(tmp_path, "import nothere\n")
    ran = run(tmp_path, command, **USERS, GATEWAY_BIND=f"127.0.0.1:{free_port()}")
    assert ran == Ran(2, "", "gateway: routes.py:1: ModuleNotFoundError: No module named 'nothere'\n")


# -- routes -----------------------------------------------------------------------------------------------------------

TEAM = """\
from django.urls import path
from gateway.routing import from_environment, proxy, route


async def home(request, id):
    ...


urlpatterns = [
    *from_environment(),
    route("GET /home/{id}", home),
    route("/orders/**", proxy("users:/v2/**", max_body="64KiB", header_x_tenant="acme"), name="orders"),
    path("reports/<int:year>/", home),
]
"""


OF_USERS = {"GATEWAY_ROUTE_USERS__TIMEOUT": "500ms", "GATEWAY_ROUTE_USERS__PATH": "raw"}


def test_the_table_tells_where_each_route_leads_and_came_from(tmp_path: Path) -> None:
    write_routes(tmp_path, TEAM.replace(', max_body="64KiB", header_x_tenant="acme"', ""))
    ran = run(tmp_path, "routes", **USERS)
    assert (ran.code, ran.errors) == (0, "")
    assert ran.output.splitlines()[:4] == [
        "PATTERN              TARGET        NAME    FROM",
        "/users/**            users         users   GATEWAY_ROUTE_USERS",
        "GET /home/{id}       home()        home    routes.py:11",
        "/orders/**           users:/v2/**  orders  routes.py:12",
    ]
    assert ran.output.splitlines()[4].split() == ["reports/<int:year>/", "home()", "urlpatterns"]


def test_the_table_as_json(tmp_path: Path) -> None:
    write_routes(tmp_path, TEAM)
    ran = run(tmp_path, "routes", "--json", **USERS, **OF_USERS)
    assert (ran.code, ran.errors) == (0, "")
    users, home, orders, reports = json.loads(ran.output)
    assert home == {
        "pattern": "GET /home/{id}",
        "target": "home()",
        "name": "home",
        "origin": "routes.py:11",
        "options": {},
        "inherited": {},
    }
    assert (users["origin"], users["options"]) == ("GATEWAY_ROUTE_USERS", {"timeout": "500ms", "path": "raw"})
    assert (orders["origin"], orders["options"]) == ("routes.py:12", {"max_body": "64KiB", "header_x_tenant": "***"})
    assert (reports["pattern"], reports["origin"]) == ("reports/<int:year>/", "urlpatterns")


def test_options_are_a_column_where_there_are_any(tmp_path: Path) -> None:
    write_routes(tmp_path, TEAM)
    head, users, home, orders, _ = run(tmp_path, "routes", **USERS, **OF_USERS).output.splitlines()
    assert head.split() == ["PATTERN", "TARGET", "NAME", "FROM", "OPTIONS"]
    assert users.split()[4:] == ["timeout=500ms", "path=raw"]
    assert home.split()[-1] == "routes.py:11"
    assert orders.split()[4:] == ["max_body=64KiB", "header_x_tenant=***"]


def test_the_table_can_be_cut_short_by_a_reader(tmp_path: Path) -> None:
    lines = "".join(f"    route('/r{number}/**', proxy('users'), name='r{number}'),\n" for number in range(3000))
    write_routes(tmp_path, f"{HEAD}urlpatterns = [\n    *from_environment(),\n{lines}]\n")
    script = f"{COMMAND} routes | head -n 1"
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=tmp_path, env=environment_of(USERS), capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["PATTERN", "TARGET", "NAME", "FROM"]
    assert done.stderr == ""


@pytest.mark.parametrize("words", ["--help", "config", "routes --json", "explain GET /users/1"])
def test_a_reader_that_is_gone_already_is_no_fault(tmp_path: Path, words: str) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    try:
        done = subprocess.run(
            [COMMAND, *words.split()],
            cwd=tmp_path,
            env=environment_of(USERS),
            stdout=writes,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writes)
    assert (done.returncode, done.stderr) == (0, "")


# -- a file of variables ----------------------------------------------------------------------------------------------


def test_a_file_lies_beneath_the_environment(tmp_path: Path) -> None:
    lines = "\n".join(f"{name}={value}" for name, value in {**USERS, "GATEWAY_WORKERS": "many"}.items())
    (tmp_path / "prod.env").write_text(f"# production\n{lines}\n", encoding="utf-8")
    ran = run(tmp_path, "check", "--env-file", "prod.env", GATEWAY_WORKERS="2", GATEWAY_LOG="")
    assert (ran.code, ran.output) == (0, "The configuration is good: upstreams 1, routes 1.\n")
    rows = [
        line.split()
        for line in run(tmp_path, "config", "--env-file", "prod.env", GATEWAY_WORKERS="2").output.splitlines()
    ]
    assert ["GATEWAY_WORKERS", "2", "variable"] in rows
    ran = run(tmp_path, "check", "--env-file", "prod.env", GATEWAY_WORKERS="none")
    assert "  GATEWAY_WORKERS = none\n" in ran.errors, "the environment's own has no place in the file"


@pytest.mark.parametrize(
    ("coding", "problem"),
    [
        ("utf-8-sig", ""),
        ("utf-16", "gateway: prod.env: this is not UTF-8 text"),
        ("utf-16-le", "gateway: prod.env: this is not UTF-8 text"),
        ("latin-1", "gateway: prod.env: this is not UTF-8 text"),
    ],
)
def test_files_of_other_editors_are_read_or_refused(tmp_path: Path, coding: str, problem: str) -> None:
    lines = "".join(f"{name}={value}\r\n" for name, value in USERS.items())
    (tmp_path / "prod.env").write_text(f"{lines}# caf\u00e9\r\n", encoding=coding, newline="")
    ran = run(tmp_path, "check", "--env-file", "prod.env")
    assert (ran.code, ran.errors.partition("\n")[0]) == (2 if problem else 0, problem)


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "latin-1"])
def test_a_secret_that_is_not_utf_8_is_refused_and_not_shown(tmp_path: Path, coding: str) -> None:
    write_routes(tmp_path, ROUTES)
    (tmp_path / "token").write_text("tops\u00e9cret", encoding=coding)
    ran = run(tmp_path, "check", **USERS, GATEWAY_UPSTREAM_USERS__HEADER_X_FILE="token")
    assert ran.code == 2
    assert "cannot read the file" in ran.errors
    assert "tops" not in ran.errors


def test_a_verb_of_the_cache_takes_a_file_too(tmp_path: Path) -> None:
    lines = "\n".join(f"{name}={value}" for name, value in USERS.items())
    (tmp_path / "prod.env").write_text(lines, encoding="utf-8")
    for words in (["ls", "--env-file", "prod.env"], ["--env-file", "prod.env", "ls"]):
        assert run(tmp_path, "cache", *words) == Ran(0, "Nothing is stored.\n", "")


def test_problems_and_warnings_of_a_file_name_its_lines(tmp_path: Path) -> None:
    (tmp_path / "prod.env").write_text(
        "GATEWAY_UPSTREAM_USERS=http://127.0.0.1:9001\n"
        "GATEWAY_ROUTE_USERS='/users/** -> users'\n"
        "export GATEWAY_LOG=console\n"
        "GATEWAY_WORKERS=many\n",
        encoding="utf-8",
    )
    ran = run(tmp_path, "check", "--env-file=prod.env", "--env-file", "gone.env")
    assert (ran.code, ran.output) == (2, "")
    assert ran.errors == (
        "gateway: prod.env:3: expected KEY=VALUE, without spaces around the = and without `export`\n"
        "gateway: gone.env: No such file or directory\n"
        "2 problems in the environment:\n"
        "  GATEWAY_ROUTE_USERS (prod.env:2) = '/users/** -> users'\n"
        "      the value is still in quotes; without them it is /users/** -> users\n"
        "  GATEWAY_WORKERS (prod.env:4) = many\n"
        "      expected a whole number from 1 to 256\n"
    )


def test_what_is_found_behind_the_environment_names_lines_too(tmp_path: Path) -> None:
    write_routes(tmp_path, f"{HEAD}urlpatterns = [*from_environment(), route('/users/**', proxy('users'))]\n")
    lines = [f"{name}={value}" for name, value in USERS.items()]
    text = "\n".join([*lines, "GATEWAY_CORS=", "GATEWAY_LOG=json", "GATEWAY_LOG=console"])
    (tmp_path / "prod.env").write_text(text, encoding="utf-8")
    ran = run(tmp_path, "check", "--env-file", "prod.env")
    assert (ran.code, ran.lines) == (
        2,
        [
            "gateway: warning: prod.env:5: GATEWAY_LOG (prod.env:5) again: what prod.env:4 says is without effect",
            "gateway: warning: GATEWAY_CORS (prod.env:3) is empty, which counts as not set",
            "gateway: '/users/**' stands twice: GATEWAY_ROUTE_USERS (prod.env:2) and routes.py:3; both take /users",
        ],
    )


# -- config -----------------------------------------------------------------------------------------------------------


def test_the_configuration_in_force_with_its_origins(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer topsecret\n", encoding="ascii")
    token = {"GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION_FILE": "./token"}
    ran = run(tmp_path, "config", **USERS, **token, GATEWAY_DATABASE_URL="postgresql://me:topsecret@db/portway")
    assert (ran.code, ran.errors) == (0, "")
    rows = [line.split() for line in ran.output.splitlines()]
    assert rows[:2] == [["VARIABLE", "VALUE", "FROM"], ["GATEWAY_BIND", "127.0.0.1:8000", "default"]]
    assert ["GATEWAY_DATABASE_URL", "postgresql://***@db/portway", "variable"] in rows
    assert ["GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION", "***", "file", "./token"] in rows
    field = "USERS__HEADER_AUTHORIZATION"
    inherited = f"GATEWAY_ROUTE_{field}", f"GATEWAY_UPSTREAM_{field}_FILE"
    assert rows[-3:] == [
        [],
        ["GATEWAY_ROUTE_USERS", "/users/**", "->", "users", "variable"],
        [inherited[0], "***", inherited[1]],
    ]
    assert "topsecret" not in ran.output


# -- colours ----------------------------------------------------------------------------------------------------------


KEYED = (
    ROUTES.replace("from_environment", "cached, from_environment, fetch, proxy, route", 1)
    .replace(
        "[*from_environment()]",
        """[
    *from_environment(),
    route("GET /python", proxy("u:/python?key=topsecret")),
    route("GET /cached", cached(proxy("u:/cached?topsecret"), "60s")),
    path("django", proxy("u:/django?key=topsecret&id=1")),
    route("GET /fetched", fetched),
    route("GET /failing", failing),
]""",
    )
    .replace(
        "\n\nurl",
        """
from django.http import HttpResponse
from django.urls import path

async def fetched(request):
    return HttpResponse((await fetch("u:/fetched?key=topsecret", cache="60s")).body)

async def failing(request):
    await fetch("u:/{id}?key=" + "top" "secret", params={})  # the log shows the line

url""",
    )
)


def test_a_key_in_the_query_of_a_target_shows_nowhere(tmp_path: Path) -> None:
    """Not in what commands, the log, the status page, metrics and problems say, nor where it came out of a file."""
    write_routes(tmp_path, KEYED)
    (tmp_path / "route").write_text("GET /file -> u:/file?key=topsecret&shown={id}".replace("/file ", "/file/{id} "))
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    with Upstream.answering(answer) as up:
        environment = {
            "GATEWAY_UPSTREAM_U": up.url,
            "GATEWAY_ROUTE_PLAIN": "GET /plain/{id} -> u:/plain?key=topsecret&id={id}",
            "GATEWAY_ROUTE_FILED_FILE": "route",
            "GATEWAY_ROUTE_FAN": "GET /fan/{id}",
            "GATEWAY_ROUTE_FAN__PART_A": "u:/part?key=topsecret&id={id}",
            "GATEWAY_ROUTE_FAN__PART_B": "u:/gone?key=topsecret",
            "GATEWAY_ROUTE_FAN__PART_B__CACHE": "60s",
            "GATEWAY_LOG_LEVEL": "debug",
            "GATEWAY_DATABASE_URL": f"sqlite:///{tmp_path}/portway.sqlite3",
        }
        texts: dict[str, str] = {}
        with Gateway(environment, cwd=tmp_path) as gateway:
            for target in ("/plain/1", "/file/1", "/fan/1", "/python", "/cached", "/django", "/fetched", "/failing"):
                status = 500 if target == "/failing" else 200
                raw = gateway.get(target)
                assert raw.status == status, raw
                texts[target] = raw.body.decode()
            assert sum("topsecret" in request.target for request in up.requests) == 8
            for own in ("/-/status", "/-/metrics", "/-/"):
                texts[own] = gateway.ask(request_bytes("GET", own, host="localhost")).body.decode()
            commands = ["check", "config", "routes", "routes --json", "explain GET /plain/1", "explain GET /file/1"]
            commands += ["explain GET /fan/1", "explain GET /python", "explain GET /cached", "cache why GET /cached"]

            def listed() -> str:
                ls = run(tmp_path, "cache", "ls", **environment).output
                return ls if ls.count("\n") >= 4 else ""

            texts["cache ls"] = eventually(listed)
            for command in commands:
                ran = run(tmp_path, *command.split(), **environment)
                assert ran.code == 0, ran
                texts[command] = ran.output + ran.errors
        texts["log"] = "\n".join([*gateway.output, *gateway.errors])
    assert {name: text for name, text in texts.items() if "topsecret" in text} == {}
    assert "u:/plain?key=***&id={id}" in texts["routes"]
    assert f"{up.url}/plain?key=***&id=1" in texts["explain GET /plain/1"]
    assert "part://u/gone?key=***" in texts["cache ls"]


@pytest.mark.parametrize(
    "line",
    [
        "GET /a u:/x?key=topsecret",
        "GET /a -> u/x?key=topsecret",
        "GET /a?key=topsecret -> u",
        "u:x?key=topsecret",
        "GET /a -> u:/x?key=topsecret{",
        "GET /a -> u:/x?key=topsecret{id",
        "GET /a -> u:/x?key=topsecret{id}",
        "GET /a -> http://u/x?key=topsecret",
        "GET /a -> u:/x?key=topsecret#",
        "get /a -> u:/x?key=topsecret",
        "GET a?key=topsecret",
        "'GET /a -> u:/x?key=topsecret'",
    ],
)
def test_a_key_in_a_target_that_is_no_target_shows_nowhere(line: str, tmp_path: Path) -> None:
    write_routes(tmp_path, ROUTES)
    part = {"GATEWAY_ROUTE_F": "GET /f", "GATEWAY_ROUTE_F__PART_P": line.rpartition("-> ")[2]}
    ran = run(tmp_path, "check", GATEWAY_UPSTREAM_U="http://u", GATEWAY_ROUTE_A=line, **part)
    assert ran.code == 2
    assert "topsecret" not in ran.output + ran.errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check",), b"The configuration is good"),
        (("routes",), b"/users"),
        (("explain", "GET", "/users/3"), b"Headers that go up"),
        (("config",), b"GATEWAY_BIND"),
    ],
)
def test_colours_are_for_terminals_that_want_them(tmp_path: Path, arguments: Sequence[str], words: bytes) -> None:
    for no_color, on_terminal, coloured in (("", True, True), ("1", True, False), ("", False, False)):
        environment = environment_of({**USERS, "NO_COLOR": no_color, "TERM": "xterm"})
        command = [str(COMMAND), *arguments]
        if on_terminal:
            code, printed = on_a_terminal(command, tmp_path, environment)
        else:
            ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False)
            code, printed = ran.returncode, ran.stdout + ran.stderr
        assert code == 0
        assert words in printed
        assert (b"\x1b[" in printed) == coloured, (no_color, on_terminal)


def on_a_terminal(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, bytes]:
    """The exit code of a command, and what it showed on a terminal."""
    terminal, end = os.openpty()
    shown = b""
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=end, stderr=end) as process:
        os.close(end)
        with suppress(OSError):  # the terminal's end, once nobody has it open
            while chunk := os.read(terminal, 65536):
                shown += chunk
        code = process.wait(20)
    os.close(terminal)
    return code, shown


def test_serve_tells_somebody_at_a_terminal_what_is_served_and_how_to_read_it(tmp_path: Path) -> None:
    write_routes(tmp_path, ROUTES)
    port = free_port()
    environment = environment_of({**USERS, "GATEWAY_BIND": f"127.0.0.1:{port}", "GATEWAY_LOG_LEVEL": "info"})
    command = ["sh", "-c", f'"{COMMAND}" serve >log & gateway=$!; read line; kill $gateway; wait $gateway']
    terminal, end = os.openpty()
    shown, told = b"", f"gateway: serving 1 route ({tmp_path}/routes.py) to 1 upstream on http://127.0.0.1:{port}; "
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stderr=end) as process:
        os.close(end)
        with suppress(OSError):
            while b"for people" not in shown:
                shown += os.read(terminal, 65536)
        process.communicate(b"\n", 20)
    os.close(terminal)
    assert shown == f"{told}GATEWAY_LOG=console is a log for people\r\n".encode()
    assert all(line.startswith("{") for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines())


# Why it may be left out: the suite can also be run by pytest alone; `.ci/run` has make.
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_run_says_why_nothing_was_started() -> None:
    command = ["make", "--old-file=install", "run", f"BIN={Path(COMMAND).parent}"]
    environment = {"PATH": os.environ["PATH"], "GATEWAY_ROUTE_A": "/ -> nope"}
    ran = subprocess.run(command, cwd=HOME, env=environment, capture_output=True, text=True, timeout=60, check=False)
    lines = ran.stderr.splitlines()
    assert ran.returncode == 2
    assert "there is no upstream nope" in ran.stderr
    assert lines[-2].startswith("make run: nothing was started: the GATEWAY_* variables")
    assert lines[-1].startswith("make: ***")


# -- a folder of one's own --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with modules of every name that home uses, of which only `routes` may be taken."""
    for name in ("settings.py", "asgi.py", "gateway/__init__.py", "gateway/config.py", "django/__init__.py"):
        module = tmp_path / name
        module.parent.mkdir(exist_ok=True)
        module.write_text(f"raise SystemExit('the own {name} was imported')\n", encoding="utf-8")
    (tmp_path / "helper.py").write_text("GREETING = 'hello from the folder'\n", encoding="utf-8")
    write_routes(
        tmp_path,
        "from django.http import HttpResponse\n"
        "from gateway.routing import from_environment, route\n"
        "from helper import GREETING\n\n\n"
        "async def greet(request):\n"
        "    import settings\n"
        "    return HttpResponse(GREETING + ', settings of ' + settings.__file__)\n\n\n"
        "urlpatterns = [*from_environment(), route('/greet', greet)]\n",
    )
    return tmp_path


def test_only_the_routes_of_a_folder_are_taken(folder: Path) -> None:
    assert run(folder, "check", **USERS) == Ran(
        0, f"The configuration is good: upstreams 1, routes 2, of {folder}/routes.py.\n", ""
    )
    assert "routes.py:11" in run(folder, "routes", **USERS).output


def test_serve_takes_only_the_routes_of_a_folder_in_its_workers_too(folder: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [COMMAND, "serve"],
        cwd=folder,
        env=environment_of({**USERS, "GATEWAY_BIND": f"127.0.0.1:{port}"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        answer = eventually(lambda: get(port, "/greet", process))
        assert answer is not None
        assert answer.status == 200
        assert answer.body.decode() == f"hello from the folder, settings of {HOME / 'settings.py'}"
        process.terminate()
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.communicate()


def get(port: int, target: str, process: subprocess.Popen[str]) -> Answer | None:
    """The answer, None while nobody listens yet."""
    assert process.poll() is None, process.communicate()
    try:
        with Wire("127.0.0.1", port) as wire:
            wire.send(request_bytes("GET", target))
            return wire.read_answer()
    except ConnectionError:
        return None


def test_another_name_and_a_package_for_the_routes(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    write_routes(tmp_path / "team", ROUTES, "edge.py")
    ran = run(tmp_path, "check", **USERS, GATEWAY_URLCONF="team.edge")
    file = tmp_path / "team" / "edge.py"
    assert ran == Ran(0, f"The configuration is good: upstreams 1, routes 1, of {file}.\n", "")


def test_without_routes_of_its_own_a_folder_gets_those_of_home(tmp_path: Path) -> None:
    assert run(tmp_path, "routes", **USERS).output.splitlines()[1].split()[-1] == "GATEWAY_ROUTE_USERS"


# -- help, and Django's own commands ----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["help"], ["--help"]])
def test_help_names_the_commands(tmp_path: Path, arguments: list[str]) -> None:
    ran = run(tmp_path, *arguments)
    assert (ran.code, ran.errors) == (0, "")
    for word in (
        "gateway serve",
        "gateway check",
        "gateway routes",
        "gateway explain",
        "docs/configuration.md",
        "Exit codes",
    ):
        assert word in ran.output


@pytest.mark.parametrize(
    "arguments",
    [["serve", "--help"], ["check", "-h"], ["help", "routes"], ["config", "--help"], ["explain", "--help"]],
)
def test_help_works_with_a_faulty_environment(tmp_path: Path, arguments: list[str]) -> None:
    ran = run(tmp_path, *arguments, GATEWAY_WORKERS="many")
    assert (ran.code, ran.errors) == (0, "")
    command = arguments[1] if arguments[0] == "help" else arguments[0]
    assert ran.output.startswith(f"usage: gateway {command} [-h]")
    # Django's own options say nothing here.
    assert not any(word in ran.output for word in ("--settings", "--pythonpath", "--traceback", "--no-color"))
    assert "\nexample" in ran.output


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["serve", "-h"], ["check", "-h"], ["config", "-h"], ["routes", "-h"], ["explain", "-h"]),
        *(["cache", "-h"], ["cache", "ls", "-h"], ["cache", "why", "-h"], ["cache", "purge", "-h"]),
    ],
    ids=" ".join,
)
def test_help_fits_into_80_columns(tmp_path: Path, arguments: list[str]) -> None:
    said = run(tmp_path, *arguments, COLUMNS="80").output
    assert said
    assert [line for line in said.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("arguments", [["check", "--jsno"], ["explain", "GET"], ["routes", "--env-file"]])
def test_a_command_that_is_written_wrong_is_1_with_its_usage(tmp_path: Path, arguments: list[str]) -> None:
    ran = run(tmp_path, *arguments, **USERS)
    assert (ran.code, ran.output) == (1, "")
    assert ran.lines[0].startswith(f"usage: gateway {arguments[0]} [-h]")
    assert ran.lines[-1].startswith("gateway: ")


def test_the_version(tmp_path: Path) -> None:
    assert run(tmp_path, "--version") == run(tmp_path, "version") == Ran(0, f"{__version__}\n", "")


def test_an_unknown_command_is_1_with_the_nearest_name(tmp_path: Path) -> None:
    ran = run(tmp_path, "chekc", **USERS)
    assert (ran.code, ran.output) == (1, "")
    assert "chekc" in ran.errors
    assert "Did you mean check?" in ran.errors


def test_migrate_works_with_a_database_of_the_folder(tmp_path: Path) -> None:
    ran = run(tmp_path, "migrate", **USERS, GATEWAY_DATABASE_URL="sqlite:///own.sqlite3")
    assert (ran.code, ran.errors) == (0, "")
    assert (tmp_path / "own.sqlite3").exists()


def test_a_database_that_cannot_be_opened_is_1_without_a_traceback(tmp_path: Path) -> None:
    ran = run(tmp_path, "migrate", **USERS, GATEWAY_DATABASE_URL="sqlite:////nowhere/at/all.sqlite3")
    assert ran.code == 1
    assert "unable to open database file" in ran.errors


def test_check_opens_no_database(tmp_path: Path) -> None:
    ran = run(tmp_path, "check", **USERS, GATEWAY_DATABASE_URL="sqlite:////nowhere/at/all.sqlite3")
    assert ran.code == 0
    assert list(tmp_path.glob("*.sqlite3")) == []


def test_the_module_runs_as_the_command_does(tmp_path: Path) -> None:
    with Upstream.answering(OK) as users:
        environment = {"GATEWAY_UPSTREAM_USERS": users.url, "GATEWAY_ROUTE_USERS": "/users/** -> users"}
        with Gateway(environment, cwd=tmp_path) as gateway:
            assert gateway.get("/users/1").body == b"hello"


def test_why_says_that_an_answer_is_for_who_is_let_in(tmp_path: Path) -> None:
    environment = {
        **USERS,
        "GATEWAY_ROUTE_USERS": "/users/** -> users",
        "GATEWAY_ROUTE_USERS__CACHE": "on",
        "GATEWAY_ROUTE_USERS__AUTH": "ours",
        "GATEWAY_AUTH_OURS": "jwt https://issuer.example",
        "GATEWAY_AUTH_OURS__ALGORITHMS": "HS256",
        "GATEWAY_AUTH_OURS__SECRET": "a secret of thirty-two bytes, or more",
        "GATEWAY_AUTH_OURS__AUDIENCE": "api",
    }
    lines = run(tmp_path, "cache", "why", "GET", "/users/1", **environment).output.splitlines()
    assert "Asks     for ours: what follows is for who is let in (gateway explain tells who is)" in lines
