"""The rules of the house, read from its own files: who imports whom, who may know what, how large things may be.

`.venv/bin/python tests/test_house.py` prints the arrows between rooms, those that lead back, and how large rooms are.
"""

import sys

if __name__ == "__main__":  # Python puts the folder of a script first, where tests/http hides its own `http`
    sys.path.pop(0)

import ast
import functools
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import gateway.routing

HOME = Path(__file__).resolve().parent.parent
PACKAGE = HOME / "gateway"
DOORS = [HOME / name for name in ("asgi.py", "settings.py", "routes.py")]
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
LOCKS = [HOME / "requirements.lock", HOME / "requirements-dev.lock"]

# The rooms, in the order in which they may import: each file its own room and rooms before it. What lies in no room is
# ground, which everybody may import, or the top, which nobody does.
ROOMS = [
    "http",
    "observe",
    "limits",
    "upstreams",
    "discovery",
    "cache",
    "proxy",
    "auth",
    "sockets",
    "legacy",
    "fanout",
    "answers",
    "routing",
    "config",
    "importing",
    "reload",
    "server",
    "testing",
    "management",
]
RANK = {room: rank for rank, room in enumerate(ROOMS)}
GROUND = {"errors", "units", "options", "text"}
# Who may know what; everybody else may not.
OWNERS = {
    "aiohttp": {"sockets/upstream", "upstreams/body", "upstreams/connection", "upstreams/errors"},
    "yarl": set[str](),
    "granian": {"server/granian", "server/supervisor"},
    "opentelemetry": {"observe/spans"},
    "jwt": {"auth/signatures"},
    "cryptography": set[str](),
    "bcrypt": {"auth/signatures"},
    "isal": {"answers/coders"},
    "zstandard": {"answers/coders"},  # what undoes it loads it by name, where it is installed
    "psycopg": {"cache/notices"},
    "dns": {"discovery/srv"},
    "multiprocessing": {"server/granian", "server/supervisor"},
    "subprocess": set[str](),
    # A worker's last moment; look-ups; legacy calls; a view's own thread; watching; the last spans; the names of those
    # that a fork leaves behind; log lines that wait for their reader.
    "threading": {
        *("server/control", "upstreams/resolver", "legacy/bulkhead", "http/view_thread", "observe/watchdog"),
        *("observe/spans", "routing/worker_start", "observe/outlet"),
    },
    "_thread": set[str](),
    # One thread that reads, one that writes; the executor of a view's thread.
    # And those that files are read in.
    "concurrent": {"cache/database", "http/view_thread", "answers/files"},
}
# Ways onto another thread that are no import, or not only one.
THREAD_WORDS = {
    # What the async ORM leaves out; synchronous views and legacy calls; listeners of Django's signals.
    "sync_to_async": {"cache/database", "legacy/bulkhead", "observe/signals"},
    "to_thread": set[str](),
    "run_in_executor": {"answers/files"},
    "set_default_executor": set[str](),
    "ThreadPoolExecutor": {"cache/database", "answers/files"},
    "async_to_sync": {"server/in_process"},  # the synchronous client of django.test
}
# What decides, with time and chance as arguments: no I/O, no Django, no library but those that count as values.
PURE = {
    *("errors", "units", "options", "text"),
    *("routing/patterns", "routing/table", "routing/mismatch", "routing/options", "routing/records"),
    *("routing/segments", "routing/conditions", "routing/clashes", "http/carried"),
    *("http/placeholders", "http/field_template", "config/braces", "config/assembly"),
    *("answers/targets", "answers/options", "answers/static", "answers/replacements"),
    *("answers/compression", "proxy/options", "observe/mirror_counts"),
    *("http/forwarding", "http/methods", "http/negotiation", "cache/keys", "fanout/answer", "upstreams/targets"),
    *("upstreams/options", "upstreams/records", "legacy/options", "cache/options", "fanout/options"),
    *("config/options", "http/settable"),
    *("http/headers", "http/fields", "http/cors", "proxy/location", "http/paths", "http/queries", "http/codings"),
    *(
        "http/trace_context",
        "http/validation",
        "observe/histogram",
        "observe/stalls",
        "observe/throttle",
        "upstreams/retry_policy",
        "upstreams/outlier_detection",
        "upstreams/heads",
    ),
    *(
        "upstreams/load_balancing",
        "upstreams/places",
        "upstreams/stickiness",
        "cache/policy",
        "cache/freshness",
        "cache/conditional",
        "cache/memory",
        "fanout/plan",
    ),
    *("config/table", "config/environment", "config/env_file", "config/records", "config/loader", "config/effective"),
    *("limits/gcra", "limits/grammar", "limits/keys", "limits/policies", "limits/fields", "limits/options"),
    *("limits/table", "limits/resp", "limits/valkey_url", "limits/store"),
    *("discovery/options", "discovery/last_known", "discovery/answers", "discovery/srv_records"),
    *("config/databases", "config/ways", "config/sources", "server/restarts", "http/identity"),
    "config/hints",
    *("auth/options", "auth/records", "auth/rules", "auth/loading", "auth/credentials", "auth/tokens", "auth/keyset"),
    *("auth/keys", "auth/basic", "auth/identity"),
    *("testing/wire", "testing/headers"),
    *("importing/source", "importing/values", "importing/draft", "importing/nginx_syntax", "importing/nginx"),
    *("importing/nginx_words", "importing/nginx_server", "importing/expressions"),
    *("importing/krakend", "importing/kong", "importing/ocelot", "importing/spring", "importing/traefik"),
}
# What decides without I/O has no use for these.
NOT_IN_WHAT_IS_PURE = {
    "asyncio",
    "contextlib",
    "http",
    "io",
    "logging",
    "os",
    "selectors",
    "signal",
    "socket",
    "ssl",
} | {
    "subprocess",
    "tempfile",
    "threading",
    "time",
}
ORM = re.compile(r"django\.(db\.models|contrib)\b")

