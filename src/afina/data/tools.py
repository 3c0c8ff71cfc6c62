"""Tools as the server shows them to the model, and the arguments of a call.

Ollama reads a tool into structures of its own and writes them again: in its order, with the words of JSON Schema that it knows,
and without the others. What is trained must be that text, so a tool is brought into the same form here.

    {"type", "function": {"name", "description", "parameters": {"type", "$defs", "items", "required", "properties"}}}
    a property: {"anyOf", "type", "items", "description", "enum", "properties", "required"}

The order of the properties stays. ``items`` and ``$defs`` are kept whole, with their keys in alphabetical order (api/types.go of
Ollama 0.32: a field of type ``any`` is a Go map). Numbers stay as they are written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NoReturn

from afina.core.translation import _
from afina.data.conversation import ToolCall
from afina.data.read.number import Number

_TOOL = ("type", "function")
_FUNCTION = ("name", "description", "parameters")
_PARAMETERS = ("type", "$defs", "items", "required", "properties")
_PROPERTY = ("anyOf", "type", "items", "description", "enum", "properties", "required")


class BrokenToolsError(ValueError):
    """Tools or a call that cannot be read: ``reason`` is one line for the user."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def normalise_tools(value: Any) -> tuple[str, tuple[str, ...]]:
    """The JSON list of the tools as the server will show them, and the words that it leaves out (``get_time: strict``).

    ``value``: a list of tools in OpenAI's form or of bare functions, one of them alone, or the JSON text of these. ``("", ())``
    where there is none. Raises BrokenToolsError.
    """
    if value is None or value in ("", [], {}):
        return "", ()
    # Files repeat the same tools in row after row: from text to text it is remembered.
    return _normalised(value if isinstance(value, str) else _written(value))


def tool_names(tools: str) -> frozenset[str]:
    """The names in a list that ``normalise_tools`` has written."""
    return _names(tools) if tools else frozenset()


