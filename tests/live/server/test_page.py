"""The status page in a browser: an overview, a page for each route and each upstream."""

import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.live.browser import ENTER, SPACE, TAB, Browser, needs_browser
from tests.live.harness import Answer, Answers, Gateway, Refuses, eventually, request_bytes

PHONE, TABLET, WIDE = 390, 820, 1600
AXE = Path(__file__).parent / "axe"
INSTALL_S = 90
# Names that would be markup, another path, or a property of every object.
HOSTILE = [
    "<img src=x onerror=document.title='owned'>",
    "a/b ü%2F\"'&?#",
    "__proto__",
    "</script><script>alert(1)</script>",
]
ROUTES = f"""
from django.http import HttpResponse
from gateway.routing import from_environment, route

async def view(request, number):
    return HttpResponse("no", status=500)

urlpatterns = [
    *from_environment(),
    *(route(f"/odd{{at}}/{{{{number}}}}", view, name=name) for at, name in enumerate({HOSTILE!r})),
]
"""


@pytest.fixture(scope="module")
def gateway(up: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    with contextlib.closing(Refuses()) as dead:
        environment = {
            "GATEWAY_WORKERS": "2",
            "GATEWAY_UPSTREAM_UP": up.url,
            "GATEWAY_UPSTREAM_DEAD": dead.url,
            "GATEWAY_UPSTREAM_DEAD__HEADER_X_KEY": "key-of-the-upstream",
            "GATEWAY_ROUTE_UP": "/up/** -> up",
            "GATEWAY_ROUTE_DEAD": "/dead/{id} -> dead",
            "GATEWAY_ROUTE_KEPT": "/kept/** -> up",
            "GATEWAY_ROUTE_KEPT__CACHE": "60s",
            "GATEWAY_ROUTE_KINDS": "POST {shop}.example.com/v{n:int}/{id:uuid}/{file}.css/** -> up",
            "GATEWAY_ROUTE_HOME": "GET /home/{id}",
            "GATEWAY_ROUTE_HOME__PART_ONE": "up:/{id}",
            "GATEWAY_ROUTE_HOME__PART_TWO": "dead:/{id}",
            "GATEWAY_ROUTE_HOME__OPTIONAL": "one two",
            "GATEWAY_RATE_LIMIT_FEW": "100/1m by client",
            "GATEWAY_ROUTE_UP__RATE_LIMIT": "few",
        }
        with Gateway(environment, cwd=folder) as running:
            yield running


@pytest.fixture(scope="module")
def traffic(gateway: Gateway) -> Iterator[None]:
    """Good and bad requests all the time, some of them with what a client may write into a path."""
    done = threading.Event()

    def send() -> None:
        paths = [
            "/up/1",
            "/dead/1",
            "/kept/1",
            "/home/1",
            "/nothing/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
            "/dead/" + "x" * 300,
        ]
        while not done.wait(0.1):
            for path in [*paths, *(f"/odd{at}/1" for at in range(len(HOSTILE)))]:
                with contextlib.suppress(OSError, AssertionError):
                    gateway.get(path)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


def shown(browser: Browser, gateway: Gateway, path: str = "/-/", width: int = WIDE) -> None:
    """Go there and wait until it shows something."""
    browser.resize(width)
    browser.open(f"http://{gateway.authority}{path}")
    eventually(lambda: state(browser) == "live")


def state(browser: Browser) -> str:
    return str(browser.run("return document.getElementById('state').textContent"))


def rows(browser: Browser, table: str) -> list[list[str]]:
    """The texts of the cells, whatever the width makes of them."""
    script = (
        f"return Array.from(document.querySelectorAll('#{table} tbody tr'),"
        " row => Array.from(row.cells, cell => cell.textContent))"
    )
    found: list[list[str]] = browser.run(script)
    return found


def own(gateway: Gateway, path: str, *fields: str) -> Answer:
    return gateway.ask(request_bytes("GET", path, *fields, host="localhost"))


# -- as JSON ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("traffic")
def test_a_route_and_an_upstream_are_told_as_json(gateway: Gateway) -> None:
    def told() -> dict[str, Any]:
        found: dict[str, Any] = own(gateway, "/-/routes/dead").json()
        return found if found["failures"] and found["minute"]["total"] else {}

    route = eventually(told)
    assert route["lines"][0]["pattern"] == "/dead/{id}"
    assert route["failures"][0]["reason"] == "connection_refused"
    assert route["total"] == sum(one["total"] for one in route["outcomes"]) > 0
    (said,) = route["explain"]
    assert said["request"] == "GET /dead/id"
    assert {"Route", "Upstream", "Headers that go up", "Options", "Cache"} <= {one["title"] for one in said["sections"]}

    def upstream_told() -> dict[str, Any]:
        found: dict[str, Any] = own(gateway, "/-/upstreams/dead").json()
        return found if found["endpoints"][0]["health"] == "failing" else {}

    upstream = eventually(upstream_told)
    (endpoint,) = upstream["endpoints"]
    assert endpoint["last_failure"] == "connection_refused"
    assert endpoint["reasons"]["connection_refused"] == endpoint["failed"] > 0
    assert {one["name"] for one in upstream["routes"]} == {"dead", "home"}
    for answer in (own(gateway, "/-/routes/dead"), own(gateway, "/-/upstreams/dead")):
        assert b"key-of-the-upstream" not in answer.body
        assert answer.one("vary").lower() == "accept"


def test_what_is_explained_is_a_request_that_the_route_gets(gateway: Gateway) -> None:
    (said,) = own(gateway, "/-/routes/kinds").json()["explain"]
    assert said["request"].startswith("POST http://shop.example.com/v1/00000000-0000-4000-8000-000000000000/file.css")
    (route,) = [one["rows"] for one in said["sections"] if one["title"] == "Route"]
    assert route[0][0] == "kinds"


def test_what_there_is_not_is_not_found(gateway: Gateway) -> None:
    for path in ("/-/routes/nothing", "/-/upstreams/nothing", "/-/routes/", "/-/routes", "/-/upstreams/up/x"):
        answer = own(gateway, path, "Accept: text/html")
        assert (answer.status, answer.json()["reason"]) == (404, "route_not_found")


def test_the_pages_ask_as_the_others_do(up: Answers, gateway: Gateway, tmp_path: Path) -> None:
    assert own(gateway, "/-/routes/up", "X-Forwarded-For: 203.0.113.9").status == 403
    assert gateway.ask(request_bytes("DELETE", "/-/routes/up", host="localhost")).status == 405
    environment = {
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_ROUTE_U": "/u/** -> u",
        "GATEWAY_ADMIN_TOKEN": "s3cret-of-the-admin",
    }
    with Gateway(environment, cwd=tmp_path) as guarded:
        for path in ("/-/routes/u", "/-/upstreams/u", "/-/routes/nothing"):
            assert guarded.get(path, "Accept: text/html").status == 401
        page = guarded.get("/-/routes/u", "Accept: text/html", "Authorization: Bearer s3cret-of-the-admin")
        assert page.status == 200
        policy = page.one("content-security-policy")
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_history_comes_first(gateway: Gateway) -> None:
    """Who opens the page sees what was before; then only what is new comes."""
    eventually(lambda: len(first_events(gateway, 1)[0]["history"]) >= 8, 30)
    first, second = first_events(gateway, 2)
    assert len(first["history"]) > len(second["history"])
    seconds = [row[0] for row in first["history"]]
    assert seconds == sorted(set(seconds))
    assert first["time_s"] - seconds[-1] < 10
    assert "history" not in own(gateway, "/-/status").json()


def first_events(gateway: Gateway, count: int) -> list[dict[str, Any]]:
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/-/status", "Accept: text/event-stream", host="localhost"))
        wire.read_head()
        found = b""
        while found.count(b"}\n\n") < count:
            found += wire.read_until(b"\n\n")
    return [json.loads(line[6:]) for line in found.splitlines() if line.startswith(b"data: ")]


# -- in a browser -----------------------------------------------------------------------------------------------------


@needs_browser
@pytest.mark.usefixtures("traffic")
@pytest.mark.parametrize("width", [PHONE, TABLET, WIDE])
def test_the_page_fits_its_window(browser: Browser, gateway: Gateway, width: int) -> None:
    for path in ("/-/", f"/-/routes/{quote(HOSTILE[0], safe='')}", "/-/upstreams/dead"):
        shown(browser, gateway, path, width)
        assert browser.run("return document.documentElement.scrollWidth") <= width
    shown(browser, gateway, "/-/", width)
    eventually(lambda: len(rows(browser, "errors")) >= 3)
    lines = browser.run(
        "return Array.from(document.querySelectorAll('#errors button.copy'),"
        " one => [one.textContent.length, one.getClientRects().length, one.offsetHeight])"
    )
    assert lines
    assert all(length == 8 and parts == 1 and height < 32 for length, parts, height in lines), lines
    cards = browser.run(
        "return Array.from(document.querySelectorAll('.row'), row => {"
        " const own = row.getBoundingClientRect(), ends = {};"
        " for (const card of row.children) { const box = card.getBoundingClientRect();"
        " ends[box.top] = Math.max(ends[box.top] || 0, box.right); }"
        " return Object.values(ends).map(end => own.right - end); })"
    )
    assert all(abs(hole) < 2 for row in cards for hole in row), "a line of cards ends where the page does"
    assert browser.console() == []


@needs_browser
@pytest.mark.usefixtures("traffic")
def test_names_and_paths_of_others_are_text(browser: Browser, gateway: Gateway) -> None:
    shown(browser, gateway)
    eventually(lambda: {row[0] for row in rows(browser, "routes")} >= set(HOSTILE))
    eventually(lambda: any("script" in row[6] for row in rows(browser, "clients")))
    assert browser.run("return [document.title, document.images.length, document.scripts.length]") == ["Portway", 0, 1]
    links = browser.run("return Array.from(document.querySelectorAll('#routes tbody a'), a => [a.textContent, a.href])")
    for name, url in links:
        browser.open(url)
        eventually(lambda: state(browser) == "live")
        assert browser.run("return document.title") == f"Route {name} · Portway"
        assert browser.run("return document.getElementById('title').textContent") == f"Route {name}"
        assert browser.run("return document.querySelectorAll('#explain pre').length") > 2
    assert {name for name, _ in links} >= {*HOSTILE, "up", "dead"}
    assert browser.console() == []


@needs_browser
@pytest.mark.usefixtures("traffic")
def test_whose_fault_it_is_is_seen_at_once(browser: Browser, gateway: Gateway) -> None:
    shown(browser, gateway)
    health = {row[0].removesuffix("reason"): row[2] for row in rows(browser, "upstreams")}
    assert health["up"] == "up"
    assert health["dead"].startswith("failing")
    assert browser.run("return getComputedStyle(document.querySelector('#upstreams .warn')).fontWeight") == "600"
    errors = {(row[4], row[5]): row for row in rows(browser, "errors")}
    assert errors["dead", "dead"][0].startswith("connection_refused")
    assert errors["dead", "dead"][2].endswith(" UTC")
    facts = browser.run("return document.getElementById('facts').textContent")
    for word in ("Host", "Version", "Up for", "Workers2", "Memory", "Configuration", "Draining"):
        assert word in facts


@needs_browser
@pytest.mark.usefixtures("traffic")
def test_cells_change_in_place_and_a_pause_holds_them(browser: Browser, gateway: Gateway) -> None:
    shown(browser, gateway)
    total = "document.querySelector('#rate div:last-child b')"
    browser.run(
        f"window.cell = {total}; window.row = document.querySelector('#routes tbody tr');"
        " getSelection().selectAllChildren(window.row.cells[1])"
    )
    before = browser.run(f"return {total}.textContent")
    eventually(lambda: browser.run(f"return {total}.textContent") != before)
    assert browser.run(
        "return window.cell.isConnected && window.row.isConnected && getSelection().toString().length > 3"
    )
    browser.run("document.getElementById('pause').click()")
    held, clock = browser.run(f"return [{total}.textContent, last.time_s]")
    eventually(lambda: browser.run("return last.time_s") > clock + 2)
    assert browser.run(f"return {total}.textContent") == held
    assert (state(browser), browser.run("return document.title")) == ("paused", "paused · Portway")
    browser.run("document.getElementById('pause').click()")
    eventually(lambda: browser.run(f"return {total}.textContent") != held)
    assert state(browser) == "live"


@needs_browser
@pytest.mark.usefixtures("traffic")
def test_all_of_it_can_be_done_by_keyboard(browser: Browser, gateway: Gateway) -> None:
    shown(browser, gateway)
    focused = (
        "const one = document.activeElement, table = one.closest('table');"
        " return one.id || (table ? table.id + ' ' : '') + one.textContent"
    )
    reached: list[str] = []
    for _ in range(80):
        browser.press(TAB)
        reached.append(browser.run(focused))
        if reached[-1] == "pause" and browser.run("return !paused"):
            browser.press(SPACE)
            assert state(browser) == "paused"
            browser.press(SPACE)
            assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"
        if reached[-1] == "routes Route":
            browser.press(ENTER)
            assert browser.run("return document.activeElement.parentElement.getAttribute('aria-sort')") == "descending"
            names = [row[0] for row in rows(browser, "routes")]
            assert names == sorted(names, reverse=True)
        if reached[-1] == "filter":
            browser.press("k", "e", "p", "t")
            assert [row[0] for row in rows(browser, "routes")] == ["kept"]
        if reached[-1] == "routes kept":
            browser.press(ENTER)
            eventually(lambda: browser.run("return location.pathname") == "/-/routes/kept")
            return
    pytest.fail(f"not reached: {reached}")


@needs_browser
@pytest.mark.usefixtures("traffic")
def test_what_is_copied_is_the_whole_id(browser: Browser, gateway: Gateway) -> None:
    shown(browser, gateway)
    eventually(lambda: len(rows(browser, "errors")) >= 3)
    wanted = browser.run(
        "window.taken = []; navigator.clipboard.writeText = async text => { window.taken.push(text) };"
        " const button = document.querySelector('#errors button.copy'); button.click(); return button.dataset.copy"
    )
    assert len(wanted) == 32
    assert browser.run("return window.taken") == [wanted]


@needs_browser
def test_a_dead_gateway_is_seen_to_be_dead(up: Answers, tmp_path: Path, browser: Browser) -> None:
    environment = {"GATEWAY_UPSTREAM_U": up.url, "GATEWAY_ROUTE_U": "/u/** -> u", "GATEWAY_DRAIN": "1s"}
    with Gateway(environment, cwd=tmp_path) as gateway:
        shown(browser, gateway)
        assert browser.run("return getComputedStyle(document.getElementById('state')).color") == "rgb(17, 105, 58)"
        gateway.process.terminate()
        gateway.wait()
        eventually(lambda: state(browser) == "not connected, trying again")
        banner = eventually(lambda: browser.run("return document.getElementById('banner').innerText"))
        assert banner.startswith("Not connected: the gateway does not answer. What you see is ")
        eventually(lambda: " 5 s old" in browser.run("return document.getElementById('banner').innerText"))
        assert browser.run("return document.title") == "✕ not connected · Portway"
        assert browser.run("return document.body.classList.contains('stale')")
        assert browser.run("return getComputedStyle(document.querySelector('#overview')).filter") == "grayscale(1)"
        browser.run("source.close()")
        browser.console()


@needs_browser
def test_the_page_shows_an_endpoint_going_down_within_two_seconds(
    up: Answers, tmp_path: Path, browser: Browser
) -> None:
    with Answers() as mortal:
        environment = {
            "GATEWAY_UPSTREAM_PAIR": f"{up.url},{mortal.url}",
            "GATEWAY_UPSTREAM_PAIR__HEALTH": "/",
            "GATEWAY_UPSTREAM_PAIR__HEALTH_INTERVAL": "200ms",
            "GATEWAY_UPSTREAM_PAIR__HEALTH_FALL": "2",
            "GATEWAY_ROUTE_PAIR": "/pair/** -> pair",
        }
        with Gateway(environment, cwd=tmp_path) as gateway:
            shown(browser, gateway)

            def states() -> dict[str, str]:
                return {row[1]: row[2] for row in rows(browser, "upstreams")}

            eventually(lambda: states() == {up.url: "up", mortal.url: "up"})
            mortal.close()
            down = gateway.wait_for_log(lambda line: line["event"] == "upstream.down")
            assert down["endpoint"] in mortal.url
            eventually(lambda: states() == {up.url: "up", mortal.url: "downthe probes say so"}, 2)
            browser.run("source.close()")
            browser.console()


# -- accessibility ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core; skips, and says why, where it cannot be had."""
    if shutil.which("npm") is None:
        pytest.skip("no npm: axe-core cannot be had")
    source = AXE / "node_modules" / "axe-core" / "axe.min.js"
    if not source.exists():
        command = ["npm", "ci", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=AXE, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot have axe-core: {done.stderr.strip().splitlines()[-1:]}")
    return source.read_text(encoding="utf-8")


def audit(browser: Browser, source: str) -> list[Any]:
    """What axe finds: rule, and the elements."""
    browser.run(source)
    script = (
        "return axe.run(document, {resultTypes: ['violations']}).then(found =>"
        " found.violations.map(one => [one.id, one.nodes.slice(0, 3).map(node => node.html.slice(0, 80))]))"
    )
    found: list[Any] = browser.run(script)
    return found


@needs_browser
@pytest.mark.usefixtures("traffic")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, WIDE])
def test_axe_finds_nothing(browser: Browser, gateway: Gateway, axe: str, scheme: str, width: int) -> None:
    browser.prefer(scheme)
    try:
        for path in ("/-/", "/-/routes/dead", "/-/upstreams/dead"):
            shown(browser, gateway, path, width)
            browser.run("document.querySelectorAll('details').forEach(one => { one.open = true })")
            assert audit(browser, axe) == [], path
        shown(browser, gateway, "/-/", width)
        browser.run("source.close(); isDead = true; look()")
        assert audit(browser, axe) == [], "not connected"
        ground = browser.run("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(20, 23, 28)") is (scheme == "dark")
    finally:
        browser.prefer("light")
