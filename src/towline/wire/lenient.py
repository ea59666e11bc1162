"""Reads JSON objects the way Go programs do: case of keys, floats for numbers, nulls and absent fields do not matter.

The older systems that Towline stands in for are written in Go, and so is what their agents expect and send. A struct
says what is meant; its fields without a default are always written, and hold their zero value when nothing came.
Structs are declared with `forbid_unknown_fields`, so that reading fast what is spelt exactly misses nothing: all the
rest is read again with patience. Formats only: no I/O.
"""

from functools import cache
from typing import Generic, TypeVar

import msgspec
from msgspec import inspect

LARGEST_INTEGER = 2**53
"""Numbers travel as floats, which hold no larger integer exactly."""

S = TypeVar("S", bound=msgspec.Struct)


class Unfit(Exception):
    """What came cannot be read as what it should be."""


class Reader(Generic[S]):
    """Reads JSON texts as a struct.

    Args: aliases: other spellings, lower case, of fields in the struct or in those inside it.
    """

    def __init__(self, struct: type[S], aliases: dict[str, str] | None = None) -> None:
        self._struct = struct
        self._aliases = aliases or {}
        self._exact = msgspec.json.Decoder(struct)

    def read(self, text: bytes | memoryview | msgspec.Raw) -> S:
        """Read one object; an empty text and `null` count as an empty one.

        Raises: Unfit: not JSON, no object, or a field of the wrong type.
        """
        try:
            return self._exact.decode(text)
        except msgspec.MsgspecError:
            """Spelt in another way, or wrong."""
        except (UnicodeDecodeError, RecursionError) as error:
            raise Unfit(str(error)) from error
        return fit(_anything(text), self._struct, self._aliases)


def fit(value: object, struct: type[S], aliases: dict[str, str] | None = None) -> S:
    """Make a struct of a decoded JSON value; None counts as an empty object. Raises: Unfit."""
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    try:
        return msgspec.convert(_object(value, described, aliases or {}), struct, strict=False)
    except msgspec.ValidationError as error:
        raise Unfit(str(error)) from error


def _anything(text: bytes | memoryview | msgspec.Raw) -> object:
    if not len(memoryview(text)):
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unfit(str(error)) from error


@cache
def _fields(struct: type[msgspec.Struct]) -> dict[str, inspect.Field]:
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    return {field.encode_name: field for field in described.fields}


def _object(value: object, kind: inspect.StructType, aliases: dict[str, str]) -> dict[str, object]:
    """Return the fields of an object by their own names, with the zero values of those that must be there."""
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise Unfit(f"expected an object, got {type(value).__name__}")
    fields = _fields(kind.cls)
    found: dict[str, object] = {}
    for key in sorted(value, key=lambda key: key in fields):  # an exact spelling wins over another one
        name = key if key in fields else _known(key, fields, aliases)
        if name and value[key] is not None:
            found[name] = _shaped(value[key], fields[name].type, aliases)
    for name, field in fields.items():
        if field.required and name not in found:
            found[name] = _zero(field.type, aliases)
    return found


def _known(key: str, fields: dict[str, inspect.Field], aliases: dict[str, str]) -> str:
    lowered = key.lower()
    lowered = aliases.get(lowered, lowered)
    return lowered if lowered in fields else ""


def _shaped(value: object, kind: inspect.Type, aliases: dict[str, str]) -> object:
    """Bring a value into the form that its type converts from."""
    match kind:
        case inspect.StructType():
            return _object(value, kind, aliases)
        case inspect.IntType() if isinstance(value, float):
            return _integer(value)
        case inspect.DictType(value_type=inner) if isinstance(value, dict):
            return {name: _text_or(item, inner, aliases) for name, item in value.items() if item is not None}
        case inspect.VarTupleType(item_type=inner) if isinstance(value, list):
            return [_shaped(item, inner, aliases) for item in value]
        case inspect.UnionType(types=types):
            structs = [inner for inner in types if isinstance(inner, inspect.StructType)]
            return _object(value, structs[0], aliases) if structs else value
    return value


def _text_or(value: object, kind: inspect.Type, aliases: dict[str, str]) -> object:
    """In a map of texts a number or a truth value is its text."""
    if isinstance(kind, inspect.StrType) and isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else f"{value:g}"
    return _shaped(value, kind, aliases)


def _integer(value: float) -> object:
    return int(value) if abs(value) <= LARGEST_INTEGER else value


def _zero(kind: inspect.Type, aliases: dict[str, str]) -> object:
    match kind:
        case inspect.StrType() | inspect.BytesType():
            return ""
        case inspect.IntType() | inspect.FloatType():
            return 0
        case inspect.BoolType():
            return False
        case inspect.DictType():
            return {}
        case inspect.VarTupleType() | inspect.ListType():
            return []
        case inspect.StructType():
            return _object({}, kind, aliases)
    return None
