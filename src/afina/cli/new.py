"""`afina new`: a recipe with every setting explained, ready to be filled in."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from afina.core.errors import RecipeError
from afina.core.files import write_atomic
from afina.core.translation import _

NAME = "new"
HELP = "write a recipe with every setting explained"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help=_("name of the model to be"))
    parser.add_argument("examples", nargs="*", default=["examples.jsonl"], help=_("files of examples (default: examples.jsonl)"))
    parser.add_argument("--base", default="tiny", help=_("base model: tiny, a folder, or a hub id"))
    parser.add_argument(
        "--example",
        choices=("es", "en"),
        help=_("copy the demo's shop in this language into a folder of that name, to start from"),
    )
    parser.add_argument("--output", type=Path, default=Path("recipe.yaml"), help=_("the file to write (default: recipe.yaml)"))
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    from afina.recipe.recipe import NAME_PATTERN
    from afina.recipe.template import commented

    if not re.fullmatch(NAME_PATTERN, args.name):
        raise RecipeError(
            _("the name {name!r} does not serve as the name of a model").format(name=args.name),
            fix=_("use lower-case letters, digits, . _ - (at most 63)"),
        )
    if args.example:
        folder = Path(args.name)
        copy_example(args.example, folder, args.name)
        print(f"{_('next')}: afina prepare {folder / 'recipe.yaml'}", file=sys.stderr)
        return 0
    if args.output.exists():
        raise RecipeError(
            _("{path} is there already").format(path=args.output), fix=_("name another file with --output, or delete it first")
        )
    folder = args.output.parent
    base = _below(folder, args.base) if args.base.startswith(".") or Path(args.base).is_dir() else args.base
    write_atomic(args.output, commented(args.name, base, [_below(folder, name) for name in args.examples]))
    print(_("wrote {path}").format(path=args.output), file=sys.stderr)
    for name in args.examples:
        if not Path(name).exists() and not any(mark in name for mark in "*?["):
            print(_("{path} is not there yet: write your examples into it first").format(path=name), file=sys.stderr)
    print(f"{_('next')}: afina prepare {shlex.quote(str(args.output))}", file=sys.stderr)
    return 0


def _below(folder: Path, name: str) -> str:
    """A path from here as a recipe in ``folder`` has to name it: what is relative there begins at its folder."""
    if Path(name).is_absolute() or folder.absolute() == Path.cwd():
        return name
    return Path(os.path.relpath(Path(name).absolute(), folder.absolute())).as_posix()


def copy_example(lang: str, folder: Path, name: str) -> None:
    """Puts the shop of the demo into a new folder: recipe, examples, questions and documents. ``name``: of the model to be."""
    if folder.exists():
        raise RecipeError(_("{path} is there already").format(path=folder), fix=_("name another folder, or delete it first"))
    _copy(files("afina.recipe") / "presets" / "shop" / lang, folder)
    recipe = folder / "recipe.yaml"
    write_atomic(recipe, re.sub(r"(?m)^name: .*", f"name: {name}", recipe.read_text(encoding="utf-8")))
    print(_("wrote {path}").format(path=folder), file=sys.stderr)


def _copy(source: Traversable, target: Path) -> None:
    target.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.is_dir():
            _copy(entry, target / entry.name)
        else:
            write_atomic(target / entry.name, entry.read_text(encoding="utf-8"))
