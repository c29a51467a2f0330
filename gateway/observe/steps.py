"""Steps of a request that may take long (a queue, a store, a thread): a span for each, where spans are exported.

Whoever has such a step looks at `traced` first: where it is None nothing is measured, and nothing more is paid.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

# (name, attributes, what is awaited) -> the same, within a span; the worker's tracer sets it.
Traced = Callable[[str, Mapping[str, str], Awaitable[Any]], Awaitable[Any]]
traced: Traced | None = None
