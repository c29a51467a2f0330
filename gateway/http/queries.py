"""Queries of targets: the client's parameters that go up beside the target's own, and how a query is shown.

A query is text of ASCII without its question mark; its parameters stand between `&` and nothing else (the URL standard,
application/x-www-form-urlencoded): `;` separates none, and `a[]` is another name than `a`.
"""

from collections.abc import Collection, Iterable
from urllib.parse import quote, unquote_to_bytes

from gateway.http.placeholders import scan
from gateway.units import mask_user_info

_MASK = "***"
_PLAIN_IN_NAMES = "-._~[]!*'()"


def joined(own: str, client: str) -> str:
    """The query that goes up: the target's own parameters, then those of the client's that have other names.

    Names are compared decoded, case as it is: `%70ublic=0` and `public` do not go up beside the target's `public=1`.
    Whether a service would take the first or the last of two cannot be known here.
    """
    if not own or not client:
        return own or client
    taken = {_name(parameter) for parameter in own.split("&") if parameter}
    return "&".join([own, *(one for one in client.split("&") if not one or _name(one) not in taken)])


def only(query: str, names: Collection[str]) -> str:
    """The parameters of a query that have one of the names, compared decoded, in their order."""
    names = {_in_bytes(name) for name in names}
    return "&".join(one for one in query.split("&") if one and _name(one) in names)


def changed(query: str, changes: Iterable[tuple[str, str | None]]) -> str:
    """A query with each change made: an encoded value replaces all of its name (decoded), None deletes them."""
    changes = tuple(changes)
    names = {_in_bytes(name) for name, _ in changes}
    kept = [one for one in query.split("&") if one and _name(one) not in names]
    kept += [f"{quote(name, safe=_PLAIN_IN_NAMES)}={value}" for name, value in changes if value is not None]
    return "&".join(kept)


def _in_bytes(name: str) -> str:
    """A name of the configuration in the form of `_name` for queries: a character for each byte of its UTF-8."""
    return name.encode().decode("latin-1")


def _name(parameter: str) -> str:
    name = parameter.partition("=")[0]
    if "%" in name or "+" in name:
        return unquote_to_bytes(name.replace("+", " ")).decode("latin-1")
    return name


def masked(query: str) -> str:
    """A target's query as it may be shown: names and placeholders stay, written values become `***`.

    A parameter without `=` may be a key by itself, so it counts as a value.
    """
    return "&".join(map(_masked_parameter, query.split("&")))


def _masked_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    return name + equals + _masked_value(value) if equals else _masked_value(name)


def _masked_value(text: str) -> str:
    return "".join(
        (_MASK if literal else "") + ("" if inside is None else f"{{{inside}}}") for literal, inside in scan(text)
    )


def masked_target(text: str) -> str:
    """A target, a route's line, or what was written in place of one, with its query masked."""
    path, mark, query = text.partition("?")
    return path + mark + (masked(query) if mark else "")


def masked_line(text: str) -> str:
    """As `masked_target`, and without the user and password of a URL."""
    return masked_target(mask_user_info(text))
