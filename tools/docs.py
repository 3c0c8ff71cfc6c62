"""Writes the pages that the code itself knows best: ``python -m tools.docs``, or ``--check`` whether they are current.

``docs/<language>/commands.md`` comes from the parsers of the command line, ``docs/<language>/recipe.md`` from the declarations of
the recipe.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from afina.cli.main import COMMANDS, build_parser
from afina.core.translation import _
from afina.recipe.recipe import Recipe
from afina.recipe.template import commented

DOCS = Path(__file__).resolve().parent.parent / "docs"
WORDS = {
    "en": {
        "commands": "# The commands",
        "commands-intro": (
            "Each command ends by naming the next one. Data goes to standard output, everything else to standard error."
        ),
        "recipe": "# The recipe",
        "recipe-intro": (
            "A recipe is one YAML file. `afina new NAME` writes one with every setting; what is left out has the value "
            "given here. Any of them can be changed for one call: `--set train.epochs=2`. An unknown or wrong setting is an "
            "error that names its line, and all of them are named at once."
        ),
        "argument": "| argument | what it does |",
        "setting": "| setting | default | what it may be | what it does |",
        "required": "must be given",
        "top": "At the top",
        "whole": "The whole of it",
        "int": "whole number",
        "number": "number",
        "text": "text",
        "list": "list",
        "none": "nothing",
        "regular": "text of the form",
    },
    "es": {
        "commands": "# Los comandos",
        "commands-intro": (
            "Cada comando termina diciendo cuál es el siguiente. Los datos salen por la salida estándar; todo lo demás, "
            "por la de errores."
        ),
        "recipe": "# La receta",
        "recipe-intro": (
            "Una receta es un solo archivo YAML. `afina new NOMBRE` escribe una con todos los ajustes; lo que no pongas toma "
            "el valor indicado aquí. Cualquiera se puede cambiar para una sola vez: `--set train.epochs=2`. Un ajuste "
            "desconocido o incorrecto es un error que dice en qué línea está, y se dicen todos a la vez."
        ),
        "argument": "| argumento | qué hace |",
        "setting": "| ajuste | por defecto | qué puede ser | qué hace |",
        "required": "obligatorio",
        "top": "En lo más alto",
        "whole": "La receta entera",
        "int": "número entero",
        "number": "número",
        "text": "texto",
        "list": "lista",
        "none": "nada",
        "regular": "texto de la forma",
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is not current")
    arguments = parser.parse_args()
    stale = [path for path, text in pages().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if arguments.check:
            print(f"{path.relative_to(DOCS.parent)} is not what the code says; mend with: make docs", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(pages()[path], encoding="utf-8")
            print(f"wrote {path.relative_to(DOCS.parent)}")
    return 1 if arguments.check and stale else 0


def pages() -> dict[Path, str]:
    """Every generated page and its text."""
    found = {}
    before = os.environ.get("AFINA_LANG")
    try:
        for language, words in WORDS.items():
            os.environ["AFINA_LANG"] = language
            found[DOCS / language / "commands.md"] = commands_page(words)
            found[DOCS / language / "recipe.md"] = recipe_page(words)
    finally:
        if before is None:
            del os.environ["AFINA_LANG"]
        else:
            os.environ["AFINA_LANG"] = before
    return found


def commands_page(words: Mapping[str, str]) -> str:
    children = subparsers(build_parser())
    parts = [words["commands"], words["commands-intro"]]
    for command in COMMANDS:
        actions = [action for action in children[command.NAME]._actions if shown(action)]
        parts.append(f"## afina {command.NAME}\n\n{sentence(_(command.HELP))}")
        parts.append(f"    afina {' '.join([command.NAME, *(usage(action) for action in actions)])}")
        if actions:
            rows = [f"| `{called(action)}` | {escaped(sentence(action.help or ''))} |" for action in actions]
            parts.append("\n".join([words["argument"], "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def subparsers(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    return next(action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def shown(action: argparse.Action) -> bool:
    return action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)


def called(action: argparse.Action) -> str:
    """``--set key=value``, ``recipe``."""
    name = str(action.metavar or action.dest)
    if not action.option_strings:
        return name
    return action.option_strings[-1] if action.nargs == 0 else f"{action.option_strings[-1]} {name}"


def usage(action: argparse.Action) -> str:
    if action.option_strings:
        return f"[{called(action)}]"
    return f"[{called(action)} …]" if action.nargs in ("*", "+") else called(action)


def recipe_page(words: Mapping[str, str]) -> str:
    schema = Recipe.model_json_schema()
    parts = [words["recipe"], words["recipe-intro"]]
    for name, section in sections(schema, schema):
        parts.append(f"## {name or words['top']}")
        required = section.get("required", [])
        rows = [
            setting(f"{name}.{key}" if name else key, value, key in required, words)
            for key, value in section["properties"].items()
            if reference(value, schema) is None
        ]
        parts.append("\n".join([words["setting"], "|---|---|---|---|", *rows]))
    parts.append(f"## {words['whole']}\n\n```yaml\n{commented('my-model', 'tiny', ['examples.jsonl'])}```")
    return "\n\n".join(parts) + "\n"


def sections(section: Mapping[str, Any], schema: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The dotted name of each section of the recipe, from the top down."""
    yield name, section
    for key, value in section["properties"].items():
        if below := reference(value, schema):
            yield from sections(below, schema, f"{name}.{key}" if name else key)


def reference(value: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The section that a key stands for, or None where the key is a setting."""
    for part in (value, *value.get("anyOf", [])):
        if "$ref" in part:
            found: Mapping[str, Any] = schema["$defs"][part["$ref"].rpartition("/")[2]]
            return found
    return None


def setting(name: str, value: Mapping[str, Any], required: bool, words: Mapping[str, str]) -> str:
    default = words["required"] if required else f"`{yaml_word(value['default'])}`"
    explanation = " ".join(value.get("description", "").split())
    return f"| `{name}` | {default} | {escaped(allowed(value, words))} | {escaped(_(explanation)) if explanation else ''} |"


def yaml_word(value: Any) -> str:
    """A value as one writes it in YAML."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(yaml_word(part) for part in value) + "]"
    return {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)


def allowed(value: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """``auto, or a whole number ≥ 1`` in a few signs, from a setting's JSON schema."""
    if "anyOf" in value:
        return " · ".join(allowed(part, words) for part in value["anyOf"])
    if "const" in value or "enum" in value:
        return " · ".join(f"`{yaml_word(choice)}`" for choice in value.get("enum", [value.get("const")]))
    if value.get("type") == "object" and (kinds := value.get("additionalProperties", {})).get("type") in ("integer", "number"):
        return f"`{{layer: …}}` {allowed(kinds, words)}"
    if value.get("type") == "object":
        return "`{check: off}` · `warn` · `fix` · `drop` · `stop`"
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"`{{{', '.join(Recipe.model_json_schema()['$defs'][name]['properties'])}}}`"
    kind = value["type"]
    if kind == "array":
        return f"{words['list']}: {allowed(value.get('items') or value['prefixItems'][0], words)}"
    if kind == "string" and "pattern" in value:
        return f"{words['regular']} `{value['pattern'].strip('^$')}`"
    text = {"integer": words["int"], "number": words["number"], "string": words["text"], "null": words["none"]}.get(kind)
    if text is None:
        return "`true` · `false`"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return " ".join([text, ", ".join(f"{sign} {yaml_word(value[key])}" for key, sign in signs.items() if key in value)]).strip()


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") if text else ""


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
