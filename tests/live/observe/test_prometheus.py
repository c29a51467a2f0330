"""deploy/alerts.yaml and deploy/grafana.json before a real Prometheus, which scrapes a real gateway."""

import contextlib
import json
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.live.harness import HOME, Answers, Gateway, Refuses, eventually, free_port, request_bytes
from tests.test_docs import anchors_of, prose_of

ALERTS, DASHBOARD, RUNBOOK = (
    HOME / "deploy" / "alerts.yaml",
    HOME / "deploy" / "grafana.json",
    HOME / "docs" / "runbook.md",
)
CASES = Path(__file__).parent / "alerts_test.yaml"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
# Why it may be left out: only make and Python may be assumed of a newcomer's machine; `.ci/run` installs it.
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="there is no Prometheus here (Debian: apt install prometheus)"
)

RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
QUERIES = [(panel["title"], target["expr"]) for panel in BOARD["panels"] for target in panel.get("targets", [])]


# -- alerts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_its_line_of_the_runbook(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert HOME / page == RUNBOOK
    assert anchor in anchors_of(prose_of(RUNBOOK))
    assert rule["alert"] in RUNBOOK.read_text(encoding="utf-8")


@needs_prometheus
def test_each_alert_fires_where_it_should_and_none_where_all_is_well() -> None:
    done = subprocess.run([str(PROMTOOL), "test", "rules", str(CASES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tested = CASES.read_text(encoding="utf-8")
    assert all(f'alertname="{rule["alert"]}"' in tested for rule in RULES)


# -- the dashboard ----------------------------------------------------------------------------------------------------


def test_the_dashboard_says_only_what_grafana_knows() -> None:
    """Grafana's own classes read it and write it again: what they do not know is lost on the way."""
    plugins.register_default_plugins()
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(BOARD)))
    assert list(lost(BOARD, again)) == []
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def lost(own: Any, again: Any, place: str = "") -> Iterator[str]:
    if isinstance(own, dict):
        for key, value in own.items():
            if not isinstance(again, dict) or key not in again:
                yield f"{place}/{key}"
            else:
                yield from lost(value, again[key], f"{place}/{key}")
    elif isinstance(own, list) and isinstance(again, list) and len(own) == len(again):
        for number, (one, other) in enumerate(zip(own, again, strict=True)):
            yield from lost(one, other, f"{place}/{number}")
    elif own != again:
        yield f"{place}: {own!r} became {again!r}"


ROUTES = """
import threading
from gateway.routing import from_environment, legacy, route

def report(number):
    threading.Event().wait(0.3)
    return {"number": number}

reports = legacy(report, threads=1, queue=1, timeout="100ms")
urlpatterns = [*from_environment(), route("/reports/{number}", reports, name="reports")]
"""


@pytest.fixture(scope="module")
def gateway(up: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("scraped")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    with contextlib.closing(Refuses()) as dead:
        environment = {
            "GATEWAY_WORKERS": "2",
            "GATEWAY_UPSTREAM_UP": up.url,
            "GATEWAY_UPSTREAM_DEAD": dead.url,
            "GATEWAY_ROUTE_UP": "/up/** -> up",
            "GATEWAY_ROUTE_DEAD": "/dead/** -> dead",
            "GATEWAY_ROUTE_KEPT": "/kept/** -> up",
            "GATEWAY_ROUTE_KEPT__CACHE": "60s",
            "GATEWAY_ROUTE_FAN": "GET /fan/{id}",
            "GATEWAY_ROUTE_FAN__PART_ONE": "up:/{id}",
            "GATEWAY_ROUTE_FAN__PART_TWO": "dead:/{id}",
            "GATEWAY_ROUTE_FAN__OPTIONAL": "one two",
            "GATEWAY_ROUTE_FEW": "/few -> up",
            "GATEWAY_ROUTE_FEW__RATE_LIMIT": "1/1h by client",
            "GATEWAY_AUTH_KEY": "keys",
            "GATEWAY_AUTH_KEY__KEYS": f"ann sha256:{sha256(b'a-key').hexdigest()}",
            "GATEWAY_ROUTE_WHO": "/who -> up",
            "GATEWAY_ROUTE_WHO__AUTH": "key",
        }
        with Gateway(environment, cwd=folder) as running:
            yield running


class Prometheus:
    """It scrapes one gateway every second, by the alerts of deploy/."""

    def __init__(self, folder: Path, gateway: Gateway) -> None:
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [
                {
                    "job_name": "portway",
                    "metrics_path": "/-/metrics",
                    "static_configs": [{"targets": [f"localhost:{gateway.port}"]}],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        self.port = free_port()
        command = [
            *(str(PROMETHEUS), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query. Raises HTTPError for one that is none."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found


@pytest.fixture(scope="module")
def prometheus(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    running = Prometheus(tmp_path_factory.mktemp("prometheus"), gateway)
    done = threading.Event()

    def send() -> None:
        while not done.wait(0.2):
            for path in ("/up/1", "/dead/1", "/kept/1", "/fan/1", "/few", "/who", *["/reports/1"] * 3):
                with contextlib.suppress(OSError, AssertionError):
                    gateway.get(path)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield running
    finally:
        done.set()
        for thread in threads:
            thread.join()
        running.process.terminate()
        running.process.wait(10)


def written_out(expression: str) -> str:
    """A query of the dashboard as Grafana sends it."""
    return expression.replace("$job", "portway").replace("$instance", ".*").replace("$__rate_interval", "10s")


@needs_prometheus
def test_no_panel_is_empty_while_there_is_traffic(prometheus: Prometheus) -> None:
    def scrapes() -> list[Any]:
        with contextlib.suppress(OSError):  # it is starting
            return prometheus.ask('count_over_time(portway_workers{job="portway"}[1m]) > 4')
        return []

    eventually(scrapes, 60)

    def empty() -> list[str]:
        return [title for title, expression in QUERIES if not prometheus.ask(written_out(expression))]

    # Nothing here opens a socket.
    eventually(lambda: empty() == ["WebSockets open"], 60)
    assert len(QUERIES) > 30
    values = {title: prometheus.ask(written_out(expression))[0]["value"][1] for title, expression in QUERIES[:5]}
    assert float(values["Workers"]) == 2
    assert 0 < float(values["Share of 5xx"]) < 1
    assert float(values["Endpoints out"]) == 0


@needs_prometheus
def test_every_metric_that_an_alert_or_a_panel_reads_is_one_that_the_gateway_has(
    prometheus: Prometheus, gateway: Gateway
) -> None:
    text = gateway.ask(request_bytes("GET", "/-/metrics", host="localhost")).body.decode()
    has = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    words = " ".join(expression for _, expression in QUERIES) + " ".join(rule["expr"] for rule in RULES)
    read = {re.sub(r"_(bucket|count)$", "", name) for name in re.findall(r"\b(?:portway|process)_\w+", words)}
    known = {name.removesuffix("_total") for name in has} | has
    missing = {name for name in read if name not in known and name.removesuffix("_total") not in known}
    assert missing == {"portway_tls_certificate_days_left"}, "it has no certificate"
    eventually(lambda: prometheus.ask('ALERTS{alertname="PortwayRouteFailing"}'), 60)
