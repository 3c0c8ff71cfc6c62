"""A recipe for a person to fill in: every key with its default and its help, from the declarations themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from afina.core.translation import _
from afina.recipe.load import section_of
from afina.recipe.recipe import Recipe


def commented(name: str, base: str, examples: Sequence[str]) -> str:
    """YAML text of a recipe: what was given is set; every other key stands there as a comment with its default."""
    given = {"name": name, "base": base, "data": {"examples": list(examples)}}
    head = _("# A recipe for afina. Lines that begin with # show the defaults; take the # away to change one.")
    return head + "\n\n" + "\n".join(_lines(Recipe, given, 0)) + "\n"


def _lines(section: type[BaseModel], given: Mapping[str, Any], level: int) -> Iterator[str]:
    indent = "  " * level
    for key, field in section.model_fields.items():
        below = section_of(field.annotation)
        if below is not None and field.default is not None:
            yield f"{indent}{key}:"
            yield from _lines(below, given.get(key, {}), level + 1)
            continue
        default = field.get_default(call_default_factory=True)
        value = json.dumps(given.get(key, default), ensure_ascii=False, default=str)
        text = yaml.safe_load(value)
        shown = (
            value
            if isinstance(text, list | dict) or text is None
            else yaml.safe_dump(text, width=1000).removesuffix("...\n").strip()
        )
        help_text = f"  # {_(' '.join(field.description.split()))}" if field.description else ""
        yield f"{indent}{'' if key in given else '# '}{key}: {shown}{help_text}"
