"""Django's own commands and settings, with apps and settings of a team's own, as a person types them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.live.management.test_commands import ROUTES, USERS, Ran, run, write_routes

CHECKED_APP = """
from django.apps import AppConfig
from django.core import checks


class Checked(AppConfig):
    name = "checked"

    def ready(self):
        @checks.register("shop")
        def stock(app_configs, **_):
            return [checks.Warning("the stock is low", id="shop.W001")]

        @checks.register  # without a tag
        def price(app_configs, **_):
            return [checks.Error("there is no price", id="shop.E001")]

        @checks.register("database")
        def table(app_configs, databases, **_):
            return [checks.Error(f"asked {sorted(databases)}", id="shop.E002")] if databases else []
"""
RESTOCK = """
from django.core.management import BaseCommand


class Command(BaseCommand):
    help = "Put items into the shop."

    def handle(self, *args, **options):
        self.stdout.write("restocked")
"""
FOREIGN_SETTINGS = (
    "DJANGO_SETTINGS_MODULE=team.settings: the gateway has Django settings of its own; unset it, name your "
    "apps in GATEWAY_APPS=shop,team.audit and a module with your settings in GATEWAY_SETTINGS=team.settings"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A team's folder: an app `shop` in it, and modules of settings."""
    for name, text in {
        "shop/__init__.py": "",
        "shop/models.py": "from django.db import models\nclass Item(models.Model):\n    name = models.TextField()\n",
        "broken/__init__.py": "",
        "broken/models.py": "import nothing_of_that_name\n",
        "team/__init__.py": "",
        "team/settings.py": "USE_I18N = True\nCACHES = {}\nlower = 1\n",
        "team/owns.py": "SECRET_KEY = 'x'\nDATABASES = {}\n",
        "team/raises.py": "1 / 0\n",
        "team/needs.py": "import nothing_of_that_name\n",
        "team/silent.py": "SILENCED_SYSTEM_CHECKS = ['portway.W002', 'portway.E003', 'shop.W001']\nLOGGING = {}\n",
        "checked/__init__.py": "",
        "checked/apps.py": CHECKED_APP,
        "settings.py": "raise RuntimeError\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    write_routes(tmp_path, ROUTES)
    return tmp_path


def test_apps_are_installed_and_migrated(folder: Path) -> None:
    apps = {"GATEWAY_APPS": "shop", "GATEWAY_DATABASE_URL": f"sqlite:///{folder}/shop.sqlite3"}
    made = run(folder, "makemigrations", "shop", **apps)
    assert (made.code, made.errors) == (0, "")
    assert (folder / "shop/migrations/0001_initial.py").exists()
    migrated = run(folder, "migrate", "-v", "1", **apps)
    assert (migrated.code, migrated.errors) == (0, "")
    assert "Applying shop.0001_initial... OK" in migrated.output
    lines = "from shop.models import Item; Item.objects.create(name='milk'); print(Item.objects.count())"
    assert run(folder, "shell", "-v", "0", "-c", lines, **apps) == Ran(0, "1\n", "")


def test_settings_of_a_team_hold(folder: Path) -> None:
    line = "from django.conf import settings as s; print(s.USE_I18N, s.CACHES, hasattr(s, 'lower'), s.SECRET_KEY)"
    secret = {"GATEWAY_SETTINGS": "team.settings", "GATEWAY_SECRET": "s3cret"}
    assert run(folder, "shell", "-v", "0", "-c", line, **secret) == Ran(0, "True {} False s3cret\n", "")


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"GATEWAY_APPS": "shopp"}, "GATEWAY_APPS: shopp: there is no module shopp"),
        ({"GATEWAY_APPS": "shop.apps.Shop"}, "GATEWAY_APPS: shop.apps.Shop: there is no module shop.apps"),
        (
            {"GATEWAY_APPS": "shop,broken"},
            "GATEWAY_APPS: broken/models.py:1: ModuleNotFoundError: No module named 'nothing_of_that_name'",
        ),
        (
            {"DJANGO_SETTINGS_MODULE": "team.settings"},
            FOREIGN_SETTINGS,
        ),
    ],
)
def test_what_keeps_django_from_starting_is_one_line(folder: Path, environment: dict[str, str], problem: str) -> None:
    assert run(folder, "check", **USERS, **environment) == Ran(2, "", f"gateway: {problem}\n")


def test_django_s_own_option_for_settings_names_ours_too(folder: Path) -> None:
    ran = run(folder, "migrate", "--settings=team.settings")
    assert ran.code == 2
    assert "GATEWAY_APPS" in ran.errors
    assert "GATEWAY_SETTINGS=team.settings" in ran.errors


