"""JSON cut and joined without decoding it: what a service said of a number or a word arrives byte for byte.

msgspec's `Raw` is a value's own bytes, checked to be JSON. A text here is a whole value in UTF-8 (RFC 8259), without
white space around it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

_whole = msgspec.json.Decoder(msgspec.Raw)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str)
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ESCAPE = re.compile(rb"\\(?:u([dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)
_BLANK = b" \t\r\n"


class NotJson(ValueError):
    """What came is no JSON, or not of the kind that was asked for; the text says what it is."""


class NoValue(ValueError):
    """A value that cannot stand in a URL: it is missing, null, or no scalar."""


def checked(body: bytes) -> bytes:
    """A body that is one JSON document -> its text. Raises NotJson."""
    try:
        if not body.isascii():
            body.decode()
        return bytes(_whole.decode(body))
    except UnicodeDecodeError as error:
        raise NotJson(str(error)) from None
    except _ERRORS as error:
        # Half of a surrogate pair is within the grammar (RFC 8259, section 8.2), and what JavaScript writes of a text
        # that was cut in two; msgspec refuses it. Looked for only here, so it costs nobody else anything.
        mended = _ESCAPE.sub(lambda escape: escape[0] if escape[1] is None else rb"\u0000", body)
        if mended == body:
            raise NotJson(str(error) or type(error).__name__) from None
        _decoded(_whole, mended, NotJson)
        return body.strip(_BLANK)


def _decoded(decoder: msgspec.json.Decoder[Any], text: bytes, otherwise: type[ValueError]) -> Any:
    """What the decoder makes of a text; `otherwise` is raised where it refuses half of a surrogate pair."""
    try:
        return decoder.decode(text)
    except _ERRORS as error:
        raise otherwise(str(error) or type(error).__name__) from None


def picked(text: bytes, names: Sequence[str]) -> bytes:
    """An object, or each object of a list, with these members only, in this order; null stays. Raises NotJson."""
    try:
        return _picked(text, names)
    except RecursionError as error:
        raise NotJson(str(error)) from None


def _picked(text: bytes, names: Sequence[str]) -> bytes:
    if text == b"null":
        return text
    if text[:1] == b"[":
        return joined(_picked(bytes(item), names) for item in _decoded(_list, text, NotJson))
    members = members_of(text)
    return as_object((name, members[name]) for name in names if name in members)


def members_of(text: bytes) -> dict[str, bytes]:
    """An object's members, their texts as they are. Raises NotJson."""
    if text[:1] != b"{":
        raise NotJson("expected an object")
    return {name: bytes(value) for name, value in _decoded(_object, text, NotJson).items()}


def items_of(text: bytes, fields: Iterable[str]) -> list[bytes]:
    """The items of the list that the fields lead to. Raises NoValue."""
    found = _at(text, fields)
    if found[:1] != b"[":
        raise NoValue
    return [bytes(item) for item in _decoded(_list, found, NoValue)]


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
        value = _decoded(_object, text, NoValue).get(field)
        if value is None:
            raise NoValue
        text = bytes(value)
    return text


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
    """A Python value, a Struct or a dataclass as JSON. Raises TypeError for what has no JSON."""
    return msgspec.json.encode(value)


def flat(parts: Mapping[str, bytes]) -> bytes:
    """The members of several objects as one object. Raises NotJson for what is none, or a name that comes twice."""
    members: dict[str, bytes] = {}
    owners: dict[str, str] = {}
    for part, text in parts.items():
        if text == b"null":  # an optional one that failed has nothing to give
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
