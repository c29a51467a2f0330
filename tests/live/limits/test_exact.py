"""As many pass as the rate and the burst allow, within 1 %, however many processes decide and whoever is killed."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.caching import workers_of
from tests.live.harness import Answers, Gateway, eventually
from tests.live.limits.crowd import Crowd
from tests.live.valkey import Valkey

BURST, PER_S, FOR_S = 300, 100, 4.0
LIMIT = f"{PER_S}/1s burst {BURST} by all"


@pytest.fixture
def gateways(up: Answers, tmp_path: Path) -> Iterator["Gateways"]:
    with ExitStack() as stack:
        yield Gateways(up, tmp_path, stack)


class Gateways:
    """Several, started at the same time."""

    def __init__(self, up: Answers, folder: Path, stack: ExitStack) -> None:
        self.up, self.folder, self.stack = up, folder, stack

    def __call__(self, count: int, workers: int, **variables: str) -> list[Gateway]:
        made = [
            Gateway(
                {
                    "GATEWAY_WORKERS": str(workers),
                    "GATEWAY_UPSTREAM_U": self.up.url,
                    "GATEWAY_ROUTE_U": "/** -> u",
                    "GATEWAY_RATE_LIMIT": "all",
                    "GATEWAY_RATE_LIMIT_ALL": LIMIT,
                    **{f"GATEWAY_{name}": value for name, value in variables.items()},
                },
                cwd=self.folder,
            )
            for _ in range(count)
        ]
        for gateway in made:
            self.stack.callback(gateway.kill)
            gateway.start(wait=False)
        for gateway in made:
            gateway.wait_until_ready()
        return made


def check(crowd: Crowd) -> None:
    least, most = crowd.expected(BURST, PER_S)
    assert set(crowd.statuses) == {200, 429}, crowd.statuses
    assert crowd.statuses[429] > 50, "there were not always more who wanted to"
    assert crowd.passed <= most * 1.01 + 1, (crowd.passed, least, most)
    assert crowd.passed + crowd.broken >= least * 0.99 - 1, (crowd.passed, crowd.broken, least, most)


def test_three_gateways_of_two_workers_on_one_valkey(gateways: Gateways) -> None:
    with Valkey() as server:
        started = gateways(3, 2, VALKEY_URL=server.url)
        with Crowd([gateway.port for gateway in started]) as crowd:
            time.sleep(FOR_S)
        check(crowd)
        assert crowd.broken == 0


def test_four_workers_in_shared_memory(gateways: Gateways) -> None:
    (gateway,) = gateways(1, 4)
    with Crowd([gateway.port], connections=12) as crowd:
        time.sleep(FOR_S)
    check(crowd)
    assert crowd.broken == 0


@pytest.mark.parametrize("shared_by", ["memory", "valkey"])
def test_while_a_worker_is_killed_every_second(gateways: Gateways, shared_by: str) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(Valkey()).url if shared_by == "valkey" else ""
        (gateway,) = gateways(1, 4, **({"VALKEY_URL": url} if url else {}))
        eventually(lambda: len(workers_of(gateway)) == 4)
        with Crowd([gateway.port], connections=12) as crowd:
            for number in range(4):
                time.sleep(1.0)  # of load between two deaths: that is what is tried
                os.kill(workers_of(gateway)[number], signal.SIGKILL)  # each that was there at first
        check(crowd)
        deaths = gateway.wait_for_log(lambda line: line["event"] == "worker.died")
        assert deaths["signal"] == "SIGKILL"