@pytest.mark.parametrize(
    ("module", "messages"),
    [
        (
            "team.owns",
            [
                "DATABASES is set by the gateway: GATEWAY_DATABASE_URL and GATEWAY_DATABASE_<NAME> set it",
                "SECRET_KEY is set by the gateway: GATEWAY_SECRET or GATEWAY_SECRET_FILE sets it",
            ],
        ),
        ("team.raises", ["raises.py:1: ZeroDivisionError: division by zero"]),
        ("team.needs", ["needs.py:1: ModuleNotFoundError: No module named 'nothing_of_that_name'"]),
        ("team.nothing", ["there is no module team.nothing"]),
        ("settings", ["settings is the gateway's own module; call yours otherwise, such as team.settings"]),
    ],
)
def test_what_is_wrong_with_a_module_of_settings(folder: Path, module: str, messages: list[str]) -> None:
    ran = run(folder, "check", **USERS, GATEWAY_SETTINGS=module, GATEWAY_WORKERS="0")
    assert ran.code == 2
    for message in messages:
        assert f"  GATEWAY_SETTINGS = {module}\n      {message}\n" in ran.errors
    assert "GATEWAY_WORKERS" in ran.errors


def test_commands_of_django_and_of_apps_take_env_files_and_have_their_help(folder: Path) -> None:
    commands = folder / "shop/management/commands"
    commands.mkdir(parents=True)
    (commands / "restock.py").write_text(RESTOCK, encoding="utf-8")
    (folder / "shop.env").write_text(f"GATEWAY_APPS=shop\nGATEWAY_DATABASE_URL=sqlite:///{folder}/x.sqlite3\n")
    assert run(folder, "makemigrations", "shop", "--env-file", "shop.env").code == 0
    assert run(folder, "restock", "--env-file", "shop.env") == Ran(0, "restocked\n", "")
    assert "Put items into the shop." in run(folder, "restock", "--help", GATEWAY_APPS="shop").output
    assert "Put items into the shop." in run(folder, "help", "restock", GATEWAY_APPS="shop").output
    assert run(folder, "check", "--help", GATEWAY_APPS="nope").code == 0


# -- checks -----------------------------------------------------------------------------------------------------------

WARNED = """
from gateway.routing import from_environment, route


def slow(request):
    pass


urlpatterns = [*from_environment(), route("/slow", slow)]
"""
SLOW = (
    "gateway: warning: routes.py:9: slow() is synchronous: it runs in threads, as many as there are requests for it, "
    "without a time limit; legacy(slow) sets limits\n"
)


def test_a_class_based_view_is_named_as_legacy_takes_it(folder: Path) -> None:
    text = WARNED.replace("def slow(request):\n", "class Slow(View):\n    def get(self, request):\n    ")
    write_routes(folder, f"from django.views import View{text.replace('slow)', 'Slow.as_view())')}")
    ran = run(folder, "check", **USERS)
    assert ran.errors == (
        "gateway: warning: routes.py:10: Slow() is synchronous: it runs in threads, as many as there are requests for "
        "it, without a time limit; legacy(Slow.as_view(), name=...) sets limits\n"
    )


def test_the_checks_of_apps_run_with_ours(folder: Path) -> None:
    ran = run(folder, "check", **USERS, GATEWAY_APPS="checked")
    assert ran == Ran(
        2,
        "",
        "gateway: warning: ?: (shop.W001) the stock is low\ngateway: ?: (shop.E001) there is no price\n",
    )
    assert run(folder, "serve", **USERS, GATEWAY_APPS="checked") == ran


def test_checks_are_chosen_by_tag(folder: Path) -> None:
    ran = run(folder, "check", "--tag", "shop", **USERS, GATEWAY_APPS="checked")
    assert (ran.code, ran.output) == (0, "The checks found no problem (0 silenced).\n")
    assert ran.errors == "gateway: warning: ?: (shop.W001) the stock is low\n"
    assert "routes\n" in run(folder, "check", "--list-tags", **USERS).output
    unknown = run(folder, "check", "--tag", "nope", **USERS)
    assert unknown.code == 1
    assert unknown.errors.startswith("gateway: there is no check with the tag nope;")


def test_warnings_are_silenced_by_their_ids_and_errors_of_ours_are_not(folder: Path) -> None:
    write_routes(folder, WARNED)
    silent = {**USERS, "GATEWAY_SETTINGS": "team.silent"}
    about_logging = (
        "gateway: warning: team.silent: LOGGING is without effect: "
        "GATEWAY_LOG and GATEWAY_LOG_LEVEL say how the log is written\n"
    )
    assert run(folder, "check", **USERS).errors == SLOW
    assert run(folder, "check", **silent).errors == about_logging
    ran = run(folder, "check", "--tag", "routes", **silent)
    assert ran == Ran(0, "The checks found no problem (1 silenced).\n", "")
    write_routes(folder, "urlpatterns = 1\n")
    assert run(folder, "check", **silent).code == 2


