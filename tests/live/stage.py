"""Upstreams of several endpoints, each a scene under a name of its own behind one gateway.

    SCENES = {"twice": Scene(RETRIES="1"), "dead": Scene(Refuses, Actor)}

    with Stage(SCENES, cwd=folder) as stage:
        scene = stage["twice"]
        scene.script(resets, says(OK))                     # what the next requests meet, whoever gets them
        answer = scene.ask("GET")                          # GET /twice/x
        assert [actor.name for actor in scene.met] == ["a", "b"]
        assert scene.line(answer)["attempts"] == 2

An actor does with a whole request what the script says; after that, and without one, what its own `act` says: at first
it answers with its name. What a test does to a scene stays there, so that no test meets the ejections of another.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .harness import Answer, Gateway, NeverAccepts, Refuses, Request, Upstream, Wire, eventually, request_bytes

Act = Callable[[Request], None]


# -- what an actor can do -----------------------------------------------------------------------------------------


def message(status: str, body: bytes, *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]).encode() + body


def says(raw: bytes) -> Act:
    return lambda request: request.send(raw)


def status(code: int, *fields: str) -> Act:
    return says(message(f"{code} Just So", b"just so", *fields))


def silent(request: Request) -> None:
    """Takes the request, says nothing."""


def resets(request: Request) -> None:
    request.reset()


def hangs_up(request: Request) -> None:
    request.close()


def breaks_off(head_and_half: bytes) -> Act:
    """Says this much of an answer, and closes."""

    def act(request: Request) -> None:
        request.send(head_and_half)
        request.close()

    return act


def after(seconds: float, act: Act) -> Act:
    """A service that takes its time."""

    def act_then(request: Request) -> None:
        with contextlib.suppress(OSError):  # the gateway may have hung up by then
            act(request)

    def begin(request: Request) -> None:
        timer = threading.Timer(seconds, act_then, [request])
        timer.daemon = True
        timer.start()

    return begin


class Actor(Upstream):
    """An endpoint that acts. `asked` are the requests that came, in their order."""

    def __init__(self, name: str = "a", *, host: str = "127.0.0.1") -> None:
        self.name = name
        self.act: Act = says(message("200 OK", name.encode()))
        self.scene: Scene | None = None
        super().__init__(host=host)

    def on_request(self, request: Request) -> None:
        scripted = self.scene.next_act(self, request) if self.scene is not None else None
        (scripted or self.act)(request)

    @property
    def asked(self) -> list[Request]:
        return list(self.requests)


Server = Actor | Refuses | NeverAccepts


# -- one upstream -------------------------------------------------------------------------------------------------


class Scene:
    """An upstream: what serves it, its options, and what came of the requests to it."""

    name: str
    gateway: Gateway

    def __init__(self, *cast: type[Server], path: str = "", **options: str) -> None:
        self.cast = cast or (Actor, Actor)
        self.path = path
        self.options = options
        self.servers: list[Any] = []
        self.met: list[Actor] = []  # who got a whole request, in the order in which they came
        self._script: deque[Act] = deque()
        self._lock = threading.Lock()

    def open(self, name: str) -> dict[str, str]:
        """Set the servers up; what the environment says of it."""
        self.name = name
        for number, kind in enumerate(self.cast):
            server = kind("abcdefgh"[number]) if issubclass(kind, Actor) else kind()
            if isinstance(server, Actor):
                server.scene = self
            self.servers.append(server)
        variable = name.upper()
        urls = ",".join(server.url + self.path for server in self.servers)
        return {
            f"GATEWAY_UPSTREAM_{variable}": urls,
            **{f"GATEWAY_UPSTREAM_{variable}__{option}": text for option, text in self.options.items()},
            f"GATEWAY_ROUTE_{variable}": f"/{name}/** -> {name}",
        }

    def close(self) -> None:
        for server in self.servers:
            server.close()

    # -- what the servers do --------------------------------------------------------------------------------------

    @property
    def actors(self) -> list[Actor]:
        return [server for server in self.servers if isinstance(server, Actor)]

    def script(self, *acts: Act) -> None:
        """What the next requests to any of them meet. Forgets what was met so far."""
        with self._lock:
            self._script = deque(acts)
            self.met = []
        for actor in self.actors:
            actor.forget()

    def all_do(self, act: Act) -> None:
        for actor in self.actors:
            actor.act = act

    def next_act(self, actor: Actor, request: Request) -> Act | None:
        with self._lock:
            self.met.append(actor)
            return self._script.popleft() if self._script else None

    @property
    def seen(self) -> list[Request]:
        """All that came, to whichever of them."""
        return [request for actor in self.actors for request in actor.asked]

    def wait_until_seen(self, count: int = 1) -> list[Request]:
        """So many whole requests, once they have come."""
        eventually(lambda: sum(request.is_whole for request in self.seen) >= count)
        return self.seen

    # -- asking ---------------------------------------------------------------------------------------------------

    def request(self, method: str, *fields: str, path: str = "/x", body: bytes = b"") -> bytes:
        length = [f"Content-Length: {len(body)}"] if body else []
        return request_bytes(method, f"/{self.name}{path}", *length, *fields, body=body)

    def ask(
        self, method: str = "GET", *fields: str, path: str = "/x", body: bytes = b"", source: str | None = None
    ) -> Answer:
        return self.gateway.ask(self.request(method, *fields, path=path, body=body), source=source)

    def begin(self, method: str = "GET", *fields: str, path: str = "/x", body: bytes = b"") -> Wire:
        """Send a request; its answer is still to be read from the wire."""
        wire = self.gateway.connect()
        wire.send(self.request(method, *fields, path=path, body=body))
        return wire

    def line(self, answer: Answer) -> dict[str, Any]:
        """What the log says of it."""
        return self.gateway.request_line(answer.one("x-request-id"))

    def events(self, event: str) -> list[dict[str, Any]]:
        """What the log says of this upstream, so far."""
        return [line for line in list(self.gateway.log) if line["event"] == event and line["upstream"] == self.name]

    def wait_for(self, event: str, within_s: float = 10.0) -> dict[str, Any]:
        return self.gateway.wait_for_log(
            lambda line: line["event"] == event and line["upstream"] == self.name, within_s
        )


class Stage:
    """All scenes of a file and the gateway before them."""

    def __init__(self, scenes: Mapping[str, Scene], *, cwd: Path, **settings: str) -> None:
        self.scenes = scenes
        self._cwd = cwd
        self._settings = {f"GATEWAY_{name}": text for name, text in settings.items()}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            environment = dict(self._settings)
            for name, scene in self.scenes.items():
                opening.callback(scene.close)
                environment |= scene.open(name)
            self.gateway = opening.enter_context(Gateway(environment, cwd=self._cwd))
            for scene in self.scenes.values():
                scene.gateway = self.gateway
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def __getitem__(self, name: str) -> Scene:
        return self.scenes[name]