every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))


def place(path: Path) -> str:
    """What a file is called here: `cache/view`, `errors`."""
    return str(path.relative_to(PACKAGE).with_suffix(""))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions; `from x import y` as `x.y`."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def words_of(path: Path) -> Iterator[str]:
    """Every name and attribute that a file uses."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name


# -- the law of the rooms ------------------------------------------------------------------------------------------


def room_of(name: str) -> int | None:
    """The rank of the room that a module of the package lies in; None for ground and top. `name` is dotted."""
    return RANK.get(name.removeprefix("gateway.").partition(".")[0])


def back_arrows() -> Iterator[str]:
    """Imports of rooms that come later, and of any room by the ground."""
    for path in MODULES:
        own = RANK.get(path.relative_to(PACKAGE).parts[0])
        for name in imports_of(path) if own is not None or place(path) in GROUND else ():
            other = room_of(name) if name.startswith("gateway.") else None
            if other is not None and (own is None or other > own):
                yield f"{place(path)} imports {name}"


def test_a_file_imports_its_own_room_and_rooms_before_it() -> None:
    assert not list(back_arrows())


@every_module
def test_a_module_imports_nothing_from_the_top_of_home(path: Path) -> None:
    """`settings`, `asgi` and `routes` import the house, never the other way round."""
    assert {name.partition(".")[0] for name in imports_of(path)}.isdisjoint({"settings", "asgi", "routes", "demo"})


def test_nothing_is_re_exported_from_the_package() -> None:
    docstring, *statements = tree_of(PACKAGE / "__init__.py").body
    assert isinstance(docstring, ast.Expr)
    assert [ast.unparse(statement).partition(" = ")[0] for statement in statements] == ["__version__"]


@every_module
def test_a_module_lists_no_names_of_another_as_its_own(path: Path) -> None:
    """Those that are public faces alone may: of routes modules, and of tests."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            assert place(path) in {"routing/__init__", "testing/__init__", "messages"}


@every_module
def test_no_file_of_the_house_imports_from_the_public_face(path: Path) -> None:
    """It imports nearly all of them: one that imported from it would meet a module that is half made."""
    assert not set(imports_of(path)) & {f"gateway.routing.{name}" for name in gateway.routing.__all__}


def test_the_public_face_is_importable_before_django_is_set_up() -> None:
    code = "import sys, gateway.routing; sys.exit('gateway.models' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=HOME)


# -- who may know what --------------------------------------------------------------------------------------------


@every_module
def test_a_foreign_library_has_one_owner(path: Path) -> None:
    for name in imports_of(path):
        root = name.partition(".")[0]
        assert place(path) in OWNERS.get(root, {place(path)}), f"{place(path)} imports {root}"


@every_module
def test_threads_start_only_where_the_design_says(path: Path) -> None:
    for word in words_of(path):
        assert place(path) in THREAD_WORDS.get(word, {place(path)}), f"{place(path)} uses {word}"


@every_module
def test_only_models_and_rows_know_the_orm(path: Path) -> None:
    if place(path).partition("/")[0] not in {"models", "migrations"} and place(path) != "cache/queries":
        assert not [name for name in imports_of(path) if ORM.match(name)]


