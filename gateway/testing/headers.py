"""Header fields of a message, by their names in any case."""

from collections.abc import Iterable, Iterator, Mapping

from gateway.testing.wire import Pair


class Headers(Mapping[str, str]):
    """Values by name; lines with the same name are joined by a comma. `pairs` of the message has them as they came."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        found: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            found[key] = f"{found[key]}, {value}" if key in found else value
        self._found = found

    def __getitem__(self, name: str) -> str:
        return self._found[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._found

    def __repr__(self) -> str:
        return f"Headers({self._found})"
