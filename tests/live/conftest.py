"""What several files meet: upstreams, a PostgreSQL."""

from collections.abc import Iterator

import pytest

from .harness import Answers, Slow, Upstream
from .parts import Parts
from .postgres import Postgres


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


@pytest.fixture(scope="module")
def services() -> Iterator[Parts]:
    """The services behind a fan-out, in one."""
    with Parts() as parts:
        yield parts


@pytest.fixture
def u(services: Parts) -> Parts:
    """The same, as new."""
    services.clear()
    return services


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """An empty PostgreSQL database; skips, and says why, where there can be none."""
    with Postgres() as server:
        yield server.url()