@pytest.mark.parametrize("path", [path for path in MODULES if place(path) in PURE], ids=place)
def test_what_is_pure_decides_without_io_and_without_libraries(path: Path) -> None:
    roots = {name.partition(".")[0] for name in imports_of(path)}
    assert roots - {"gateway"} <= sys.stdlib_module_names
    assert roots.isdisjoint(NOT_IN_WHAT_IS_PURE)
    assert "open" not in set(words_of(path))


@pytest.mark.parametrize("path", DOORS, ids=lambda path: path.name)
def test_the_top_of_home_knows_no_wire(path: Path) -> None:
    assert {name.partition(".")[0] for name in imports_of(path)}.isdisjoint(OWNERS)


# -- how large ----------------------------------------------------------------------------------------------------


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("path", [*MODULES, *DOORS, PACKAGE / "__init__.py"], ids=lambda path: path.name)
def test_a_module_fits_in_the_head(path: Path) -> None:
    assert lines_of(path) <= (60 if path in DOORS else 450)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{node.name} is over 60 lines long"


def lines_in(room: str) -> int:
    return sum(lines_of(path) for path in MODULES if side_of(path) == room)


# What is larger than a room should be, or about to be, and how large it may be; not to grow further. `upstreams` took
# in weights, cookies that a client stays by, and who the endpoints are where a registry knows it. `routing` has the
# grammar of routes with its table, and the public face: two halves of a room's size. `importing` has a file for each of
# six products, which know nothing of each other, and one for paths that are expressions. `http` has what the cache must
# know of how a route was chosen, and the scanner of braces for it and for the rooms above.
# `server` has the pages of routes and upstreams, `observe` log, counts, history, spans, and what is shown of all of it,
# and why a pool of connections has none.
# `server` hands a generation's port and sockets over to the next one.
LARGER = {
    "cache": 3500,
    "http": 3990,
    "observe": 3230,
    "upstreams": 4300,
    "server": 3800,
    "routing": 3810,  # hints for what is often mistyped in a route; all errors together, of parts too
    "importing": 3550,
}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_can_be_read_in_an_afternoon(room: str) -> None:
    assert lines_in(room) <= LARGER.get(room, 3000)


@pytest.mark.parametrize("path", [*MODULES, *DOORS, PACKAGE / "__init__.py"], ids=lambda path: path.name)
def test_a_module_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    # Django's folder of commands needs a file that only marks it: it is empty.
    assert not text or (docstring and docstring.splitlines()[0].endswith((".", ":")))


MAP = dict(
    re.findall(r"^([a-z]+) {2,}(\S.*)$", ast.get_docstring(tree_of(PACKAGE / "__init__.py")) or "", re.MULTILINE)
)
every_room = pytest.mark.parametrize("room", [room for room in ROOMS if (PACKAGE / room).is_dir()])


def test_the_map_names_every_room_in_its_order() -> None:
    assert list(MAP) == ROOMS


def guide_of(room: str) -> tuple[str, list[str]]:
    """The first line of a room's docstring, and the files that it lists."""
    docstring = ast.get_docstring(tree_of(PACKAGE / room / "__init__.py")) or ""
    return docstring.partition("\n")[0], re.findall(r"^([a-z_/.]+) {2,}\S", docstring, re.MULTILINE)


@every_room
def test_a_room_is_called_what_the_map_calls_it(room: str) -> None:
    assert guide_of(room)[0].rstrip(".").lower() == MAP[room].lower()


@every_room
def test_a_room_lists_its_files_and_no_others(room: str) -> None:
    """A line each, Python's without their ending; what only marks a folder is none."""
    files = [
        str(path.relative_to(PACKAGE / room)).removesuffix(".py")
        for path in (PACKAGE / room).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name != "__init__.py"
    ]
    assert sorted(guide_of(room)[1]) == sorted(files)


TESTS = HOME / "tests"


@pytest.mark.parametrize("folder", [TESTS, TESTS / "live"], ids=["tests", "live"])
def test_tests_lie_in_rooms_as_the_code_does(folder: Path) -> None:
    """Those of the ground and of the whole house lie at the top, `door` is a suite with tools of its own."""
    folders = {path.parent.name for path in folder.glob("*/test_*.py")}
    assert folders <= {*ROOMS, "door"}
    if folder.name == "live":
        assert not list(folder.glob("test_*.py"))


# -- what it stands on --------------------------------------------------------------------------------------------

