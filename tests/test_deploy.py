"""compose.yaml and deploy/kubernetes.yaml agree with the code: what they set loads, what they ask for is there."""

import dataclasses
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import yaml

from gateway import __version__, units
from gateway.config import loader, table
from gateway.config.records import Config
from gateway.routing.records import Route

HOME = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((HOME / "compose.yaml").read_text(encoding="utf-8"))
MANIFEST: dict[str, Any] = {
    document["kind"]: document
    for document in yaml.safe_load_all((HOME / "deploy" / "kubernetes.yaml").read_text(encoding="utf-8"))
}
POD = MANIFEST["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
GATEWAY = COMPOSE["services"]["gateway"]
CONTAINERFILE = (HOME / "Containerfile").read_text(encoding="utf-8")


def of_image(name: str) -> str:
    """What the image sets."""
    found = re.search(rf"\b{name}=(\S+)", CONTAINERFILE)
    assert found is not None
    return found[1]


def interpolated(text: str) -> str:
    """A value as compose has it where the shell sets nothing."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


ENVIRONMENTS = {
    # A name without a value is the shell's own, which sets nothing.
    "compose.yaml": {name: interpolated(value) for name, value in GATEWAY["environment"].items() if value is not None},
    "kubernetes.yaml": MANIFEST["ConfigMap"]["data"],
}


@pytest.fixture(params=ENVIRONMENTS)
def loaded(request: pytest.FixtureRequest) -> Config:
    """The configuration of one of the two, with what the image sets."""
    image = {name: of_image(name) for name in ("GATEWAY_BIND", "GATEWAY_DATABASE_URL")}
    return loader.load({**image, **ENVIRONMENTS[request.param]}, lambda path: "")


def test_every_variable_loads_without_a_word(loaded: Config) -> None:
    assert loaded.routes
    assert loaded.warnings == ()
    asked = [upstream for route in loaded.routes for upstream in upstreams_of(route)]
    assert set(loaded.upstreams) == set(asked)


def upstreams_of(route: Route) -> list[str]:
    if route.fan is not None:
        return [part.target.upstream for part in route.fan.parts]
    return [] if route.target is None else [route.target.upstream]


def test_the_time_to_stop_is_longer_than_draining_takes() -> None:
    for name, grace_s in (
        ("compose.yaml", units.duration(GATEWAY["stop_grace_period"])),
        ("kubernetes.yaml", POD["terminationGracePeriodSeconds"]),
    ):
        settings = loader.load(ENVIRONMENTS[name], lambda path: "").settings
        assert grace_s > settings.drain_delay_s + settings.drain_s, name


# -- compose ----------------------------------------------------------------------------------------------------------

# The words of the Compose Specification that the file uses: a slip of the pen is in no such list.
WORDS = {
    *("build", "cap_drop", "command", "entrypoint", "environment", "healthcheck", "image", "mem_limit", "pids_limit"),
    *("ports", "profiles", "pull_policy", "read_only", "restart", "security_opt", "stop_grace_period", "stop_signal"),
    *("user", "volumes", "working_dir"),
}


def test_compose_uses_words_that_there_are() -> None:
    assert set(COMPOSE) == {"name", "services", "volumes"}
    for name, service in COMPOSE["services"].items():
        assert set(service) <= WORDS, name
        values = service.get("environment", {}).values()
        assert all(value is None or isinstance(value, str) for value in values), name


def test_upstreams_are_services_of_the_file_on_the_port_that_they_listen_on() -> None:
    loaded = loader.load(ENVIRONMENTS["compose.yaml"], lambda path: "")
    for upstream in loaded.upstreams.values():
        (base,) = upstream.bases
        assert COMPOSE["services"][base.host]["command"] == [f"{upstream.name}=0.0.0.0:{base.port}"]


def test_volumes_and_ports_are_those_of_the_image() -> None:
    state = Path(of_image("GATEWAY_DATABASE_URL").removeprefix("sqlite:///")).parent
    assert GATEWAY["volumes"] == [f"state:{state}"]
    named = {one.partition(":")[0] for service in COMPOSE["services"].values() for one in service.get("volumes", ())}
    assert {name for name in named if not name.startswith(".")} == set(COMPOSE["volumes"])
    port = of_image("GATEWAY_BIND").partition(":")[2]
    assert GATEWAY["ports"] == [f"127.0.0.1:8000:{port}"]
    assert CONTAINER["ports"][0]["containerPort"] == int(port)
    assert CONTAINER["volumeMounts"][0]["mountPath"] == str(state)


def test_postgresql_is_there_only_on_request_and_its_url_is_one() -> None:
    postgres = COMPOSE["services"]["postgres"]
    assert postgres["profiles"] == ["postgres"]
    told = re.search(r"GATEWAY_DATABASE_URL=(\S+)", (HOME / "compose.yaml").read_text(encoding="utf-8"))
    assert told is not None
    user, password, name = (postgres["environment"][f"POSTGRES_{word}"] for word in ("USER", "PASSWORD", "DB"))
    assert told[1] == f"postgresql://{user}:{password}@postgres/{name}"
    table.TABLE["gateway", "DATABASE_URL"].unit.parse(told[1])


# -- Kubernetes -------------------------------------------------------------------------------------------------------

MODULES = {"ConfigMap": "core_v1", "Service": "core_v1", "Deployment": "apps_v1", "PodDisruptionBudget": "policy_v1"}


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Kubernetes' schema as dataclasses, without the client whose helpers they would take."""
    helpers = ModuleType("lightkube.core.schema")
    helpers.__dict__.update(dataclass=dataclasses.dataclass, field=dataclasses.field, DictMixin=object)
    monkeypatch.setitem(sys.modules, "lightkube.core", ModuleType("lightkube.core"))
    monkeypatch.setitem(sys.modules, "lightkube.core.schema", helpers)
    yield {kind: getattr(importlib.import_module(f"lightkube.models.{name}"), kind) for kind, name in MODULES.items()}
    for name in [name for name in sys.modules if name.startswith("lightkube.models")]:
        del sys.modules[name]


def filled(value: Any) -> Any:
    """Without what was not said."""
    if isinstance(value, dict):
        return {name: filled(one) for name, one in value.items() if one is not None}
    return [filled(one) for one in value] if isinstance(value, list) else value


def test_the_manifest_is_by_kubernetes_own_schema(models: dict[str, Any]) -> None:
    """Each value has the type that the schema has there, and a word that it does not have would not come back."""
    assert set(MANIFEST) == set(models)
    for kind, document in MANIFEST.items():
        record = msgspec.convert(document, models[kind])
        assert filled(msgspec.to_builtins(record)) == document, kind


@pytest.mark.parametrize(
    "spoilt",
    [
        {"spec": {"replicas": "2"}},
        {"spec": {"replica": 2}},
        {"spec": {"template": {"spec": {"containers": [{"name": "a", "livenessProbe": {"httpget": {}}}]}}}},
    ],
)
def test_a_slip_of_the_pen_would_be_found(models: dict[str, Any], spoilt: dict[str, Any]) -> None:
    spec = {"selector": {}, "template": {}, **spoilt["spec"]}
    document = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec}
    try:
        found = filled(msgspec.to_builtins(msgspec.convert(document, models["Deployment"])))
    except msgspec.ValidationError:
        return
    assert found != document


