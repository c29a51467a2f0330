"""https endpoints of which one fails in its handshake: nothing of a request has been sent, so it goes elsewhere."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.live.harness import Answers, Gateway, eventually, request_bytes
from tests.live.proxy.test_tls import SpeaksNoTls, authority, serving, signed


class Ups(NamedTuple):
    good: Answers
    stranger: Answers  # its certificate is not trusted
    plain: SpeaksNoTls


@pytest.fixture(scope="module")
def ups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ups, Path]]:
    folder = tmp_path_factory.mktemp("upstream-tls")
    ours, theirs = authority(folder, "ours"), authority(folder, "theirs")
    with ExitStack() as stack:
        made = Ups(
            Answers(tls=serving(signed(folder, "good", ours, "127.0.0.1"))),
            Answers(tls=serving(signed(folder, "stranger", theirs, "127.0.0.1"))),
            SpeaksNoTls(),
        )
        for upstream in made:
            stack.callback(upstream.close)
        yield made, folder


@pytest.fixture(scope="module")
def gateway(ups: tuple[Ups, Path]) -> Iterator[Gateway]:
    made, folder = ups
    environment: dict[str, str] = {}
    for name, bad in (("stranger", made.stranger.url), ("plain", made.plain.url.replace("http:", "https:"))):
        upstream = f"GATEWAY_UPSTREAM_{name.upper()}"
        environment |= {upstream: f"{bad},{made.good.url}", f"{upstream}__CA_FILE": str(folder / "ours.pem")}
        environment |= {f"{upstream}__BALANCE": "round_robin", f"GATEWAY_ROUTE_{name.upper()}": f"/{name}/** -> {name}"}
    environment |= {
        "GATEWAY_UPSTREAM_PROBED": f"{made.good.url},{made.stranger.url}",
        "GATEWAY_UPSTREAM_PROBED__CA_FILE": str(folder / "ours.pem"),
        "GATEWAY_UPSTREAM_PROBED__HEALTH": "/healthz",
        "GATEWAY_UPSTREAM_PROBED__HEALTH_INTERVAL": "50ms",
        "GATEWAY_UPSTREAM_PROBED__HEALTH_FALL": "1",
    }
    with Gateway(environment, cwd=folder) as running:
        yield running


@pytest.mark.parametrize(("name", "word"), [("stranger", "tls_certificate"), ("plain", "tls_failed")])
def test_a_handshake_that_fails_sends_a_post_elsewhere_and_ejects(
    gateway: Gateway, ups: tuple[Ups, Path], name: str, word: str
) -> None:
    good = ups[0].good
    good.forget()
    answers = [gateway.ask(request_bytes("POST", f"/{name}/x", "Content-Length: 4", body=b"once")) for _ in range(12)]
    assert [answer.body for answer in answers] == [b"hello"] * 12
    attempts = [gateway.request_line(answer.one("x-request-id"))["attempts"] for answer in answers]
    assert attempts.count(2) == 5
    assert [request.body for request in good.requests if request.target == f"/{name}/x"] == [b"once"] * 12
    line = gateway.wait_for_log(lambda line: line["event"] == "upstream.ejected" and line["upstream"] == name)
    assert line["failure"] == word


def test_probes_make_the_handshake_too(gateway: Gateway, ups: tuple[Ups, Path]) -> None:
    made, _ = ups
    line = gateway.wait_for_log(lambda line: line["event"] == "upstream.down" and line["upstream"] == "probed")
    assert line["endpoint"] == made.stranger.authority
    assert line["cause"].startswith("tls_certificate")
    eventually(lambda: any(request.target == "/healthz" for request in made.good.requests))
    assert not [line for line in gateway.log if line.get("endpoint") == made.good.authority and "." in line["event"]]
