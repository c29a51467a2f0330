"""The plugin of pytest: the mark `gateway`, and the fixtures `gateway` and `live_gateway` of the test kit.

pytest imports it in every run where the gateway is installed, so it imports nothing of the gateway before a test asks
for one. A test that does is run in an event loop by the plugin that it is marked for, or else here.
"""

import asyncio
import functools
import inspect
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gateway.testing.gateway import AnyGateway, TestGateway
    from gateway.testing.live import LiveGateway

_MARK = (
    "gateway(NAME='value', routes=..., folder=...): the variables of the gateway under test, without GATEWAY_; "
    "`routes` are lines or a module, `folder` is where its files lie"
)
_FILES = ("gateway.env", "routes.py")
_KEY: "pytest.StashKey[list[AnyGateway]]" = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARK)


@pytest.fixture
def gateway(request: pytest.FixtureRequest) -> "TestGateway":
    """The gateway of the mark, or of the folder, in this process; services are its attributes."""
    from gateway.testing.gateway import TestGateway

    made: TestGateway = _made(TestGateway, request)
    return made


@pytest.fixture
def live_gateway(request: pytest.FixtureRequest) -> "LiveGateway":
    """As `gateway`, in a separate process, over real sockets."""
    from gateway.testing.live import LiveGateway

    made: LiveGateway = _made(LiveGateway, request)
    return made


def _made(kind: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    from gateway.testing.setup import SetupError

    item, fixture = request.node, request.fixturename
    function = getattr(item, "obj", None)
    if not inspect.iscoroutinefunction(inspect.unwrap(function) if callable(function) else function):
        pytest.fail(f"the fixture {fixture} is used by awaiting it: write `async def {item.name}(...)`", pytrace=False)
    environ, routes, folder = _asked(item)
    problem = ""
    try:
        made = kind(environ, routes=routes, folder=folder)
    except SetupError as error:
        problem = str(error)
    if problem:  # raised here, so that nothing else fails
        pytest.fail(problem, pytrace=False)
    item.stash.setdefault(_KEY, []).append(made)
    return made


def _asked(item: pytest.Item) -> tuple[dict[str, Any] | None, Any, Path]:
    """Variables, routes and folder from the marks, those of the function over those of its class and module."""
    options: dict[str, Any] = {}
    environ: dict[str, Any] | None = None
    for mark in reversed(list(item.iter_markers("gateway"))):
        given = dict(mark.kwargs)
        for one in mark.args:
            if not isinstance(one, Mapping):
                pytest.fail(f"@pytest.mark.gateway({one!r}): write NAME='value', or a mapping of those", pytrace=False)
            given = {**one, **given}
        for name in [name for name in given if name.islower()]:
            if name not in {"routes", "folder"}:
                pytest.fail(f"@pytest.mark.gateway({name}=...): variables are in upper case", pytrace=False)
            options[name] = given.pop(name)
        if given or "routes" in mark.kwargs:
            environ = {**(environ or {}), **given}
    folder = options.get("folder")
    return environ, options.get("routes"), _folder_of(item) if folder is None else item.path.parent / folder


def _folder_of(item: pytest.Item) -> Path:
    """The nearest folder at or above the test's with the files of a gateway; without one, the test's own."""
    own, top = item.path.parent, item.config.rootpath
    above = [own, *own.parents]
    within = above[: above.index(top) + 1] if top in above else [own]
    return next((one for one in within if any((one / name).is_file() for name in _FILES)), own)


# -- the test runs --------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A test with gateways runs within them: they end with it, in its event loop."""
    gateways = item.stash.get(_KEY, None)
    if not gateways or not isinstance(item, pytest.Function):
        return (yield)
    function = item.obj
    item.obj = _inside(gateways, function)
    try:
        return (yield)
    finally:
        item.obj = function


def _inside(gateways: "list[AnyGateway]", function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def test(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        first, *others = gateways
        async with first:
            await (_inside(others, function) if others else function)(*args, **kwargs)

    return test


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test that no other plugin runs: pytest-asyncio's is synchronous by now, anyio's has a backend."""
    function = pyfuncitem.obj
    is_ours = bool(pyfuncitem.stash.get(_KEY, None)) and inspect.iscoroutinefunction(function)
    if not is_ours or "anyio_backend" in pyfuncitem.fixturenames:
        return None
    values = pyfuncitem.funcargs
    arguments = {name: values[name] for name in inspect.signature(function).parameters if name in values}
    with asyncio.Runner() as runner:
        runner.run(function(**arguments))
    return True
