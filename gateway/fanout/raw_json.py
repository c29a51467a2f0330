"""JSON cut and joined without decoding values: numbers and strings stay byte for byte as the service sent them.

msgspec's `Raw` is a value's own bytes, checked to be JSON. A text here is a whole value in UTF-8 (RFC 8259), without
white space around it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

_whole = msgspec.json.Decoder(msgspec.Raw)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str)
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_BLANK = b" \t\r\n"
_DEEPEST: Final = 16  # lists within lists that something is picked from
# Values this short, and so many of them: as objects they take thirty times the memory of their text.
_DUST_BYTES, _DUST_COUNT = 8, 100_000


class NotJson(ValueError):
    """The text is not JSON, or not of the expected kind; the message says what it is."""


class NoValue(ValueError):
    """A value that cannot stand in a URL: missing, null, or not a scalar."""


class TooMany(ValueError):
    """A list with too many items."""


def checked(body: bytes) -> bytes:
    """A body that is one JSON document -> its text. Raises NotJson."""
    try:
        if not body.isascii():
            body.decode()
        return bytes(_whole.decode(body))
    except UnicodeDecodeError as error:
        raise NotJson(str(error)) from None
    except _ERRORS as error:
        # Half of a surrogate pair is within the grammar (RFC 8259, section 8.2), and JavaScript writes one for a text
        # that was cut in two; msgspec refuses it. It is looked for only here, so it costs nothing elsewhere. An escaped
        # backslash begins no other escape, so those are removed first, from the left.
        mended = _SURROGATE.sub(rb"\\u0000", body.replace(rb"\\", rb"\/"))
        if mended == body.replace(rb"\\", rb"\/"):
            raise NotJson(str(error) or type(error).__name__) from None
        _decoded(_whole, mended, NotJson)
        return body.strip(_BLANK)


def _decoded(decoder: msgspec.json.Decoder[Any], text: bytes, otherwise: type[ValueError]) -> Any:
    """Decode a text; raises `otherwise` where the decoder refuses half of a surrogate pair."""
    try:
        return decoder.decode(text)
    except _ERRORS as error:
        raise otherwise(str(error) or type(error).__name__) from None


def picked(text: bytes, names: Sequence[str]) -> bytes:
    """An object, or each object of a list, with these members only, in this order; null stays. Raises NotJson."""
    if _is_dust(text, b"{"):
        raise NotJson(f"it has more than {_DUST_COUNT} objects of a few bytes")
    try:
        return msgspec.json.encode(_picking(tuple(dict.fromkeys(names))).decode(text))
    except msgspec.ValidationError:
        raise NotJson("expected an object") from None
    except _ERRORS as error:
        raise NotJson(str(error) or type(error).__name__) from None


@lru_cache(maxsize=256)
def _picking(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """A decoder that reads the picked members and skips the rest. The names come from the configuration."""
    kind: Any = _with_members(names) | None
    for _ in range(_DEEPEST):
        kind = _with_members(names) | None | list[kind]
    return msgspec.json.Decoder(kind)


@lru_cache(maxsize=256)
def _with_members(names: tuple[str, ...]) -> Any:
    """A Struct with these members as raw JSON; a missing one is left out."""
    members = {f"m{number}": name for number, name in enumerate(names)}
    return msgspec.defstruct("Picked", [(own, Raw | UnsetType, UNSET) for own in members], rename=members)


def _is_dust(text: bytes, mark: bytes) -> bool:
    """Whether it may hold so many short values that objects for them would take too much memory."""
    count = text.count(mark)
    return count > _DUST_COUNT and count * _DUST_BYTES > len(text)


def members_of(text: bytes) -> dict[str, bytes]:
    """An object's members as raw JSON. Raises NotJson."""
    if text[:1] != b"{":
        raise NotJson("expected an object")
    return {name: bytes(value) for name, value in _decoded(_object, text, NotJson).items()}


def items_of(text: bytes, fields: Iterable[str], most: int = _DUST_COUNT) -> list[bytes]:
    """The items of the list that the fields lead to. Raises NoValue; TooMany for more than `most`."""
    found = _at(text, fields)
    if found[:1] != b"[":
        raise NoValue
    if _is_dust(found, b",") and found.count(b",") > most:
        raise TooMany
    items = _decoded(_list, found, NoValue)
    if len(items) > most:
        raise TooMany
    return [bytes(item) for item in items]


def scalar(text: bytes, fields: Iterable[str]) -> str:
    """The scalar that the fields lead to, as it stands in a URL: a number exactly as it was sent. Raises NoValue."""
    found = _at(text, fields)
    if found[:1] == b'"':
        return str(_decoded(_text, found, NoValue))
    if found[:1] in {b"{", b"["} or found == b"null":
        raise NoValue
    return found.decode("ascii")


def _at(text: bytes, fields: Iterable[str]) -> bytes:
    for field in fields:
        if text[:1] != b"{":
            raise NoValue
        value = _decoded(_one_member(field), text, NoValue).m0
        if value is UNSET:
            raise NoValue
        text = bytes(value)
    return text


@lru_cache(maxsize=256)
def _one_member(name: str) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_with_members((name,)))


def joined(texts: Iterable[bytes]) -> bytes:
    """Texts -> the text of their list."""
    return b"[" + b",".join(texts) + b"]"


def as_object(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Names and texts -> the text of an object."""
    return b"{" + b",".join(msgspec.json.encode(name) + b":" + text for name, text in members) + b"}"


def on_one_line(text: bytes) -> bytes:
    """A text without line breaks: in JSON they are white space, never part of a value."""
    return text.replace(b"\r", b" ").replace(b"\n", b" ")


def encoded(value: Any) -> bytes:
    """A Python value, a Struct or a dataclass as JSON. Raises TypeError for a value that has no JSON."""
    return msgspec.json.encode(value)


def flat(parts: Mapping[str, bytes]) -> bytes:
    """The members of several objects as one object. Raises NotJson for one that is none, or a repeated name."""
    members: dict[str, bytes] = {}
    owners: dict[str, str] = {}
    for part, text in parts.items():
        if text == b"null":  # a failed optional part
            continue
        try:
            own = members_of(text)
        except NotJson:
            raise NotJson(f"the part {part} is no object, so it cannot be merged flat") from None
        for name, value in own.items():
            if name in members:
                raise NotJson(f"the parts {owners[name]} and {part} both have {name!r}")
            members[name], owners[name] = value, part
    return as_object(members.items())
