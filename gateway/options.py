"""What an option is."""

from collections.abc import Iterable
from typing import Any

from gateway.config.table import Option


def defaults_of(table: Iterable[Option]) -> dict[str, Any]:
    return {option.attribute: option.unit.parse(option.default) for option in table if option.default}
