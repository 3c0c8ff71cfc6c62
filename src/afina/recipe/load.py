"""From a YAML file to a Recipe and back: all problems at once, each with its line and what to write instead."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from afina.core.errors import RecipeError
from afina.core.translation import _
from afina.recipe.recipe import Recipe

Path_ = tuple[str | int, ...]


class _StrictLoader(yaml.SafeLoader):
    """YAML in which ``2e-4`` is a number and a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, _("a key should be a word"), key.start_mark)
            if key.value in seen:
                what = _("the key '{key}' stands twice").format(key=key.value)
                raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)

_SET = "--set "


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in ``path`` with ``key=value`` overrides. Relative files in it are made relative to its folder.

    Raises RecipeError with every problem: file and line, what was found, and what could be meant.
    """
    if not path.is_file():
        raise RecipeError(
            _("there is no recipe {path}").format(path=path), fix=_("write one with: afina new {name}").format(name="my-model")
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(
            _("{path} is not UTF-8 text (byte {place})").format(path=path, place=error.start), fix=_("save it as UTF-8")
        ) from None
    try:
        tree = yaml.load(text, Loader=_StrictLoader)  # noqa: S506  # a SafeLoader
        lines = _lines(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise RecipeError(_yaml_problem(path, error), fix=_("mend the YAML there: two spaces a level, 'key: value'")) from None
    except RecursionError:
        raise RecipeError(
            _("{path} has too many brackets inside each other").format(path=path),
            fix=_("see a full recipe with: afina new NAME"),
        ) from None
    if not isinstance(tree, dict):
        raise RecipeError(
            _("{path} holds no 'key: value' lines").format(path=path), fix=_("see a full recipe with: afina new NAME")
        )
    _open_empty_sections(tree, Recipe)
    apply_overrides(tree, overrides)
    return _validated(tree, path, _places(path, lines, overrides)).with_paths_below(path.parent)


def validate(tree: Mapping[str, Any], source: str) -> Recipe:
    """The recipe of a tree of plain values; ``source`` names it in errors."""
    return _validated(dict(tree), Path(source), {})


def to_yaml(recipe: Recipe) -> str:
    """The recipe with every key; reading it again gives an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> None:
    """Sets ``train.epochs=2`` and the like in ``tree``; values are read as YAML."""
    problems = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            problems.append(_("--set {text}: expected key=value").format(text=override))
            continue
        *parents, last = key.strip().split(".")
        section = tree
        for parent in parents:
            below = section.setdefault(parent, {})
            if not isinstance(below, dict):
                problems.append(_("--set {text}: {parent} is a value, not a section").format(text=override, parent=parent))
                break
            section = below
        else:
            try:
                section[last] = yaml.load(value, Loader=_StrictLoader)  # noqa: S506  # a SafeLoader
            except (yaml.YAMLError, RecursionError) as error:
                reason = error.problem if isinstance(error, yaml.MarkedYAMLError) else type(error).__name__
                problems.append(_("--set {text}: the value is not YAML: {reason}").format(text=override, reason=reason))
    if problems:
        raise RecipeError("\n".join(problems), fix=_("write for example: --set train.epochs=2"))


def _places(path: Path, lines: Mapping[Path_, int], overrides: Sequence[str]) -> dict[Path_, str]:
    """Where each key was written: ``recipe.yaml:12``, or ``--set train.epochs=2``, which hides what the file says below it."""
    places = {place: f"{path}:{line}" for place, line in lines.items()}
    for override in overrides:
        key = tuple(override.partition("=")[0].strip().split("."))
        places = {place: where for place, where in places.items() if place[: len(key)] != key}
        places[key] = f"{_SET}{override}"
    return places


def _open_empty_sections(tree: dict[str, Any], section: type[BaseModel]) -> None:
    """Takes out sections without a line in them (``adapter:`` and only comments below), which YAML reads as null."""
    for key, field in section.model_fields.items():
        below = section_of(field.annotation)
        if below is None or key not in tree:
            continue
        if tree[key] is None:
            del tree[key]
        elif isinstance(tree[key], dict):
            _open_empty_sections(tree[key], below)


def _validated(tree: dict[str, Any], path: Path, places: Mapping[Path_, str]) -> Recipe:
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        problems = [_problem(detail, path, places) for detail in _grouped(error.errors())]
        problems.sort(key=lambda problem: _line_of(problem, path))
        fix = _("correct the line named above")
        if len(problems) > 1:
            fix = _("correct the {count} lines named above").format(count=len(problems))
        if all(problem.startswith(_SET) for problem in problems):
            fix = _("correct what --set says: its value, or the name of the setting")
        raise RecipeError("\n".join(problems), fix=fix) from None


def _line_of(problem: str, path: Path) -> int:
    told = re.match(r":(\d+): ", problem.removeprefix(str(path)))
    return int(told[1]) if told else 0


