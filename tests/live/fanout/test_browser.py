"""A browser's own EventSource on a fan-out: the demo's page, in headless Chromium."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo import services as demo
from demo.stage import ROUTES
from tests.live.browser import Browser, needs_browser
from tests.live.harness import Gateway, eventually, free_port
from tests.live.parts import Parts, said
from tests.live.stage import message, says, silent
from tests.test_docs import Demo

pytestmark = [needs_browser, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


def rows(browser: Browser) -> dict[str, list[str]]:
    """The page's table: what it shows of each event, in their order."""
    script = (
        "return Array.from(document.getElementById('parts').rows, (row) => Array.from(row.cells, (c) => c.innerText))"
    )
    return {name: shown for name, *shown in browser.run(script)}


def state(browser: Browser) -> str:
    return str(browser.run("return document.getElementById('state').innerText"))


def test_parts_are_shown_while_a_slow_one_is_waited_for(browser: Browser, u: Parts, tmp_path: Path) -> None:
    page = (Path(demo.__file__).parent / "page.html").read_bytes()
    u.script(page=says(message("200 OK", page, "Content-Type: text/html")), teams__20=silent)
    u.script(users__3='{"name":"Chiara","team_id":20}', orders=silent)
    names = ("users", "orders", "teams", "nowhere")
    environment: dict[str, Any] = {f"GATEWAY_UPSTREAM_{name.upper()}": u.url for name in names}
    environment |= {**ROUTES, "GATEWAY_ROUTE_HOME__TIMEOUT": "30s", "GATEWAY_ROUTE_HOME__PART_TEAM__TIMEOUT": "30s"}
    with Gateway(environment, cwd=tmp_path) as gateway:
        browser.open(f"http://{gateway.authority}/page")
        team, orders = u.wait_for_request("/teams/20"), u.wait_for_request("/orders")
        eventually(lambda: list(rows(browser)) == ["user"])
        orders.send(said('[{"id":9004}]'))
        eventually(lambda: list(rows(browser)) == ["user", "orders"])
        assert state(browser) == "open"
        team.send(said('{"name":"<b>Storefront</b>"}'))
        shown = eventually(lambda: found if "end" in (found := rows(browser)) else {})
        browser.run("window.stop()")
    assert {name: cells[1:] for name, cells in shown.items()} == {
        "user": ["200", '{"name":"Chiara","team_id":20}'],
        "orders": ["200", '[{"id":9004}]'],
        "team": ["200", '{"name":"<b>Storefront</b>"}'],
        "end": ["complete", ""],
    }
    assert list(shown) == ["user", "orders", "team", "end"]
    assert browser.console() == []


def test_the_demos_page_ends_and_asks_no_more(browser: Browser) -> None:
    port = free_port()
    running = Demo(port)
    try:
        assert any(f"http://127.0.0.1:{port}/page " in line for line in running.output)
        browser.open("about:blank")
        browser.console()  # what the page before this one still had to say, its gateway gone
        browser.open(f"http://127.0.0.1:{port}/page")
        eventually(lambda: state(browser).startswith("closed"), 20)
        assert browser.run("return source.readyState === EventSource.CLOSED")
        shown = rows(browser)
        browser.open(f"http://127.0.0.1:{port}/page?user=99")
        nobody = eventually(lambda: found if "end" in (found := rows(browser)) else {})
        assert browser.console() == []
        running.stop()
    finally:
        running.kill()
    assert sorted(shown) == ["end", "orders", "team", "user"]
    assert list(shown)[2:] == ["team", "end"]  # the slow one, after its 300 ms
    assert (shown["team"][1:], shown["end"][1:]) == (["response_timeout", "null"], ["not complete", ""])
    assert nobody["end"][1:] == ["not complete", "The part user failed: it was answered with 404."]
    assert [line.split()[2] for line in running.output if "  /home/3" in line and " ms " in line] == ["200", "204"]
