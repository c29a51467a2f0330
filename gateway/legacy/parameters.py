"""Path values converted by the type hints of a function: with `id: int`, `7` becomes a number and `seven` is refused.

One mechanism for views, fan-outs and legacy functions. `msgspec.convert` converts a text to int, float, bool, Decimal,
UUID, date, time, datetime, timedelta, Enum, Literal, unions of them, `Annotated` with a `msgspec.Meta`.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, get_type_hints

import msgspec
import msgspec.inspect as kinds

from gateway.errors import GatewayError, Reason

_OF_TEXT = (
    *(kinds.AnyType, kinds.BoolType, kinds.IntType, kinds.FloatType, kinds.StrType, kinds.DecimalType, kinds.UUIDType),
    *(kinds.DateType, kinds.TimeType, kinds.DateTimeType, kinds.TimeDeltaType, kinds.EnumType, kinds.LiteralType),
)


# `1e2` and `7.0` are no whole numbers, although msgspec makes an int of them: they would be other spellings of a path.
_FRACTION = frozenset(".eE")


class NoSuchValue(ValueError):
    """A value that does not fit the type of its parameter; `name` is the parameter's."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def not_found(error: NoSuchValue) -> GatewayError:
    """The 404 for a path with such a value."""
    return GatewayError(Reason.VIEW_NOT_FOUND, f"The path parameter {error.name} is not of its type.")


class Parameters:
    """The types of a function's parameters, by its hints; those with `str`, or without a hint, are left alone."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._types: dict[str, Any] = {}
        self._whole: set[str] = set()  # parameters that take whole numbers
        self._problems: dict[str, str] = {}  # problems of hints that cannot be evaluated, or that msgspec does not know
        for name, hint in _hints(function):
            try:
                kind = _read(function, name, hint)
                is_known = _is_known(kinds.type_info(kind))
            except Exception as error:  # noqa: BLE001 - a hint may be any expression
                self._problems[name] = f"{type(error).__name__}: {error}"
                continue
            if not is_known:
                self._problems[name] = f"no text becomes a {getattr(kind, '__name__', kind)}"
            elif not any(kind is one for one in (str, Any, object)):  # not every hint can be hashed
                self._types[name] = kind
                if _is_whole(kinds.type_info(kind)):
                    self._whole.add(name)

    def converted(self, values: Mapping[str, Any], *, texts_only: bool = False) -> dict[str, Any]:
        """The values, each converted to its parameter's type; with `texts_only` only texts are. Raises NoSuchValue."""
        found = dict(values)
        for name, kind in self._types.items():
            if name in found and (isinstance(found[name], str) or not texts_only):
                value = found[name]
                try:
                    found[name] = msgspec.convert(value, kind, strict=not isinstance(value, str))
                except (msgspec.ValidationError, OverflowError):
                    raise NoSuchValue(name) from None
                if name in self._whole and not _FRACTION.isdisjoint(str(value)):
                    raise NoSuchValue(name)
        return found

    def __bool__(self) -> bool:
        """Whether any parameter has a type to convert to."""
        return bool(self._types)

    def problem(self, name: str) -> str | None:
        """Why the hint of a parameter cannot convert a text of a path; None if it can, or there is no hint."""
        if name in self._problems:
            return self._problems[name]
        kind = self._types.get(name)
        if kind is None or _takes_text(kinds.type_info(kind)):
            return None
        return f"no text becomes a {getattr(kind, '__name__', kind)}"


def methods_of(view: Callable[..., Any]) -> dict[str, Callable[..., Any]] | None:
    """The functions of a class-based view, by the methods that they answer; None for any other view."""
    kind = getattr(view, "view_class", None)
    if kind is None:
        return None
    names = {name.upper(): getattr(kind, name, None) for name in kind.http_method_names}
    found = {name: method for name, method in names.items() if callable(method)}
    return {"HEAD": found["GET"], **found} if "GET" in found else found


def _is_known(kind: kinds.Type) -> bool:
    """Whether msgspec converts to it. It describes an Enum with a metaclass of its own, such as Django's TextChoices,
    as a custom type, but converts to it as to any other."""
    return not isinstance(kind, kinds.CustomType) or issubclass(kind.cls, Enum)


def _takes_text(kind: kinds.Type) -> bool:
    if isinstance(kind, kinds.CustomType):
        return _is_known(kind)
    if isinstance(kind, kinds.Metadata):
        return _takes_text(kind.type)
    if isinstance(kind, kinds.UnionType):
        return any(_takes_text(one) for one in kind.types)
    return isinstance(kind, _OF_TEXT)


def _is_whole(kind: kinds.Type) -> bool:
    """Whether a value of this type that is a number is an int."""
    if isinstance(kind, kinds.Metadata):
        return _is_whole(kind.type)
    if isinstance(kind, kinds.UnionType):
        return all(isinstance(one, kinds.NoneType) or _is_whole(one) for one in kind.types)
    return isinstance(kind, kinds.IntType)


def _hints(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """The parameters that may be given by name, with their hints as written."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # functions in C may have no signature
        return
    for name, one in signature.parameters.items():
        is_named = one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY} and name not in {"self", "request"}
        if is_named and one.annotation is not one.empty:
            yield name, one.annotation


def _read(function: Callable[..., Any], name: str, hint: Any) -> Any:
    """One hint, evaluated by itself: others beside it may only work in a type checker."""
    inner = inspect.unwrap(function)
    inner = getattr(inner, "func", inner)  # a partial
    inner = inner if hasattr(inner, "__globals__") else getattr(inner, "__call__", inner)  # noqa: B004 - the method
    scope = getattr(inner, "__globals__", None) or getattr(getattr(inner, "__func__", None), "__globals__", {})
    holder = type("_", (), {"__annotations__": {name: hint}})
    return get_type_hints(holder, globalns=scope, include_extras=True)[name]