def _grouped(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """One problem a key: pydantic reports each branch of a union by itself, and a list as well as its items."""
    chosen: dict[Path_, ErrorDetails] = {}
    for detail in details:
        place = _known_place(detail["loc"])
        chosen.setdefault(place, detail)
    inner = {place[:length] for place in chosen for length in range(len(place))}
    return [detail for place, detail in chosen.items() if place not in inner]


def _known_place(loc: Path_) -> Path_:
    """``loc`` without pydantic's names for union branches."""
    place: list[str | int] = []
    fields: type[BaseModel] | None = Recipe
    item: type[BaseModel] | None = None  # the section that an item of the list here may be
    for part in loc:
        if fields is None:
            if isinstance(part, int):
                place.append(part)
            elif item is not None and part == item.__name__:
                fields, item = item, None
            continue
        place.append(part)
        field = fields.model_fields.get(str(part))
        fields = section_of(field.annotation) if field else None
        item = section_of(_item(field.annotation)) if field and fields is None else None
    return tuple(place)


def _problem(detail: ErrorDetails, path: Path, places: Mapping[Path_, str]) -> str:
    place = _known_place(detail["loc"])
    where = next((places[place[:n]] for n in range(len(place), 0, -1) if place[:n] in places), str(path))
    key = ".".join(str(part) for part in place)
    value = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            what = _("unknown key '{key}'").format(key=key) + _did_you_mean(place)
        case "missing":
            what = _("the key '{key}' is missing").format(key=key)
        case "value_error":
            what = f"{key}: {detail['ctx']['error']!s}"
        case "string_pattern_mismatch":
            what = _("{key} is {value}; allowed are lower-case letters, digits, . _ - (at most 63)").format(
                key=key, value=_shown(value)
            )
        case "invalid_key":
            what = _("unknown key '{key}'").format(key=key) + _did_you_mean(place)
        case _:
            what = _("{key} is {value}; {expected}").format(key=key, value=_shown(value), expected=_expected(place, detail))
    return f"{where}: {what}"


def _shown(value: object) -> str:
    """A value as one writes it in YAML; what is neither text, number nor list (a date) as it was written."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value) if isinstance(value, str | int | float | list | dict) else str(value)


def _expected(place: Path_, detail: ErrorDetails) -> str:
    """What a key wants: its bound where the value lies outside, else its choices, which its declaration holds."""
    limits = detail.get("ctx", {})
    match detail["type"]:
        case "greater_than":
            return _("it should be more than {limit}").format(limit=_bound(limits["gt"]))
        case "greater_than_equal":
            return _("it should be at least {limit}").format(limit=_bound(limits["ge"]))
        case "less_than":
            return _("it should be less than {limit}").format(limit=_bound(limits["lt"]))
        case "less_than_equal":
            return _("it should be at most {limit}").format(limit=_bound(limits["le"]))
        case "finite_number" if detail["input"] in (math.inf, -math.inf):
            return _("it should be a finite number")
        case "too_short":
            return _("it should not be empty")
    choices = _choices(_annotation(place))
    close = difflib.get_close_matches(str(detail["input"]), choices, n=1)
    meant = _("; did you mean '{name}'?").format(name=close[0]) if close else ""
    return _("it should be {choices}").format(choices=_(" or ").join(choices)) + meant


def _bound(limit: object) -> str:
    """``1`` for 1.0, ``65535`` as it is."""
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def _annotation(place: Path_) -> Any:
    section: type[BaseModel] | None = Recipe
    annotation: Any = Recipe
    for part in place:
        if isinstance(part, int):
            annotation = _item(annotation)
            section = section_of(annotation)
            continue
        if section is None or part not in section.model_fields:
            return annotation
        annotation = section.model_fields[part].annotation
        section = section_of(annotation)
    return annotation


def _item(annotation: Any) -> Any:
    """What an annotation of a list wants for each of its items."""
    for candidate in (annotation, *get_args(annotation)):
        if get_origin(candidate) is tuple:
            return get_args(candidate)[0]
        if get_origin(candidate) is Annotated:
            return _item(get_args(candidate)[0])
    return annotation


def _choices(annotation: Any) -> list[str]:
    """The literal values inside an annotation, then the names of its other types."""
    names = {int: _("a whole number"), float: _("a number"), str: _("a text"), bool: "true / false"}
    if annotation in names:
        return [names[annotation]]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return ["{" + ", ".join(f"{key}: …" for key in annotation.model_fields) + "}"]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is not None and getattr(origin, "__name__", "") == "Literal":
        return [str(value) for value in inner]
    if origin is tuple:
        return [_("a list of {items}").format(items=" / ".join(_choices(inner[0])))]
    return [choice for part in inner if part is not type(None) for choice in _choices(part)]


def _did_you_mean(place: Path_) -> str:
    section: type[BaseModel] | None = Recipe
    for part in place[:-1]:
        if isinstance(part, str):
            field = section.model_fields.get(part) if section else None
            section = section_of(field.annotation) or section_of(_item(field.annotation)) if field else None
    name = str(place[-1])
    here = list(section.model_fields) if section else []
    if close := difflib.get_close_matches(name, here, n=1):
        return _("; did you mean '{name}'?").format(name=close[0])
    elsewhere = {
        key: f"{top}.{key}"
        for top, field in Recipe.model_fields.items()
        if (below := section_of(field.annotation))
        for key in below.model_fields
    }
    if close := difflib.get_close_matches(name, list(elsewhere), n=1):
        return _("; did you mean '{name}'?").format(name=elsewhere[close[0]])
    return _("; here one can write: {names}").format(names=", ".join(here))


def section_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _lines(node: yaml.Node | None, place: Path_ = ()) -> dict[Path_, int]:
    """Path of each key → its line, counted from 1."""
    found: dict[Path_, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*place, key.value)
            found[below] = key.start_mark.line + 1
            found.update(_lines(value, below))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            found[(*place, number)] = value.start_mark.line + 1
            found.update(_lines(value, (*place, number)))
    return found


def _yaml_problem(path: Path, error: yaml.YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    reason = error.problem if isinstance(error, yaml.MarkedYAMLError) else str(error)
    if reason and "'\\t'" in reason:
        reason = _("a tab stands there, and YAML wants spaces")
    return f"{path}:{mark.line + 1}: {reason}" if mark else f"{path}: {reason}"