PYPROJECT = (HOME / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)
GROUPS = {
    "dependencies": PROJECT["project"]["dependencies"],
    **PROJECT["project"].get("optional-dependencies", {}),
    **PROJECT["dependency-groups"],
}
REQUIREMENTS = {name: [item for item in items if isinstance(item, str)] for name, items in GROUPS.items()}


@pytest.mark.parametrize("requirement", [one for group in REQUIREMENTS.values() for one in group])
def test_a_dependency_says_why(requirement: str) -> None:
    (why,) = re.findall(rf'^    "{re.escape(requirement)}", +# (.+)$', PYPROJECT, re.MULTILINE)
    assert len(why.split()) >= 2


def locked(path: Path) -> dict[str, tuple[str, int]]:
    """Name -> (version, number of hashes) of a lock file."""
    found: dict[str, tuple[str, int]] = {}
    text = re.sub(r"^ *#.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(str.strip, text.splitlines()):
        match = re.fullmatch(r"([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==([^ ;]+)( ; [^\\]+?)?((?: +--hash=\S+)+) *", line)
        assert match is not None, line[:120]
        assert match[1] not in found, f"{match[1]} twice"
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}(?= |$)", match[4])
        assert len(hashes) == match[4].count("--hash=")
        found[match[1]] = (match[2], len(hashes))
    return found


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_holds_a_version_and_hashes_for_everything_and_names_no_host(path: Path) -> None:
    assert "://" not in path.read_text(encoding="utf-8")
    found = locked(path)
    assert found
    assert all(count > 0 for _, count in found.values())


def test_the_image_runs_what_was_tested() -> None:
    """Every line of the small lock stands, with the same version, in the large one."""
    run, dev = locked(LOCKS[0]), locked(LOCKS[1])
    assert {name: version for name, (version, _) in run.items()} == {
        name: version for name, (version, _) in dev.items() if name in run
    }


@pytest.mark.parametrize("group", REQUIREMENTS)
def test_what_pyproject_asks_for_is_locked(group: str) -> None:
    run, dev = locked(LOCKS[0]), locked(LOCKS[1])
    for text in REQUIREMENTS[group]:
        requirement = Requirement(text)
        version, _ = (dev if group == "dev" else run)[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(Version(version)), f"{text} is locked at {version}"


def test_the_version_stands_in_one_place() -> None:
    """flit reads `gateway.__version__`; a second one in pyproject.toml could only be wrong."""
    assert "version" in PROJECT["project"]["dynamic"]
    assert "version" not in PROJECT["project"]
    assert PROJECT["tool"]["flit"]["module"]["name"] == gateway.__name__
    assert str(Version(gateway.__version__)) == gateway.__version__


def test_the_image_and_the_tools_agree_on_pythons_from_3_11_to_3_14() -> None:
    assert PROJECT["project"]["requires-python"] == ">=3.11,<3.15"
    assert PROJECT["tool"]["mypy"]["python_version"] == "3.11"


# -- the picture in numbers -----------------------------------------------------------------------------------------


def side_of(path: Path) -> str:
    """The room that a file lies in, or `ground`, or `top`."""
    room = path.relative_to(PACKAGE).parts[0]
    return room if room in RANK else "ground" if place(path) in GROUND else "top"


def arrows() -> Counter[tuple[str, str]]:
    """How many pairs of files there are, by their rooms, of which the first imports the second."""
    files = {".".join(("gateway", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in MODULES}
    files |= {name.removesuffix(".__init__"): path for name, path in files.items()}
    pairs = set()
    for path in MODULES:
        for name in imports_of(path):
            found = files.get(name) or files.get(name.rpartition(".")[0])
            if found is not None and found != path:
                pairs.add((path, found))
    return Counter((side_of(one), side_of(other)) for one, other in pairs)


def drawn() -> str:
    """The arrows as a table, those that lead back, and the lines of each room."""
    found, sides = arrows(), ["ground", *ROOMS, "top"]
    wide = max(map(len, sides))
    table = [
        f"{side:{wide}}{lines_in(side):7}  "
        + "".join(f"{found[side, other] or '.':>{len(other) + 2}}" for other in sides)
        for side in sides
    ]
    head = f"{'':{wide}}{'lines':>7}  " + "".join(f"  {other}" for other in sides)
    back = list(back_arrows())
    return "\n".join(
        ["Pairs of files: a row imports a column.", head, *table, "", f"{len(back)} arrows lead back", *back, ""]
    )


if __name__ == "__main__":
    sys.stdout.write(drawn())
