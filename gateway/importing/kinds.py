"""The gateway that a file is for, and the whole import: from a text to an environment and what it could not express."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.importing import kong, krakend, nginx, ocelot, spring, traefik
from gateway.importing.draft import Draft, IsThere
from gateway.importing.nginx_syntax import read_nginx
from gateway.importing.source import MAX_BYTES, Node, SourceError, read_json
from gateway.importing.yaml_source import read_yaml


@dataclass(frozen=True, slots=True)
class Kind:
    """A product: its word for `--from`, how its files are recognised, and their reader."""

    word: str
    product: str
    is_it: Callable[[Node], bool]
    read: Callable[[Node, Draft], None]


KINDS = (
    Kind("krakend", "KrakenD", krakend.is_krakend, krakend.read),
    Kind("kong", "Kong", kong.is_kong, kong.read),
    Kind("ocelot", "Ocelot", ocelot.is_ocelot, ocelot.read),
    Kind("spring", "Spring Cloud Gateway", spring.is_spring, spring.read),
    Kind("traefik", "Traefik", traefik.is_traefik, traefik.read),
)
NGINX = "nginx"
WORDS = (*(kind.word for kind in KINDS), NGINX)


@dataclass(frozen=True, slots=True)
class Imported:
    """A finished import."""

    product: str
    draft: Draft


def _nothing_is_there(path: str, is_folder: bool) -> bool:
    return False


def import_text(text: str, name: str, word: str = "", is_there: IsThere = _nothing_is_there) -> Imported:
    """Read a file of that name; `word` is the kind, empty to recognise it by the content. Raises SourceError.

    `is_there` returns whether there is a folder, or a file, at that path here, to be served.
    """
    if len(text) > MAX_BYTES:
        raise SourceError(f"larger than {MAX_BYTES // 2**20} MiB")
    draft = Draft()
    if word == NGINX or (not word and nginx.is_nginx(text)):
        product, block = "nginx", read_nginx(text)
        nginx.read(block, draft)
        draft.finish([block.node], is_there)
    else:
        documents = _documents(text, name)
        kind, root = _kind_of(documents, word)
        product = kind.product
        kind.read(root, draft)
        draft.finish(documents, is_there)
    if not draft.has_routes:
        reasons = "".join(f"\n{one}" for one in draft.left[:10])
        raise SourceError(f"no route of this {product} configuration can be said{reasons}")
    return Imported(product, draft)


def _documents(text: str, name: str) -> Sequence[Node]:
    if name.endswith(".json") or text.lstrip("\ufeff \t\r\n").startswith(("{", "//", "/*")):
        return [read_json(text)]
    return read_yaml(text)


def _kind_of(documents: Sequence[Node], word: str) -> tuple[Kind, Node]:
    for kind in KINDS:
        if word and kind.word != word:
            continue
        for document in documents:
            if word or kind.is_it(document):
                return kind, document
    raise SourceError(f"not recognised; say what it is by --from: {', '.join(WORDS)}")
