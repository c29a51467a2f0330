"""What `gateway check` warns of, and what it leaves alone."""

from pathlib import Path

import pytest

from tests.live.management.test_commands import Ran, run

ENVIRONMENT = {
    "GATEWAY_UPSTREAM_USERS": "http://users:8000",
    "GATEWAY_UPSTREAM_SPARE": "http://spare:8000",
    "GATEWAY_ROUTE_USERS": "/users/** -> users",
}
UNUSED = "GATEWAY_UPSTREAM_SPARE: no route leads there, so that nothing reaches it"


def check(folder: Path, **environment: str) -> Ran:
    done = run(folder, "check", **ENVIRONMENT, **environment)
    assert done.code == 0, done.errors
    return done


def test_an_upstream_that_no_route_leads_to_is_warned_of(tmp_path: Path) -> None:
    assert UNUSED in check(tmp_path).errors


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GATEWAY_ROUTE_SPARE", "/spare -> spare"),
        ("GATEWAY_ROUTE_USERS__ON_5XX", "spare:/users"),
        ("GATEWAY_ROUTE_USERS__MIRROR", "spare"),
        ("GATEWAY_AUTH_SSO", "ask spare:/verify"),
    ],
)
def test_one_that_something_leads_to_is_not(tmp_path: Path, variable: str, value: str) -> None:
    assert "SPARE: no route" not in check(tmp_path, **{variable: value}).errors


def test_nor_one_that_a_view_may_call(tmp_path: Path) -> None:
    (tmp_path / "routes.py").write_text(
        "from gateway.routing import from_environment, route\n"
        "async def own(request): ...\n"
        'urlpatterns = [*from_environment(), route("/own", own)]\n'
    )
    assert "SPARE" not in check(tmp_path).errors
