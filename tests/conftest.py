"""How the tests begin, with the longest; how they end when told to; and what live ones measured and do not judge."""

import signal
from pathlib import Path

import pytest
from hypothesis import settings

LONGEST = (
    *("test_docs.py", "live/cache/test_database.py", "live/upstreams/test_chaos.py"),
    *("live/management/test_commands.py", "live/server/test_serve.py"),
)

# How long one example takes says more of the machine than of the code. The examples are the same in each run, so that a
# change fails for what it did; `--hypothesis-profile=searching` tries new ones.
settings.register_profile("portway", deadline=None, derandomize=True)
settings.register_profile("searching", deadline=None)
settings.load_profile("portway")


def pytest_configure(config: pytest.Config) -> None:
    # `timeout 60 pytest` ends like Ctrl-C: the fixtures stop their gateways, and none stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Of the processes that share the files, none is to be left alone with a long one at the end.
    longest = {Path(__file__).parent / name for name in LONGEST}
    items.sort(key=lambda item: item.path not in longest)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("passed")
    measured = [(name, value) for report in reports for name, value in report.user_properties]
    if measured:
        terminalreporter.section("measured")
    for name, value in measured:
        terminalreporter.line(f"{name}: {value}")