def test_every_selector_finds_the_pods() -> None:
    labels = MANIFEST["Deployment"]["spec"]["template"]["metadata"]["labels"]
    (spread,) = POD["topologySpreadConstraints"]
    for selector in (
        MANIFEST["Deployment"]["spec"]["selector"]["matchLabels"],
        MANIFEST["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        MANIFEST["Service"]["spec"]["selector"],
        spread["labelSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_the_pod_names_what_there_is() -> None:
    assert CONTAINER["image"] == f"portway:{__version__}"
    assert CONTAINER["envFrom"] == [{"configMapRef": {"name": MANIFEST["ConfigMap"]["metadata"]["name"]}}]
    assert MANIFEST["Service"]["spec"]["ports"][0]["targetPort"] == CONTAINER["ports"][0]["name"]
    user = re.search(r"^USER (\d+):(\d+)$", CONTAINERFILE, re.MULTILINE)
    assert user is not None
    security = POD["securityContext"]
    assert [security["runAsUser"], security["runAsGroup"]] == [int(user[1]), int(user[2])]


def test_the_place_for_state_holds_the_cache() -> None:
    (volume,) = POD["volumes"]
    settings = loader.load(ENVIRONMENTS["kubernetes.yaml"], lambda path: "").settings
    assert units.size(volume["emptyDir"]["sizeLimit"].replace("Gi", "GiB")) > settings.cache_disk_bytes


def test_a_roll_takes_nothing_away() -> None:
    spec = MANIFEST["Deployment"]["spec"]
    assert spec["replicas"] > MANIFEST["PodDisruptionBudget"]["spec"]["maxUnavailable"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert MANIFEST["ConfigMap"]["data"]["GATEWAY_DRAIN_DELAY"] == "5s"
    assert CONTAINER["readinessProbe"]["httpGet"]["path"] == "/-/ready"
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/-/live"
