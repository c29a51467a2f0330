"""The upstreams that several files meet; and what the live tests measured and do not judge, shown at the end."""

import signal
from collections.abc import Iterator

import pytest

from .harness import Answers, Slow, Upstream


def pytest_configure(config: pytest.Config) -> None:
    # `timeout 60 pytest` ends like Ctrl-C: the fixtures stop their gateways, and none stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("passed")
    measured = [(name, value) for report in reports for name, value in report.user_properties]
    if measured:
        terminalreporter.section("measured")
    for name, value in measured:
        terminalreporter.line(f"{name}: {value}")


@pytest.fixture(scope="module")
def up() -> Iterator[Answers]:
    with Answers() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def slow() -> Iterator[Slow]:
    with Slow() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def puppet() -> Iterator[Upstream]:
    """Says what the test says, when it says it."""
    with Upstream() as upstream:
        yield upstream
