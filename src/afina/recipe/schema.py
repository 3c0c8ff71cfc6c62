"""The part of JSON Schema that checks of answers know: ``type``, ``enum``, ``required``, ``properties``, ``items`` and
``additionalProperties: false``. Any other word in a schema is refused, never passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Schema = Mapping[str, Any]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and float(value).is_integer(),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
_WORDS = ("type", "enum", "required", "properties", "items", "additionalProperties")


def problem_of(schema: Any, place: str = "") -> str:
    """What is wrong with a schema, with its place in it (``properties.price``); ``""`` where nothing is."""
    where = f" ({place})" if place else ""
    if not isinstance(schema, dict):
        return f"a schema is an object of words such as type and properties, not {schema!r}{where}"
    if unknown := [word for word in schema if word not in _WORDS]:
        return f"'{unknown[0]}'{where} is not among the words of JSON Schema that are known here: {', '.join(_WORDS)}"
    types = schema.get("type", [])
    for name in types if isinstance(types, list) else [types]:
        if name not in TYPES:
            return f"type {name!r}{where} is none of {', '.join(TYPES)}"
    for word in ("enum", "required"):
        if not isinstance(schema.get(word, []), list):
            return f"{word}{where} is not a list"
    if schema.get("additionalProperties", True) not in (True, False):
        return f"additionalProperties{where} may be true or false"
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        return f"properties{where} is not an object"
    parts = {f"properties.{key}": below for key, below in properties.items()}
    parts |= {"items": schema["items"]} if "items" in schema else {}
    prefix = f"{place}." if place else ""
    return next((found for key, below in parts.items() if (found := problem_of(below, prefix + key))), "")


def conforms(value: Any, schema: Schema) -> bool:
    """Whether a JSON value obeys a schema in which ``problem_of`` finds nothing. Words for objects do not bind other values."""
    types = schema.get("type")
    if types is not None and not any(TYPES[name](value) for name in (types if isinstance(types, list) else [types])):
        return False
    if "enum" in schema and not any(_same(value, other) for other in schema["enum"]):
        return False
    if isinstance(value, list):
        return all(conforms(item, schema.get("items", {})) for item in value)
    if not isinstance(value, dict):
        return True
    known = schema.get("properties", {})
    if any(key not in value for key in schema.get("required", [])):
        return False
    if schema.get("additionalProperties", True) is False and any(key not in known for key in value):
        return False
    return all(conforms(value[key], below) for key, below in known.items() if key in value)


def _same(value: Any, other: Any) -> bool:
    """Equal as JSON values: ``1`` is ``1.0`` and is not ``true``, in lists and objects too."""
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(_same, value, other))
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(_same(item, other[key]) for key, item in value.items())
    return bool(value == other)
