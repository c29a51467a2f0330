"""Builds the image and proves it by running it: `make image-test`. Standard library only.

It runs as a careful platform would run it: read-only root with nothing writable, no capability, not root, 256 MiB.
Every check is one line with its time. Exit code 0 if all hold, 1 if one does not, 3 if no image can be run here.

From outside: as for image.sh. Where the registry of the base image does not answer, base.sh makes a stand-in, and the
image is called portway-test, so that nobody ships it.
"""

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

HOME = Path(__file__).resolve().parent.parent
BASE = "docker.io/library/python:3.13-slim"
STAND_IN = "localhost/portway-base:trixie"
# Django 41, granian 22, psycopg with libpq 17, cryptography 16, uvloop 14, zstandard 12, OpenTelemetry 9, others small.
MAX_MB_OVER_BASE = 155
MEMORY_BYTES = 256 * 2**20
PATIENCE_S = 20.0
HARD = (
    *("--network", "host", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"),
    *("--memory", str(MEMORY_BYTES), "--memory-swap", str(MEMORY_BYTES), "--pids-limit", "64"),
)
# What a process in the container sees of its own confinement.
CONFINED = """
import json, os
def text(*paths):
    for path in paths:
        if os.path.exists(path):
            with open(path) as file:
                return file.read().strip()
def writable(folder):
    try:
        open(folder + "/x", "w").close()
    except OSError:
        return False
    return True
status = dict(line.split(":\\t", 1) for line in text("/proc/self/status").splitlines())
cgroup, old = "/sys/fs/cgroup/memory.", "/sys/fs/cgroup/memory/memory."
memory = dict(line.split() for line in text(cgroup + "stat", old + "stat").splitlines())
print(json.dumps({
    "uid": os.getuid(), "capabilities": status["CapEff"] + status["CapBnd"],
    "new_privileges": status["NoNewPrivs"] == "0",
    "writable": [f for f in ("/", "/srv", "/opt/portway", "/tmp", "/run", "/var/lib/portway") if writable(f)],
    "limit": int(text(cgroup + "max", old + "limit_in_bytes") or 0),
    "used": int(memory.get("anon") or memory["rss"]),  # without the files that were read
}))
"""
INSTALLED = """
import importlib.metadata, json
found = importlib.metadata.distributions()
print(json.dumps({one.metadata["name"].lower().replace("_", "-"): one.version for one in found}))
"""
OF_THE_BUILD = """
import glob
print(*glob.glob("/run/secrets/*"), *glob.glob("/etc/pip.conf"), *glob.glob("/opt/venv/pip.conf"))
"""
OWN_ROUTES = """
from django.http import HttpResponse
from gateway.routing import from_environment, route
from helper import GREETING

async def hello(request):
    return HttpResponse(GREETING)

urlpatterns = [*from_environment(), route("GET /hello", hello)]
"""


class Failed(Exception):
    """What a check found instead of what it asked for."""


class Unable(Exception):
    """Why no image can be built or run on this machine."""


# -- the engine -------------------------------------------------------------------------------------------------------


def command(*words: str, timeout_s: float = 60.0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run to the end, stdin closed; the output of both streams in `stdout`."""
    try:
        return subprocess.run(
            words,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, f"{words[0]} took longer than {timeout_s:.0f} s")


def chosen_engine() -> str:
    for name in filter(None, (os.environ.get("ENGINE"), "podman", "docker")):
        if shutil.which(name) and command(name, "info").returncode == 0:
            return name
    raise Unable("neither podman nor docker works here; on Debian and Ubuntu: apt install podman")


def starts(engine: str, base: str, folder: Path) -> None:
    """Raises Unable where no container starts. What podman asks for by default is more than some machines grant."""

    def trial() -> subprocess.CompletedProcess[str]:
        return command(engine, "run", "--rm", *HARD, base, "python3", "-c", "")

    tried = trial()
    if tried.returncode != 0 and Path(engine).name == "podman" and "CONTAINERS_CONF" not in os.environ:
        limits = [f"{name}={most}:{most}" for name, most in (("nofile", most_files()), ("nproc", 4096))]
        runtime = next((name for name in ("runc", "crun") if shutil.which(name)), "crun")
        conf = folder / "containers.conf"
        conf.write_text(
            f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n"
            f'[engine]\nruntime = "{runtime}"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n',
            encoding="utf-8",
        )
        os.environ |= {"CONTAINERS_CONF": str(conf), "DISABLE_HC_SYSTEMD": "true"}
        tried = trial()
    if tried.returncode != 0:
        raise Unable(f"{engine} starts no container: {last_line(tried.stdout)}")


def most_files() -> int:
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65536)


def chosen_base(engine: str) -> tuple[str, str]:
    """The base image to build on, and what the built one is called."""
    name = os.environ.get("IMAGE", "portway")
    if base := os.environ.get("BASE_IMAGE"):
        return base, name
    if command(engine, "image", "inspect", BASE).returncode == 0 or command(engine, "pull", BASE).returncode == 0:
        return BASE, name
    if command(engine, "image", "inspect", STAND_IN).returncode != 0:
        made = command(str(HOME / "deploy/base.sh"), STAND_IN, timeout_s=600, ENGINE=engine)
        if made.returncode != 0:
            raise Unable(f"{BASE} cannot be pulled, and no stand-in be made: {last_line(made.stdout)}")
    print(f"The registry does not answer: on a stand-in for {BASE}, made of Debian's packages.")
    return STAND_IN, "portway-test"


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no word"


# -- what stands around it --------------------------------------------------------------------------------------------


class Upstream(ThreadingHTTPServer):
    """Answers with the path that it was asked for; `/slow` only once it is let go."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked, self.let_go = threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Upstream

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.server.asked.set()
            self.server.let_go.wait(PATIENCE_S)
        body = f"upstream saw {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nobody reads it."""


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body; (0, why) where nobody answers."""
    return whole(port, path)[:2]


def whole(port: int, path: str) -> tuple[int, str, str]:
    """Status, body, and what the cache says."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path, headers={"Host": "gateway.test"})  # it is in the cache's key, the port with it
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.getheader("Cache-Status", "")
    except (OSError, HTTPException) as error:
        return 0, str(error), ""
    finally:
        connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def eventually(holds: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > ends:
            raise Failed(f"not within {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.05)


# -- the proof --------------------------------------------------------------------------------------------------------


class Proof:
    """One image under test, and what the checks share."""

    def __init__(self, engine: str, base: str, image: str, folder: Path, stack: ExitStack) -> None:
        self.engine, self.base, self.image = engine, base, image
        self.folder, self.stack = folder, stack
        self.failures = 0
        self.count = 0
        self.upstream = Upstream()
        self.environment = {
            "GATEWAY_UPSTREAM_USERS": self.upstream.url,
            "GATEWAY_ROUTE_USERS": "/users/** -> users",
            "GATEWAY_ROUTE_SLOW": "/slow -> users",
            "GATEWAY_ROUTE_KEPT": "/kept/** -> users",
            "GATEWAY_ROUTE_KEPT__CACHE": "10m",
        }
        # podman makes /tmp and /run writable of its own accord, docker does not: nothing may need that.
        self.hard = (*HARD, "--read-only-tmpfs=false") if Path(engine).name == "podman" else HARD

    @contextmanager
    def check(self, what: str) -> Iterator[list[str]]:
        """One line of the report: what is checked in the block, and what it found worth saying."""
        began, detail, word = time.monotonic(), list[str](), "ok"
        self.count += 1
        try:
            yield detail
        except Failed as error:
            self.failures += 1
            word, detail = "FAIL", [str(error)]
        took = f"{time.monotonic() - began:.1f} s"
        print(f"{word:<4}  {took:>7}  {what:<52}  {', '.join(detail)}".rstrip(), flush=True)

    def run(
        self, *arguments: str, environment: Mapping[str, str] = {}, options: tuple[str, ...] = ()
    ) -> tuple[int, str]:
        """A container to its end, as hard as all of them: exit code and output."""
        done = command(
            *(self.engine, "run", "--rm", *self.hard, *options),
            *(word for name, value in environment.items() for word in ("--env", f"{name}={value}")),
            *(self.image, *arguments),
        )
        return done.returncode, done.stdout

    def python(self, script: str, *options: str) -> str:
        code, output = self.run("-I", "-c", script, options=(*options, "--entrypoint", "python3"))
        if code != 0:
            raise Failed(last_line(output))
        return output

    def inspect(self, name: str, field: str) -> str:
        return command(self.engine, "inspect", name, "--format", f"{{{{{field}}}}}").stdout.strip()

    @contextmanager
    def serving(self, *options: str) -> Iterator[tuple[str, int]]:
        """A container that serves, from its first ready answer on: its name and port."""
        port = free_port()
        name = f"portway-test-{os.getpid()}-{port}"
        environment = {**self.environment, "GATEWAY_BIND": f"127.0.0.1:{port}"}
        words = [word for variable, value in environment.items() for word in ("--env", f"{variable}={value}")]
        started = command(self.engine, "run", "--detach", "--name", name, *self.hard, *options, *words, self.image)
        try:
            if started.returncode != 0:
                raise Failed(last_line(started.stdout))
            eventually(lambda: get(port, "/-/ready")[0] == 200, "ready")
            yield name, port
        finally:
            command(self.engine, "rm", "--force", name)


def prove(proof: Proof) -> None:
    size_and_labels(proof)
    serving(proof)
    state(proof)
    configuration(proof)


def size_and_labels(proof: Proof) -> None:
    with proof.check(f"at most {MAX_MB_OVER_BASE} MB over its base") as detail:
        whole, below = (int(proof.inspect(name, ".Size")) / 1e6 for name in (proof.image, proof.base))
        detail.append(f"{whole - below:.0f} MB of {whole:.0f} MB")
        if whole - below > MAX_MB_OVER_BASE:
            raise Failed(detail[0])
    with proof.check("labels say what it is") as detail:
        labels = json.loads(proof.inspect(proof.image, "json .Config.Labels"))
        names = ("title", "description", "licenses", "version")
        missing = [name for name in names if not labels.get(f"org.opencontainers.image.{name}")]
        detail += [labels.get("org.opencontainers.image.version", ""), *(f"no {name}" for name in missing)]
        if missing:
            raise Failed(", ".join(detail))
    with proof.check("holds what the lock says, and nothing else") as detail:
        lock = (HOME / "requirements.lock").read_text(encoding="utf-8")
        locked = {one[1]: (one[2], one[3]) for one in re.finditer(r"^([a-z0-9-]+)\S*==(\S+)( ;)?", lock, re.MULTILINE)}
        found: dict[str, str] = json.loads(proof.python(INSTALLED))
        found.pop("portway", None)
        wrong = [f"{name} {version}" for name, version in found.items() if locked.get(name, ("",))[0] != version]
        tools = {"flit-core"}  # it made the install, and is gone
        wrong += [f"no {name}" for name, (_, marked) in locked.items() if not marked and name not in {*found, *tools}]
        detail.append(f"{len(found)} packages")
        if wrong:
            raise Failed(", ".join(wrong))
    with proof.check("no trace of the build's package index or secrets"):
        left = proof.python(OF_THE_BUILD)
        if left.strip():
            raise Failed(left.strip())


def serving(proof: Proof) -> None:
    with ExitStack() as held:
        name, port = "", 0
        with proof.check("starts, and is ready"):
            name, port = held.enter_context(proof.serving())
        if not name:
            return
        with proof.check("a proxied answer through it"):
            answer = get(port, "/users/7?full=1")
            if answer != (200, "upstream saw /users/7?full=1"):
                raise Failed(str(answer))
        with proof.check("read-only, no capability, not root, 256 MiB") as detail:
            said = command(proof.engine, "exec", name, "python3", "-I", "-c", CONFINED)
            if said.returncode != 0:
                raise Failed(last_line(said.stdout))
            seen: dict[str, Any] = json.loads(said.stdout)
            detail += [f"uid {seen['uid']}", f"{seen.pop('used') / 2**20:.0f} MiB taken"]
            expected = {"uid": 10001, "capabilities": "0" * 32, "new_privileges": False, "writable": []}
            if seen != {**expected, "limit": MEMORY_BYTES}:
                raise Failed(json.dumps(seen))
        with proof.check("the image's own health check says healthy"):
            healthy(proof, name)
        with proof.check("SIGTERM with a request in flight: answered, exit 0") as detail:
            detail.append(stopped_in_flight(proof, name, port))


def healthy(proof: Proof, name: str) -> None:
    if Path(proof.engine).name == "podman":  # its timers need systemd, so it is asked
        asked = command(proof.engine, "healthcheck", "run", name)
        if asked.returncode != 0:
            raise Failed(last_line(asked.stdout))
    eventually(lambda: proof.inspect(name, ".State.Health.Status") == "healthy", "healthy")


def stopped_in_flight(proof: Proof, name: str, port: int) -> str:
    """The time from the signal to the end, in words."""
    answers: list[tuple[int, str]] = []
    client = threading.Thread(target=lambda: answers.append(get(port, "/slow")), daemon=True)
    client.start()
    if not proof.upstream.asked.wait(PATIENCE_S):
        raise Failed("the request did not reach the upstream")
    began = time.monotonic()
    stop = subprocess.Popen((proof.engine, "stop", "-t", "15", name), stdout=subprocess.DEVNULL)
    eventually(lambda: get(port, "/-/live")[0] == 0, "the port closed")  # while the request is still open
    proof.upstream.let_go.set()
    client.join(PATIENCE_S)
    stop.wait(PATIENCE_S)
    code = proof.inspect(name, ".State.ExitCode")
    if answers != [(200, "upstream saw /slow")] or code != "0":
        raise Failed(f"answer {answers}, exit code {code}")
    return f"gone {time.monotonic() - began:.1f} s after the signal"


def state(proof: Proof) -> None:
    """The cache in the database is the state; a read-only root without a volume must not hinder a gateway."""
    volume = f"portway-test-{os.getpid()}"
    command(proof.engine, "volume", "create", volume)
    proof.stack.callback(command, proof.engine, "volume", "rm", "--force", volume)
    with proof.check("state on a volume outlives its container") as detail:
        said = []
        for _ in range(2):
            with proof.serving("--volume", f"{volume}:/var/lib/portway") as (name, port):
                said.append(whole(port, "/kept/1"))
                command(proof.engine, "stop", "-t", "15", name)
        detail.append(said[1][2])
        if [answer[:2] for answer in said] != [(200, "upstream saw /kept/1")] * 2 or "hit" not in said[1][2]:
            raise Failed(str(said))
    with proof.check("without a volume too it caches, in memory") as detail, proof.serving() as (_, port):
        said = [whole(port, "/kept/2") for _ in range(2)]
        detail.append(said[1][2])
        if [answer[:2] for answer in said] != [(200, "upstream saw /kept/2")] * 2 or "hit" not in said[1][2]:
            raise Failed(str(said))


def configuration(proof: Proof) -> None:
    with proof.check("a bad environment: exit 2, and all problems"):
        code, output = proof.run(environment={"GATEWAY_UPSTREM_USERS": "http://users:8000", "GATEWAY_WORKERS": "many"})
        if code != 2 or "did you mean GATEWAY_UPSTREAM_USERS?" not in output or "from 1 to 256" not in output:
            raise Failed(f"exit code {code}: {output.strip()[:200]}")
    folder = proof.folder / "srv"
    folder.mkdir()
    (folder / "routes.py").write_text(OWN_ROUTES, encoding="utf-8")
    (folder / "helper.py").write_text("GREETING = 'hello from the mounted routes.py'\n", encoding="utf-8")
    (folder / "settings.py").write_text("raise SystemExit('not these settings')\n", encoding="utf-8")
    with (
        proof.check("your own routes.py, and what it imports, in /srv"),
        proof.serving("--volume", f"{folder}:/srv:ro") as (_, port),
    ):
        answers = get(port, "/hello"), get(port, "/users/1")
        if answers != ((200, "hello from the mounted routes.py"), (200, "upstream saw /users/1")):
            raise Failed(str(answers))


def unable(why: str) -> NoReturn:
    print(f"image-test: could not be run here: {why}", file=sys.stderr)
    sys.exit(3)


def main() -> int:
    began = time.monotonic()
    with ExitStack() as stack:
        engine = chosen_engine()
        base, image = chosen_base(engine)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portway-")))
        folder.chmod(0o755)  # what is mounted is read by another user
        starts(engine, base, folder)
        proof = Proof(engine, base, image, folder, stack)
        with proof.check("the Containerfile builds") as detail:
            made = command(
                str(HOME / "deploy/image.sh"),
                timeout_s=900,
                ENGINE=engine,
                BASE_IMAGE=base,
                IMAGE=image,
                PYTHON=sys.executable,
            )
            detail.append(last_line(made.stdout).removeprefix("image: "))
            if made.returncode != 0:
                raise Failed("\n" + "\n".join(made.stdout.splitlines()[-20:]))
        if not proof.failures:
            prove(proof)
    print(f"All of it took {time.monotonic() - began:.0f} s.")
    print(f"{proof.count - proof.failures} passed, {proof.failures} failed")
    return 1 if proof.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unable as error:
        unable(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
