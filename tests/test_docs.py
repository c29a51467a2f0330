"""What the pages say holds: links, variables, commands, and every recipe, which is run as a reader would run it.

A page is one shell, read from top to bottom. The word after a fence's language says what is done with the block:

    sh recipe       its lines are run, and its last one (`gateway serve`, `make run`) starts the gateway that the page
                    goes on with; what was exported stays exported
    python FILE     written to FILE, in the folder that the gateway is started in; so `toml FILE`, and the like
    console recipe  what stands after `$` is run, and prints what stands below
    sh              is not run; it is in NOT_RUN with the reason
    json log        a line of the gateway's log, laid out for reading
    text log        lines of the gateway's output

127.0.0.1:8000 is the gateway, 8080 its plain port beside TLS. On 9001 and 9002 listens demo.echo, on 9003 to 9005
demo.services, on 9009 nobody.
`...` stands for anything, and values that no two runs share (ids, times, versions) are compared by their shape.
"""

import ast
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from docs import reference
from docs.events import EVENTS
from gateway.config import environment, table
from gateway.options import Option, Refused
from tests.live.harness import PATIENCE_S, Gateway, Refuses, eventually, free_port, needs_curl
from tests.test_house import ROOMS

HOME = Path(__file__).resolve().parent.parent
DOCS = HOME / "docs"
PAGES = sorted([*HOME.glob("*.md"), *DOCS.glob("*.md")])
WRITTEN = [page for page in PAGES if page.name != "configuration.md"]

# Each `sh` block that no test runs as it stands, by its page and the beginning of its first line, and why.
NOT_RUN = {
    ("README.md", "docker run"): "a container; make image-test proves the image with these options",
    ("CONTRIBUTING.md", "make "): "the gate's own verbs: they would run this test",
    ("configuration.md", "export GATEWAY_UPSTREAM_USERS='http://users-1"): "a sample, with hosts that are nowhere",
    (
        "auth.md",
        "export GATEWAY_AUTH_TOKEN='jwt https",
    ): "an issuer that is nowhere; live/auth/test_provider.py has one",
    ("instances.md", "export GATEWAY_UPSTREAM_SCHOOL='srv+"): "a name server; live/discovery/test_srv.py has one",
    ("instances.md", "export GATEWAY_EUREKA_URL"): "a Eureka; live/discovery/test_registries.py has one",
    ("deploy.md", "docker run --rm -p"): "a container; make image-test proves the image with these options",
    ("deploy.md", "docker run --rm --env-file"): "a container; the same without one is the recipe below it",
    ("deploy.md", "docker compose"): "containers; test_deploy.py holds compose.yaml to the code",
    ("deploy.md", "kubectl"): "a cluster; test_deploy.py holds the manifest to the code",
    ("runbook.md", "grep "): "a log that is not here",
    ("operating.md", "export GATEWAY_REUSE_PORT"): "two gateways on one port; live/server/test_rolling.py does it",
    ("operating.md", "old=$(docker compose"): "containers; live/server/test_rolling.py does it without",
    ("performance.md", "make bench"): "takes minutes, and a quiet machine",
    ("proxying.md", "export GATEWAY_UPSTREAM_USERS=https"): "certificates; live/upstreams/test_tls.py has them",
    ("replicas.md", "export GATEWAY_DATABASE_URL"): "two servers; live/limits/test_replicas.py starts and stops them",
    ("replicas.md", "docker compose"): "containers; test_deploy.py holds compose.yaml to the code",
    ("rate-limits.md", "export GATEWAY_VALKEY_URL"): "a server; live/limits/test_store_away.py starts and stops it",
    ("python-routes.md", "export GATEWAY_MIDDLEWARE"): "a team's modules; live/routing/test_middleware.py has some",
    ("tls.md", "export GATEWAY_TRUSTED_PROXIES"): "a proxy in front; live/server/test_fronts.py starts each of them",
}

MISTAKES = {"GATEWAY_TIMEOUT": "30", "GATEWAY_WORKERS": "many"}  # shown for what is said of them

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
every_written_page = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)


@dataclass(frozen=True)
class Block:
    """A fenced block; `what` is all that stands after its fence."""

    what: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fences = re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    return [Block(fence[1].strip(), fence[2], text.count("\n", 0, fence.start()) + 1) for fence in fences]


