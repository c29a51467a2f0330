"""Steps of a request that may take long (a queue, a store, a thread): a span for each, where spans are exported.

Code with such a step looks at `traced` first: where it is None nothing is measured, and there is no further cost.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

# (name, attributes, awaitable) -> the same awaitable within a span; the worker's tracer sets it.
Traced = Callable[[str, Mapping[str, str], Awaitable[Any]], Awaitable[Any]]
traced: Traced | None = None
