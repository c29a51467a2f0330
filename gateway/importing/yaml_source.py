"""YAML as nodes: aliases and merge keys resolved, within bounds."""

from collections.abc import Iterator

from gateway.importing.source import MAX_DEPTH, MAX_VALUES, Node, Scalar, SourceError, member_path


def read_yaml(text: str) -> list[Node]:
    """The documents of a YAML file. Raises SourceError."""
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise SourceError("YAML is read by an extra that is not installed: pip install '.[import]'") from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        documents = list(yaml.compose_all(text, Loader=loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise SourceError(f"{where}this is not YAML: {getattr(error, 'problem', None) or error}") from error
    except RecursionError as error:
        raise SourceError(f"nested more than {MAX_DEPTH} deep") from error
    reader = _Reader()
    return [reader.node(document, "", ()) for document in documents]


class _Reader:
    def __init__(self) -> None:
        self._count = 0

    def node(self, found: object, path: str, above: tuple[int, ...]) -> Node:
        import yaml

        assert isinstance(found, yaml.Node)  # noqa: S101 - what `compose_all` gives
        line = found.start_mark.line + 1
        self._count += 1
        if self._count > MAX_VALUES:
            raise SourceError(f"line {line}: more than {MAX_VALUES} values, aliases counted")
        if id(found) in above:
            raise SourceError(f"line {line}: {path or 'the document'} refers to itself")
        if len(above) > MAX_DEPTH:
            raise SourceError(f"line {line}: nested more than {MAX_DEPTH} deep")
        above = (*above, id(found))
        if isinstance(found, yaml.MappingNode):
            return Node(dict(self._members(found, path, above)), line, path)
        if isinstance(found, yaml.SequenceNode):
            items = [self.node(item, member_path(path, number), above) for number, item in enumerate(found.value)]
            return Node(items, line, path)
        return Node(_scalar(found.tag, str(found.value)), line, path)

    def _members(self, found: object, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, Node]]:
        import yaml

        assert isinstance(found, yaml.MappingNode)  # noqa: S101 - by its caller
        own: dict[str, Node] = {}
        for key, value in found.value:
            if key.tag == "tag:yaml.org,2002:merge":
                merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for one in merged:
                    for name, node in self.node(one, path, above).members().items():
                        own.setdefault(name, node)
            else:
                own[str(key.value)] = self.node(value, member_path(path, str(key.value)), above)
        yield from own.items()


def _scalar(tag: str, text: str) -> Scalar:
    kind = tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in {"true", "yes", "on"}
    if kind == "int" and text.lstrip("-").isdecimal() and len(text) < 20:
        return int(text)
    return text