def test_the_level_of_failure_is_chosen(folder: Path) -> None:
    write_routes(folder, WARNED)
    ran = run(folder, "check", "--fail-level", "WARNING", **USERS)
    assert (ran.code, ran.errors) == (2, SLOW.replace("warning: ", ""))


def test_checks_of_a_deployment(folder: Path) -> None:
    assert run(folder, "check", "--deploy", **USERS).errors == ""
    with_apps = run(folder, "check", "--deploy", **USERS, GATEWAY_APPS="shop")
    assert with_apps.errors.startswith("gateway: warning: GATEWAY_SECRET is not set:")
    assert run(folder, "check", "--deploy", **USERS, GATEWAY_APPS="shop", GATEWAY_SECRET="s" * 9).code == 0


def test_databases_are_checked_where_they_are_named(folder: Path) -> None:
    ran = run(folder, "check", "--database", "default", "--tag", "database", **USERS, GATEWAY_APPS="checked")
    assert (ran.code, ran.errors) == (2, "gateway: ?: (shop.E002) asked ['default']\n")


def test_other_commands_run_the_same_checks(folder: Path) -> None:
    """As Django's do; a gateway without a route is none to serve, but one to work on."""
    ran = run(folder, "makemigrations", "shop", GATEWAY_APPS="shop,checked")
    assert ran.code == 1
    assert "?: (shop.E001) there is no price" in ran.errors
    assert run(folder, "makemigrations", "shop", GATEWAY_APPS="shop").code == 0


# -- the routes module ------------------------------------------------------------------------------------------------

FAULTY = """
from gateway.routing import cached, fanout, from_environment, legacy, proxy, route


async def home(request, id):
    pass


urlpatterns = [
    *from_environment(),
    route("GET /hello/{name", home),
    route("GET /home", home),
    route("GET /a/**", proxy("users", timeout="5")),
    route("GET /b/**", cached(proxy("nope"), "60s")),
    route("GET /c", legacy(home)),
    route("GET /d", fanout(timeout="1s")(home)),
    route("/users/**", proxy("users")),
]
"""
UNIT = "a duration needs its unit, such as 500ms, 60s, 5m or 1h; a bare number says none"
FAULTS = [
    "routes.py:11: route('GET /hello/{name'): a brace without its partner in '{name'",
    "routes.py:12: route('GET /home'): home() does not fit: missing a required argument: 'id'",
    f"routes.py:13: ValueError: timeout: {UNIT}",
    "routes.py:15: TypeError: home() is async: it is a view already, and needs no legacy()",
    "routes.py:16: TypeError: home() has no part, as in user: Annotated[User, part('users:/users/{id}')]",
    "'/users/**' stands twice: GATEWAY_ROUTE_USERS and routes.py:17; both take /users",
    "routes.py:14: there is no upstream nope; set GATEWAY_UPSTREAM_NOPE to its base URL",
]


FAULTY_PARTS = """
from typing import Annotated

from gateway.routing import fanout, from_environment, legacy, part, route


@fanout
async def home(
    user: Annotated[dict, part("users:/{id}", timeout="5")],
    team: Annotated[dict, part("users")],
    tea: Annotated[dict, part(legacy(lambda id: {}))],
):
    return {}


@fanout(timeout="5s")
async def other(user: Annotated[dict, part("users:/{id}", method="GE T")]):
    return {}


urlpatterns = [*from_environment(), route("GET /home/{id}", home), route("GET /other", other), route("/{", home)]
"""
NO_PATH = "TargetError: a part needs a path that begins with a slash: 'users:/...'"
NO_NAME = (
    "ValueError: legacy(<lambda>): expected a name in lower case, such as users or user_orders; name the pool: "
    "legacy(..., name='reports')"
)


@pytest.mark.parametrize(
    ("first", "lines"), [("", (9, 10, 11, 17)), ("from __future__ import annotations", (7, 7, 7, 16))]
)
def test_faults_of_parts_hide_no_others_and_are_told_once(folder: Path, first: str, lines: Sequence[int]) -> None:
    write_routes(folder, first + FAULTY_PARTS)
    ran = run(folder, "check", **USERS)
    *faults, last = [line.removeprefix("gateway: ") for line in ran.lines]
    told = (f"ValueError: timeout='5': {UNIT}", NO_PATH, NO_NAME, "ValueError: method='GE T': ")
    assert len(faults) == len(told), faults
    for fault, line, text in zip(faults, lines, told, strict=True):
        assert fault.startswith(f"routes.py:{line}: {text}")
    assert last == "routes.py:21: route('/{'): a brace without its partner in '{'"


