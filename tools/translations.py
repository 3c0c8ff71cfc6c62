"""Checks that every text for the user has its translation: ``python -m tools.translations``.

A text is the literal in a call ``_("…")`` anywhere in the package, the ``HELP`` of each command, and the explanation of each
setting of the recipe. It must stand in each catalogue, with the same placeholders and the same white space around it, and a
catalogue holds nothing else. ``--write`` brings the catalogues up to date, new texts without translation.
"""

from __future__ import annotations

import argparse
import ast
import json
import string
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from afina.core.translation import read_po

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "afina"
CATALOGUES = PACKAGE / "core" / "locale"
RECIPE = PACKAGE / "recipe" / "recipe.py"
HEADER = 'msgid ""\nmsgstr ""\n"Language: {language}\\n"\n"Content-Type: text/plain; charset=UTF-8\\n"\n'


@dataclass(frozen=True)
class Text:
    """A text for the user and the files, below the package, in which it stands."""

    text: str
    files: tuple[str, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--write", action="store_true", help="add the missing texts, without translation, and drop the stale ones"
    )
    arguments = parser.parse_args()
    texts = find_texts()
    problems: list[str] = list(untranslatable())
    for path in sorted(CATALOGUES.glob("*.po")):
        if arguments.write:
            path.write_text(catalogue_text(path, texts), encoding="utf-8")
        problems += [f"{path.name}: {problem}" for problem in problems_of(path.read_text(encoding="utf-8"), texts)]
    print("\n".join([*problems, f"{len(texts)} texts, {len(problems)} problems"]))
    return 1 if problems else 0


def find_texts() -> list[Text]:
    """Every text for the user, in the order of the files and of the places in them."""
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        for text in texts_in(path):
            if name not in found.setdefault(text, []):
                found[text].append(name)
    return [Text(text, tuple(files)) for text, files in found.items()]


def texts_in(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from (text for call in doors(tree) if isinstance(text := literal(call), str))
    if path.parent.name == "cli":
        yield from (str(ast.literal_eval(node.value)) for node in tree.body if isinstance(node, ast.Assign) and is_help(node))
    if path == RECIPE:
        yield from field_explanations(tree)


def doors(tree: ast.Module) -> list[ast.Call]:
    """The calls of ``_``, in the order of their places."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    found = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "_"]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def literal(call: ast.Call) -> object:
    return call.args[0].value if len(call.args) == 1 and isinstance(call.args[0], ast.Constant) else None


def is_help(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "HELP" for target in node.targets)


def field_explanations(tree: ast.Module) -> Iterator[str]:
    """The text below each field of each section."""
    for section in tree.body:
        if isinstance(section, ast.ClassDef):
            for field, below in zip(section.body, section.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                    yield " ".join(str(below.value.value).split())


def untranslatable() -> Iterator[str]:
    """Calls of ``_`` whose text only the run knows (an f-string, a sum): they would never be found in a catalogue."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for call in doors(ast.parse(path.read_text(encoding="utf-8"))):
            if literal(call) is None and isinstance(call.args[0], ast.JoinedStr | ast.BinOp):
                where = f"{path.relative_to(PACKAGE)}:{call.lineno}"
                yield f"{where}: _() takes a literal; fill placeholders afterwards with .format()"


def problems_of(catalogue: str, texts: list[Text]) -> Iterator[str]:
    """What a catalogue lacks, has too much of, or has wrong."""
    entries = read_po(catalogue)
    wanted = {text.text: text for text in texts}
    for text in texts:
        where = text.files[0]
        if text.text not in entries:
            yield f"not translated ({where}): {text.text!r}"
        elif placeholders(text.text) != placeholders(entries[text.text]):
            yield f"other placeholders ({where}): {text.text!r} → {entries[text.text]!r}"
        elif edges(text.text) != edges(entries[text.text]):
            yield f"other white space at the edges ({where}): {text.text!r} → {entries[text.text]!r}"
    yield from (f"in no file any more: {text!r}" for text in entries if text not in wanted)


def placeholders(text: str) -> list[str]:
    """The names in braces, sorted. A text that is no format string has none."""
    try:
        return sorted(name for _text, name, _spec, _conversion in string.Formatter().parse(text) if name is not None)
    except ValueError:
        return []


def edges(text: str) -> tuple[str, str]:
    return text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]


def catalogue_text(path: Path, texts: list[Text]) -> str:
    """The catalogue with every text of the package, in order, and the translations that it had."""
    entries = read_po(path.read_text(encoding="utf-8"))
    parts = [HEADER.format(language=path.stem)]
    parts += [entry(text, entries.get(text.text, "")) for text in texts]
    return "\n".join(parts)


def entry(text: Text, translation: str) -> str:
    return f"#: {' '.join(text.files)}\nmsgid {quoted(text.text)}\nmsgstr {quoted(translation)}\n"


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
