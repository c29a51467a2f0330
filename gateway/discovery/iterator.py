"""Lists of base URLs from Python of a team's own: `async def odd(): ... yield ["http://10.0.0.7:8000"]`."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from gateway.discovery.answers import Answer, Away, Ended
from gateway.upstreams.places import Base, Instance, parse_place

# Called without arguments; its result is iterated over for as long as the worker runs.
MakeIterator = Callable[[], Any]


class PythonSource:
    """An async iterator; after a failure it is made anew."""

    def __init__(self, make: MakeIterator) -> None:
        self._make = make
        self._iterator: AsyncIterator[Any] | None = None

    async def ask(self, most_s: float | None) -> Answer:
        try:
            if self._iterator is None:
                self._iterator = aiter(self._make())
            found = await anext(self._iterator)
        except StopAsyncIteration:
            raise Ended from None
        except Exception as error:  # a team's own code may raise anything
            self._iterator = None
            raise Away(f"{type(error).__name__}: {error}"[:300]) from error
        return Answer(instances_of(found), 0.0)

    async def aclose(self) -> None:
        """Close the iterator, so that its `finally` runs."""
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()


def instances_of(found: object) -> tuple[Instance, ...]:
    """The instances from an iterator. Raises Away for anything but a list of base URLs."""
    if not isinstance(found, (list, tuple)):
        raise Away(f"it gave {type(found).__name__}, no list of base URLs")
    instances: list[Instance] = []
    for text in found:
        try:
            place = parse_place(text)
        except (ValueError, TypeError) as error:
            raise Away(f"item {len(instances) + 1} is no base URL: {error}") from error
        if not isinstance(place, Base):
            raise Away(f"item {len(instances) + 1} is a source of its own; expected a base URL")
        instances.append(Instance(replace(place, weight=None), weight=place.weight))
    return tuple(instances)