@pytest.mark.parametrize("command", ["check", "serve", "routes"])
def test_all_faults_of_a_routes_module_come_at_once(folder: Path, command: str) -> None:
    write_routes(folder, FAULTY)
    ran = run(folder, command, **USERS)
    assert (ran.code, ran.output) == (2, "")
    assert [line.removeprefix("gateway: ") for line in ran.lines] == FAULTS


def test_what_cannot_be_loaded_by_its_name_hides_no_other_fault(folder: Path) -> None:
    write_routes(
        folder,
        "from gateway.routing import from_environment, proxy, route\n"
        "urlpatterns = [from_environment(), 7, route('/a', proxy('nope'), middleware=['no.such.A', 'no.such.B'])]\n",
    )
    missing = "ModuleNotFoundError: No module named 'no'"
    ways = {"GATEWAY_AUTH_KEY": "python no.such.k", "GATEWAY_AUTH_CARD": "python no.such.c"}
    ran = run(folder, "check", GATEWAY_MIDDLEWARE="no.such.M", **ways, **USERS)
    assert [line.removeprefix("gateway: ") for line in ran.lines] == [
        "routes.py: urlpatterns holds a list; write a star before it: *from_environment()",
        "routes.py: urlpatterns holds 7, which is no route() or path() line",
        "routes.py:2: there is no upstream nope; set GATEWAY_UPSTREAM_NOPE to its base URL",
        f"GATEWAY_AUTH_CARD=python no.such.c: {missing}",
        f"GATEWAY_AUTH_KEY=python no.such.k: {missing}",
        f"GATEWAY_MIDDLEWARE: no.such.M: {missing}",
        f"routes.py:2: middleware: no.such.A: {missing}",
        f"routes.py:2: middleware: no.such.B: {missing}",
    ]


OTHER_TYPES = """
from gateway.routing import cached, fanout, legacy, part, proxy, route


async def view(request):
    return {}


def function():
    return part("users:/x", headers="cookie")


urlpatterns = [
    route("/a", cached(view, 60)),
    route("/b", cached(view, "60s", max_body=5)),
    route("/c", proxy(5)),
    route(5, view),
    route("/e", view, name=5),
    route("/f", legacy(function, name=5)),
    route("/g", fanout(size=5)(view)),
]
function()
"""


def test_a_value_of_another_type_is_told_with_an_example_and_hides_nothing(folder: Path) -> None:
    write_routes(folder, OTHER_TYPES)
    pool = "name the pool: legacy(..., name='reports')"
    assert [line.removeprefix("gateway: routes.py:") for line in run(folder, "check").lines] == [
        "14: ValueError: expected a text such as '60s', not 60",
        "15: ValueError: expected a text such as '10MiB', not 5",
        "16: ValueError: expected a text such as 'users:/users/{id}', not 5",
        "17: route(): expected a text such as 'GET /home/{id}', not 5",
        "18: route(): expected a text such as 'home', not 5",
        f"19: ValueError: legacy(function): expected a text such as 'users', not 5; {pool}",
        "20: TypeError: fanout() got an unexpected keyword argument 'size'",
        "10: ValueError: headers='cookie': expected names and values, such as {'x-tenant': 'acme'}",
    ]


def test_a_fault_that_stops_the_import_comes_after_those_before_it(folder: Path) -> None:
    write_routes(folder, FAULTY.replace('    route("GET /c"', '    1 / 0,\n    route("GET /c"'))
    ran = run(folder, "check", **USERS)
    assert [line.removeprefix("gateway: ") for line in ran.lines] == [
        *FAULTS[:3],
        "routes.py:15: ZeroDivisionError: division by zero",
    ]


@pytest.mark.parametrize(
    ("hint", "problem"),
    [
        ("list[int]", "no text becomes a list"),
        ("Nothing", "NameError: name 'Nothing' is not defined"),
        ("Path", "no text becomes a Path"),
    ],
)
def test_a_hint_that_no_text_fits_is_a_fault(folder: Path, hint: str, problem: str) -> None:
    write_routes(
        folder,
        "from __future__ import annotations\nfrom pathlib import Path\nfrom gateway.routing import route\n"
        f"async def home(request: OnlyForEditors, id: {hint}):\n    pass\nurlpatterns = [route('/h/{{id}}', home)]\n",
    )
    ran = run(folder, "check")
    told = f"the parameter id of home() has a type that is of no use in a path: {problem}"
    assert (ran.code, ran.errors) == (2, f"gateway: routes.py:6: route('/h/{{id}}'): {told}\n")