def normalise_arguments(value: Any) -> str:
    """The arguments of a call as the text of a JSON object, its keys in their order. Raises BrokenToolsError."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return "{}"
    found = _parsed(value) if isinstance(value, str) else value
    if not isinstance(found, Mapping):
        raise BrokenToolsError(_("the arguments of a call are not an object"))
    return _written(found)


def read_calls(value: Any) -> tuple[ToolCall, ...]:
    """One call or a list of them, each with ``name`` and ``arguments``, bare or inside ``function``; or the JSON text of these.

    Raises BrokenToolsError.
    """
    found = _parsed(value) if isinstance(value, str) else value
    calls = found if isinstance(found, list) else [found]
    return tuple(_call(call) for call in calls)


def _call(value: Any) -> ToolCall:
    function = value.get("function", value) if isinstance(value, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
        raise BrokenToolsError(_("a call has no name"))
    return ToolCall(str(name), normalise_arguments(function.get("arguments", function.get("parameters"))))


# ── one tool ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=1024)
def _normalised(text: str) -> tuple[str, tuple[str, ...]]:
    found = _parsed(text)
    tools = found if isinstance(found, list) else [found]
    left_out: dict[str, None] = {}
    try:
        written = _written([_tool(tool, left_out) for tool in tools])
    except RecursionError:
        raise BrokenToolsError(_("it is nested too deeply")) from None
    if len(_names(written)) != len(tools):
        raise BrokenToolsError(_("two tools have the same name"))
    return (written, tuple(left_out)) if tools else ("", ())


@lru_cache(maxsize=1024)
def _names(tools: str) -> frozenset[str]:
    return frozenset(tool["function"]["name"] for tool in json.loads(tools))


def _tool(value: Any, left_out: dict[str, None]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BrokenToolsError(_("a tool is not an object"))
    bare = "function" not in value
    function = value if bare else value["function"]
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
        raise BrokenToolsError(_("a tool has no name"))
    if value.get("type", "function") != "function":
        reason = _("the tool {name!r} is of type {kind!r}; only functions can be offered to a model of one's own")
        raise BrokenToolsError(reason.format(name=name, kind=value["type"]))

    def leave_out(found: Mapping[str, Any], kept: tuple[str, ...], path: str) -> None:
        left_out.update(dict.fromkeys(f"{name}: {path}{key}" for key in found if key not in kept))

    if not bare:
        leave_out(value, _TOOL, "")
    leave_out(function, (*_FUNCTION, "type") if bare else _FUNCTION, "")
    written: dict[str, Any] = {"name": name}
    if description := _text(function.get("description"), name, "description"):
        written["description"] = description
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise BrokenToolsError(_("the tool {name!r} has parameters that are not an object").format(name=name))
    leave_out(parameters, _PARAMETERS, "parameters.")
    written["parameters"] = {
        "type": _text(parameters.get("type"), name, "parameters.type") or "object",
        **{key: _sorted(parameters[key]) for key in ("$defs", "items") if parameters.get(key) is not None},
        **_required(parameters, name),
        "properties": _properties(parameters.get("properties"), name, "parameters.", leave_out),
    }
    return {"type": "function", "function": written}


LeaveOut = Callable[[Mapping[str, Any], tuple[str, ...], str], None]


def _properties(value: Any, name: str, path: str, leave_out: LeaveOut) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BrokenToolsError(_("the tool {name!r} has properties that are not an object").format(name=name))
    return {key: _property(item, name, f"{path}{key}.", leave_out) for key, item in value.items()}


def _property(value: Any, name: str, path: str, leave_out: LeaveOut) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BrokenToolsError(_("the tool {name!r}: {place} is not an object").format(name=name, place=path[:-1]))
    leave_out(value, _PROPERTY, path)
    written: dict[str, Any] = {}
    if alternatives := value.get("anyOf"):
        if not isinstance(alternatives, list):
            raise BrokenToolsError(_("the tool {name!r}: {place} is not a list").format(name=name, place=f"{path}anyOf"))
        written["anyOf"] = [_property(item, name, f"{path}anyOf.", leave_out) for item in alternatives]
    if kind := value.get("type"):
        several = kind if isinstance(kind, list) else [kind]
        texts = [_text(item, name, f"{path}type") for item in several]
        written["type"] = texts[0] if len(texts) == 1 else texts
    if value.get("items") is not None:
        written["items"] = _sorted(value["items"])
    if description := _text(value.get("description"), name, f"{path}description"):
        written["description"] = description
    if enum := value.get("enum"):
        if not isinstance(enum, list):
            raise BrokenToolsError(_("the tool {name!r}: {place} is not a list").format(name=name, place=f"{path}enum"))
        written["enum"] = enum
    if value.get("properties") is not None:
        written["properties"] = _properties(value["properties"], name, path, leave_out)
    return {**written, **_required(value, name)}


def _required(value: Mapping[str, Any], name: str) -> dict[str, list[str]]:
    required = value.get("required")
    if not required:
        return {}
    if not isinstance(required, list) or not all(isinstance(item, str) for item in required):
        raise BrokenToolsError(_("the tool {name!r}: {place} is not a list of names").format(name=name, place="required"))
    return {"required": required}


def _text(value: Any, name: str, path: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Number):
        return value
    raise BrokenToolsError(_("the tool {name!r}: {place} is not a text").format(name=name, place=path))


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


# ── JSON whose numbers stay as they are ───────────────────────────────────────────────────────────────────────────────


def _parsed(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        snippet = text[error.pos : error.pos + 30].partition("\n")[0]
        raise BrokenToolsError(
            _("not JSON: it breaks off") if not snippet else _("not JSON: {snippet!r}").format(snippet=snippet)
        ) from None
    except RecursionError:
        raise BrokenToolsError(_("it is nested too deeply")) from None


def _written(value: Any) -> str:
    try:
        return _write(value)
    except RecursionError:
        raise BrokenToolsError(_("it is nested too deeply")) from None


def _write(value: Any) -> str:
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join([f"{json.dumps(str(key), ensure_ascii=False)}: {_write(value[key])}" for key in value]) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join([_write(item) for item in value]) + "]"
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    raise BrokenToolsError(_("{value} is nothing that JSON can hold").format(value=str(value)[:40]))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BrokenToolsError(_("a key stands twice in the JSON"))
    return found


def _constant(name: str) -> NoReturn:
    raise BrokenToolsError(_("not JSON: {name} is not a JSON number").format(name=name))


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=Number, parse_int=Number)