def prose_of(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*\n(?:.*\n)*?```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)


# -- links ------------------------------------------------------------------------------------------------------------


LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^)\s]*)(?: [^)]*)?\)")  # of a picture, too: `!`, what it shows, where it is


def links_of(page: Path, pictures: bool = False) -> dict[str, str]:
    """Where the page's links lead, or its pictures lie, and what stands in their brackets."""
    found = LINK.findall(re.sub(r"`[^`]*`", "code", prose_of(page)))
    return {link: said for is_picture, said, link in found if bool(is_picture) is pictures}


def anchors_of(text: str) -> list[str]:
    """What GitHub makes of the headings: what is read of them in lower case, without punctuation, spaces as dashes;
    one that comes again is numbered."""
    anchors: list[str] = []
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)? *$", text, re.MULTILINE):
        read = LINK.sub(r"\2", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", read).replace(" ", "-")
        anchors.append(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return anchors


def dead(page: Path, link: str) -> str:
    """Why a link leads nowhere, or "". Of what lies outside of the project only the form is looked at."""
    if re.match(r"[a-z]+:", link):
        url = urlsplit(link)
        return "" if url.scheme == "https" and "." in (url.hostname or "") else "not an https address"
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if path.startswith("/") or not target.is_relative_to(HOME) or not target.exists():
        return f"there is no {path or 'such place'} in the project"
    if anchor and (target.suffix != ".md" or anchor not in anchors_of(prose_of(target))):
        return "no such heading"
    return "" if path or anchor else "it is empty"


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    links = [*links_of(page), *links_of(page, pictures=True)]
    assert {link: why for link in links if (why := dead(page, link))} == {}
    assert not re.search(r"^\[[^\]]+\]: |<(?:a|img) ", prose_of(page), re.MULTILINE), "links that this does not read"


@pytest.mark.parametrize(
    "link",
    [
        *("", "#", "gone.md", "cache.md#gone", "/docs/cache.md", "../../README.md", "../compose.yaml#gateway"),
        *("http://example.com/", "https://localhost/", "https:/example.com", "ftp://example.com", "mailto:a@b.com"),
    ],
)
def test_a_link_that_leads_nowhere_is_found_out(link: str) -> None:
    assert dead(DOCS / "fan-out.md", link)


@pytest.mark.parametrize("link", ["cache.md", "cache.md#purging", "#the-log", "../deploy/kubernetes.yaml", "../demo"])
def test_a_link_that_leads_somewhere_is_left_alone(link: str) -> None:
    assert not dead(DOCS / "fan-out.md", link)


def test_headings_become_anchors_as_on_the_code_host() -> None:
    text = "# `gateway` & co., 2nd_part\n## The [log](x.md): why?\n### Same\n### Same ###\n#not one\n### Öl -- same\n"
    assert anchors_of(text) == ["gateway--co-2nd_part", "the-log-why", "same", "same-1", "öl----same"]


def test_every_picture_is_shown_and_said_in_words() -> None:
    shown = {(page.parent / link).resolve(): said for page in PAGES for link, said in links_of(page, True).items()}
    assert shown.keys() == {*DOCS.glob("*.svg"), *DOCS.glob("*.png")}
    assert all(len(said) > 10 for said in shown.values())


def test_a_drawing_is_sound_and_loads_nothing() -> None:
    for path in DOCS.glob("*.svg"):
        parts = list(ElementTree.parse(path).iter())
        assert not {part.tag.rpartition("}")[2] for part in parts} & {"script", "image", "use", "foreignObject"}
        assert not re.search(r"url\((?!#)|@import|href", path.read_text(encoding="utf-8"))


def test_the_page_about_the_house_names_what_is_there() -> None:
    """Its files are there, and every room is drawn."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    files = set(re.findall(r"`(?:gateway/)?([a-z_/]+\.py)`", text))
    assert len(files) > 30
    assert {name for name in files if not (HOME / "gateway" / name).exists() and not (HOME / name).exists()} == set()
    drawn = {part.text for part in ElementTree.parse(DOCS / "rooms.svg").iter() if part.get("class") == "name"}
    assert set(ROOMS) <= drawn


def test_every_page_is_linked_from_the_index() -> None:
    index = HOME / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links_of(index)}
    assert set(PAGES) - {index} <= linked
    assert "docs/README.md" in links_of(HOME / "README.md")


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len((HOME / "README.md").read_text(encoding="utf-8").splitlines()) < 250


# -- figures ----------------------------------------------------------------------------------------------------------


def newest_run() -> dict[str, list[float]]:
    """By the first cell of a row, the numbers in its others, of the tables of the newest run."""
    text = (DOCS / "performance.md").read_text(encoding="utf-8")
    section = text.partition("### The newest run\n")[2].partition("\n### ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return {
        row[0].strip(): [float(number.replace(",", "")) for number in NUMBER.findall(" ".join(row[1:]))] for row in rows
    }


NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_CPU = 3  # the column of the first table, after requests/s, p50 and p99


def to_portway(label: str) -> Callable[[Mapping[str, list[float]]], float]:
    """The CPU of a request to that of Portway."""
    return lambda run: run[label][_CPU] / run["Portway"][_CPU]


def share(label: str, at: int = 0) -> Callable[[Mapping[str, list[float]]], float]:
    """What a ratio is above one, in percent."""
    return lambda run: 100 * (run[label][at] - 1)


_HIT, _OTHER_HITS = "a hit from memory, CPU to a bare hello", "nginx's and Varnish's hit, CPU to a bare hello"
_LIMIT = "limit in the memory of one worker; of two"
# Page, the sentence with a group for its number, and what it is by the table.
SENTENCES: list[tuple[str, str, Callable[[Mapping[str, list[float]]], float]]] = [
    ("README.md", r"small proxied request, nginx takes ([\d.]+),", to_portway("nginx")),
    ("README.md", r"HAProxy ([\d.]+), Envoy", to_portway("HAProxy")),
    ("README.md", r"Envoy ([\d.]+),\s", to_portway("Envoy")),
    ("README.md", r"http-proxy for Node ([\d.]+) ", to_portway("http-proxy")),
    ("README.md", r"@fastify/http-proxy ([\d.]+);", to_portway("@fastify/http-proxy")),
    ("README.md", r"from its cache for ([\d.]+)\s", lambda run: run[_OTHER_HITS][0] / run[_HIT][0]),
    ("README.md", r"with a shared session: (\d+\.\d)\.", to_portway("stock Django, shared session")),
    ("docs/deploy.md", r"about ([\d,]+) small requests a second", lambda run: run["Portway"][0]),
    ("docs/auth.md", r"small proxied request takes (\d+) us", lambda run: run["Portway"][_CPU] * 100),
    ("docs/auth.md", r"(\d+) % of a request's CPU", share("token seen before, CPU to nobody asked")),
    ("docs/rate-limits.md", r"(\d+) % of the CPU of a proxied request in the memory of one", share(_LIMIT)),
    ("docs/rate-limits.md", r"(\d+) % in that of two", share(_LIMIT, 2)),
    ("docs/rate-limits.md", r"(\d+) % with Valkey", share("limit in Valkey")),
]


@pytest.mark.parametrize(("page", "sentence", "by_table"), SENTENCES, ids=[sentence for _, sentence, _ in SENTENCES])
def test_a_figure_in_a_sentence_is_that_of_the_table(
    page: str, sentence: str, by_table: Callable[[Mapping[str, list[float]]], float]
) -> None:
    found = re.findall(sentence, (HOME / page).read_text(encoding="utf-8"))
    assert len(found) == 1, found
    measured, written = by_table(newest_run()), float(found[0].replace(",", ""))
    assert written == pytest.approx(measured, rel=0.05, abs=0.5 if "%" in sentence else 0.005), measured


# -- what is named exists ----------------------------------------------------------------------------------------------


@every_page
def test_no_page_names_a_folder_of_a_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"(?:^|[\s'\"`(=])/(?:home(?!/\{)|root|Users|work|tmp|opt)/\S*", text)
    assert found == []


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == reference.PAGES[name](), "run: python -m docs.reference"


# -- names ------------------------------------------------------------------------------------------------------------


def variables_of(page: Path) -> set[str]:
    """Every variable that a page names; `GATEWAY_UPSTREAM_*` and a family's `<NAME>` stand for any."""
    text = re.sub(r"<[A-Z]+>|\*", "X", page.read_text(encoding="utf-8"))
    return {name.rstrip("_") for name in re.findall(r"\bGATEWAY_[A-Z0-9_]+", text)} - {"GATEWAY"}


@every_written_page
def test_every_variable_named_can_be_set(page: Path) -> None:
    for variable in variables_of(page) - {"GATEWAY_X"} - MISTAKES.keys():  # `GATEWAY_*` is all of them
        environment.find(variable.removesuffix("_FILE").removesuffix("__X"))  # raises where there is none


def option_of_call(word: str) -> Option:
    """An option by its word alone, as pages write it: `__TIMEOUT`, `__HEADER_X_TENANT`, `__PART_X__TIMEOUT`."""
    part, _, of_part = word.partition("__")
    if of_part:
        table.lookup("route", part)
        return table.lookup("part", of_part)[0]
    for family in ("route", "upstream", "auth"):
        try:
            return table.lookup(family, word)[0]
        except Refused:
            continue
    return table.lookup("rate_limit", word)[0]


@every_written_page
def test_every_option_named_after_its_underscores_can_be_set(page: Path) -> None:
    for word in re.findall(r"`__([A-Z][A-Z_]*[A-Z])", page.read_text(encoding="utf-8")):
        option_of_call(word.removesuffix("_FILE"))  # raises where there is none


@pytest.mark.parametrize("word", ["PART_X__COLOUR", "PART_X__MERGE", "PART_FILE__TIMEOUT", "PRT_X__TIMEOUT", "COLOUR"])
def test_an_option_that_does_not_exist_is_found_out(word: str) -> None:
    with pytest.raises(Refused):
        option_of_call(word)


@every_written_page
def test_every_value_given_is_one(page: Path) -> None:
    given = re.findall(r"\b(GATEWAY_[A-Z0-9_]+)=('[^']*'|[^\s`;]+)", page.read_text(encoding="utf-8"))
    for variable, value in given:
        if not variable.endswith("_FILE") and MISTAKES.get(variable) != value:
            option = environment.find(variable).option
            assert (value == "-" and option.has_levels) or option.unit.parse(value.strip("'")) is not ...


@every_written_page
def test_every_default_named_is_the_default(page: Path) -> None:
    """`__RETRIES` (1), `GATEWAY_DRAIN` (8s; and why): what stands in brackets behind an option."""
    text = page.read_text(encoding="utf-8")
    for word, value in re.findall(r"`((?:__|GATEWAY_)[A-Z_]*[A-Z])`\s+\(`?(\d[\w%]*)`?[);,]", text):
        option = option_of_call(word[2:]) if word.startswith("__") else environment.find(word).option
        assert option.default == value, word


def test_the_page_of_events_and_the_code_say_the_same() -> None:
    """Each event that the gateway logs stands there with its levels and fields, and no other one does."""
    logged = [call for path in sorted((HOME / "gateway").rglob("*.py")) for call in events_of(path)]
    assert len(logged) > 60
    rows = {row.name: row for rows in EVENTS.values() for row in rows}
    assert sum(map(len, EVENTS.values())) == len(rows)
    assert {call.name for call in logged} | {"request"} == rows.keys()  # request_logger() writes that one
    for row in rows.values():
        calls = [call for call in logged if call.name == row.name]
        fields = {field for call in calls for field in call.fields}
        words = {word for call in calls if call.is_open for word in call.words}
        assert fields <= set(row.fields.split()) <= fields | words, row.name
        if {call.level for call in calls} - {""}:
            assert {call.level for call in calls} == set(row.levels.split()), row.name
    assert {level for row in rows.values() for level in row.levels.split()} <= {*LEVELS, "critical"}


LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Logged:
    """A call that logs: `is_open` if it hands on fields (**fields) that stand elsewhere in the file, among `words`."""

    name: str
    level: str
    fields: frozenset[str]
    is_open: bool
    words: frozenset[str]


def events_of(path: Path) -> Iterator[Logged]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    given: dict[str, ast.expr] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            given[node.targets[0].id] = node.value
    words = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    words |= {keyword.arg for node in nodes if isinstance(node, ast.Call) for keyword in node.keywords if keyword.arg}
    # A method that hands an event on adds fields of its own.
    by_helper = {
        keyword.arg
        for node in nodes
        if isinstance(node, ast.FunctionDef) and node.name == "_say" and "event" in {arg.arg for arg in node.args.args}
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg
    }
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        level, event, is_helped = logs(call)
        if event is None:
            continue
        names = list(texts_of(given.get(event.id, event) if isinstance(event, ast.Name) else event))
        assert names or is_inside_helper(event), f"{path}:{call.lineno}: this test cannot read the event's name"
        fields = {keyword.arg for keyword in call.keywords if keyword.arg and keyword.arg != "event"}
        if "exc_info" in fields:
            fields = fields - {"exc_info"} | {"exception"}
        if names == ["start"]:
            fields -= {"text"}  # on the console, in place of all others
        for name in names:
            yield Logged(
                name,
                level,
                frozenset(fields | (by_helper if is_helped else set())),
                any(keyword.arg is None for keyword in call.keywords),
                frozenset(words),
            )


def is_inside_helper(event: ast.expr) -> bool:
    return isinstance(event, ast.Name) and event.id == "event"


def logs(call: ast.Call) -> tuple[str, ast.expr | None, bool]:
    """The level and the expression of the event; whether by a `_say`. Else None."""
    function, arguments = ast.unparse(call.func), call.args
    receiver, _, method = function.rpartition(".")
    if receiver.rpartition(".")[2] in {"log", "_log"} and method in LEVELS and arguments:
        return method, arguments[0], False
    if method == "_say" and len(arguments) > 1 and isinstance(arguments[0], ast.Constant):
        return str(arguments[0].value), arguments[1], True
    if function == "write" and [keyword.arg for keyword in call.keywords][:1] == ["logger"]:  # of any level
        return "", arguments[0], False
    if function == "_rendered":
        event = next(keyword.value for keyword in call.keywords if keyword.arg == "event")
        return ast.literal_eval(arguments[1]), event, False
    if function.startswith("getattr(") and "log" in ast.unparse(call.func):
        assert ast.unparse(arguments[0]) == "event", ast.unparse(call)
    return "", None, False


def texts_of(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from texts_of(node.body)
        yield from texts_of(node.orelse)


@every_page
def test_every_command_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([a-z-]+):", (HOME / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = {path.stem for path in (HOME / "gateway/management/commands").glob("[a-z]*.py")} | {"version"}
    commands |= {"migrate", "makemigrations", "shell", "test", "runserver"}  # Django's own
    code = "\n".join([*(block.text for block in blocks_of(page)), *re.findall(r"`([^`\n]+)`", prose_of(page))])
    named_verbs = set(re.findall(r"(?:^|&& |\$ )make ([a-z-]+)", code, re.MULTILINE)) | set(
        re.findall(r"`make ([a-z-]+)", text)
    )
    assert named_verbs <= verbs
    named_commands = set(re.findall(r"(?:^|&& |\$ |bin/)gateway ([a-z]+)", code, re.MULTILINE))
    assert named_commands <= commands
    for module in re.findall(r"python3? -m ([a-z.]+)", code):
        path = HOME / module.replace(".", "/")
        if module.split(".")[0] in {"gateway", "demo", "bench"}:
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@every_page
def test_every_python_block_compiles(page: Path) -> None:
    for block in blocks_of(page):
        if block.what.split(" ")[0] == "python":
            ast.parse(block.text, f"{page.name}:{block.line}")


# -- shell ------------------------------------------------------------------------------------------------------------


def test_every_block_of_shell_is_run_or_says_why_not() -> None:
    told: Counter[tuple[str, str]] = Counter()
    for page in PAGES:
        for block in blocks_of(page):
            where = f"{page.name}:{block.line}"
            if block.what in {"sh", "bash", "shell", "console"}:
                reasons = [key for key in NOT_RUN if key[0] == page.name and block.text.startswith(key[1])]
                assert len(reasons) == 1, f"{where}: make it a recipe, or say in NOT_RUN why it is none"
                told[reasons[0]] += 1
            elif not block.what:
                assert not re.search(r"^(?:\$ )?(?:make|gateway|curl|docker) ", block.text, re.MULTILINE), where
    assert told == dict.fromkeys(NOT_RUN, 1)


@every_page
def test_the_shell_can_read_every_block_of_shell(page: Path) -> None:
    for block in blocks_of(page):
        if block.what in {"sh", "sh recipe"}:
            read = subprocess.run(["sh", "-n"], input=block.text, capture_output=True, text=True, check=False)
            assert read.returncode == 0, f"{page.name}:{block.line}: {read.stderr}"


# -- recipes ----------------------------------------------------------------------------------------------------------

STARTS = re.compile(r"^(?:exec )?(?:gateway serve((?: --env-file \S+)*)|make run)$", re.MULTILINE)
UNSTABLE = [
    (r"\b[0-9a-f]{32}\b", "ID"),
    (r"\b[0-9a-f]{16}\b", "SPAN"),
    (r"portway \([0-9a-f]{8}\)", "GATEWAY"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z?", "TIME"),
    (r"\b\d\d:\d\d:\d\d\.\d{3}\b", "CLOCK"),
    (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "DATE"),
    (r" +\d+\.\d ms\b", " MS"),
    (r'(ms": ?)[\d.]+', r"\1MS"),
    (r'(bytes_out": ?)\d+', r"\1N"),  # an answer that holds a port: ours may have more digits
    (r'(worker": ?)\d+', r"\1N"),
    (r"(?i)(content-length: )\d+", r"\1N"),
    (r"\b(curl|Python|aiohttp)/[\d.]+", r"\1/V"),
    (r"Portway \d+\.\d+\.\d+", "Portway V"),
]


def shape(text: str) -> str:
    for pattern, word in UNSTABLE:
        text = re.sub(pattern, word, text)
    return text.strip("\n")


def matches(actual: str, expected: str) -> bool:
    pattern = re.escape(shape(expected)).replace(r"\.\.\.", ".*")
    return re.fullmatch(pattern, shape(actual), re.DOTALL) is not None


@dataclass(frozen=True)
class Ports:
    """What a page calls 127.0.0.1:9001, and where it really is."""

    real: Mapping[str, int]

    def to_real(self, text: str) -> str:
        return re.sub(r"\b127\.0\.0\.1:(\d{4})\b", lambda found: f"127.0.0.1:{self.real[found[1]]}", text)

    def to_page(self, text: str) -> str:
        names = {str(port): name for name, port in self.real.items()}
        return re.sub(r"\b127\.0\.0\.1:(\d+)\b", lambda found: f"127.0.0.1:{names.get(found[1], found[1])}", text)


class Demo:
    """`python -m demo`, which `make run` starts when nothing is set, with what `Gateway` gives a page."""

    def __init__(self, port: int) -> None:
        self.output: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "demo"],
            cwd=HOME,
            env={**plain_environment(), "GATEWAY_BIND": f"127.0.0.1:{port}", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C ends"):
                break

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None
        self.output += self.process.stdout.read().splitlines()
        assert self.process.wait(PATIENCE_S) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def plain_environment() -> dict[str, str]:
    """This process's environment without the gateway's variables; its `gateway` and `python` come first."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(("GATEWAY_", "OTEL_"))
    }
    return {**inherited, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_PROXY": "127.0.0.1"}


class Reader:
    """Somebody who follows a page in one shell, in an empty folder."""

    def __init__(self, folder: Path, upstreams: Mapping[str, int]) -> None:
        self.folder = folder
        self.upstreams = upstreams
        self.exported: dict[str, str] = {}
        self.gateway: Gateway | Demo | None = None
        self.ports = Ports({**upstreams, "8000": 0, "8080": 0})
        (folder / ".curlrc").write_text("silent\nshow-error\nmax-time = 10\n", encoding="ascii")

    def follow(self, block: Block) -> None:
        kind, _, rest = block.what.partition(" ")
        if block.what == "sh recipe":
            self.start(block.text)
        elif block.what == "console recipe":
            self.run(block.text)
        elif block.what == "json log":
            self.find_json(block.text)
        elif block.what == "text log":
            self.find_text(block.text)
        elif "." in rest:
            (self.folder / rest).parent.mkdir(exist_ok=True)
            (self.folder / rest).write_text(block.text, encoding="utf-8")
        else:
            assert kind in {"", "sh", "python", "mermaid", "text", "json", "js", "yaml"}, (
                f"what is a block of {block.what!r}?"
            )

    def start(self, script: str) -> None:
        self.stop()
        assert STARTS.search(script), f"this does not start a gateway:\n{script}"
        port = free_port()
        self.ports = Ports({**self.upstreams, "8000": port, "8080": free_port()})
        export = self.folder / ".exported"
        self.shell(f"set -e\n{STARTS.sub('', script)}\nenv -0 > {export}")
        pairs = (pair.partition("=") for pair in export.read_text(encoding="utf-8").rstrip("\0").split("\0"))
        self.exported = {name: value for name, _, value in pairs if name.startswith(("GATEWAY_", "OTEL_"))}
        if not self.exported and "make run" in script:
            self.gateway = Demo(port)
            return
        speaks_tls = "GATEWAY_TLS_CERT_FILE" in self.exported
        tls = ssl.create_default_context(cafile=self.folder / "server.crt") if speaks_tls else None
        self.gateway = Gateway({**self.exported, "GATEWAY_BIND": f"127.0.0.1:{port}"}, cwd=self.folder, tls=tls)
        self.gateway.argv += [word for words in STARTS.findall(script) for word in words.split()]
        self.gateway.port = port
        self.gateway.start()

    def stop(self) -> None:
        gateway, self.gateway = self.gateway, None
        if gateway is not None:
            try:
                gateway.stop()
            finally:
                gateway.kill()

    def shell(self, script: str) -> str:
        """What the script prints, on both streams, in the page's words."""
        return self.ports.to_page(
            subprocess.run(
                ["sh", "-c", self.ports.to_real(script)],
                cwd=self.folder,
                env={**plain_environment(), "HOME": str(self.folder), "CURL_HOME": str(self.folder), **self.exported},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=60,
                check=False,
            ).stdout
        )

    def run(self, session: str) -> None:
        for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            last = next(number for number, line in enumerate(lines) if not line.endswith("\\"))
            command, expected = "\n".join(lines[: last + 1]), "\n".join(lines[last + 1 :])
            printed = self.shell(command)
            assert matches(printed, expected), f"$ {command}\n{printed}\n-- the page says\n{expected}"

    def find_json(self, text: str) -> None:
        expected = json.dumps(json.loads(text))

        def found() -> bool:
            assert isinstance(self.gateway, Gateway)
            return any(matches(self.ports.to_page(json.dumps(line)), expected) for line in self.gateway.log)

        self.wait(found, expected)

    def find_text(self, text: str) -> None:
        def found() -> bool:
            assert self.gateway is not None
            return matches(self.ports.to_page("\n".join(self.gateway.output)), f"...{text.strip()}...")

        self.wait(found, text)

    def wait(self, found: Callable[[], bool], expected: str) -> None:
        assert self.gateway is not None
        try:
            eventually(found, 3)
        except AssertionError:
            heard = self.ports.to_page("\n".join(self.gateway.output))
            raise AssertionError(f"not in the log:\n{expected}\n-- but\n{heard}") from None


@pytest.fixture(scope="module")
def upstreams() -> Iterator[Mapping[str, int]]:
    """demo.echo on two ports, demo.services on three, and one that refuses."""
    names = ("9001", "9002", "9003", "9004", "9005")
    ports = dict(zip(names, sorted(free_port() for _ in names), strict=True))
    real = [str(port) for port in ports.values()]
    refuses = Refuses()
    try:
        with demo("echo", real[:2], "Echo on "), demo("services", real[2:], "users on "):
            yield {**ports, "9009": refuses.port}
    finally:
        refuses.close()


@contextmanager
def demo(module: str, ports: list[str], says: str) -> Iterator[None]:
    """`python -m demo.<module>`, from its first line on."""
    command = [sys.executable, "-m", f"demo.{module}", *ports]
    with subprocess.Popen(command, cwd=HOME, env=plain_environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(says)
            yield
        finally:
            process.terminate()


RECIPES = [page for page in WRITTEN if any("recipe" in block.what for block in blocks_of(page))]


@needs_curl
@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.name)
def test_every_recipe_does_what_its_page_says(page: Path, tmp_path: Path, upstreams: Mapping[str, int]) -> None:
    reader = Reader(tmp_path, upstreams)
    try:
        for block in blocks_of(page):
            try:
                reader.follow(block)
            except (AssertionError, ValueError, OSError, subprocess.SubprocessError) as error:
                raise AssertionError(f"{page.name}:{block.line}: {error}") from error
        reader.stop()
    finally:
        if reader.gateway is not None:
            reader.gateway.kill()


def test_every_page_about_a_capability_has_a_recipe() -> None:
    about_the_house = {
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "architecture.md",
        "cache-rfc.md",
        "configuration.md",
        "performance.md",
        "runbook.md",  # what to do, not how to set up; dashboards.md has the recipe
        "replicas.md",  # of several gateways and two servers; tests start them
    }
    assert {page.name for page in PAGES} - about_the_house == {page.name for page in RECIPES}
