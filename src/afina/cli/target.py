"""What a command works on: a recipe file or the name of a run, with ``--set`` overrides."""

from __future__ import annotations

import argparse
import difflib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from afina.core.errors import RecipeError
from afina.core.run import RunFolder
from afina.core.translation import _

if TYPE_CHECKING:
    from afina.recipe.recipe import Recipe

_EXAMPLES = (".jsonl", ".json", ".csv", ".tsv", ".xlsx", ".parquet", ".arrow", ".md", ".txt", ".zip", ".gz")  # no recipe ends so


def add_target(parser: argparse.ArgumentParser) -> None:
    """The arguments that all commands on a recipe share."""
    parser.add_argument("target", metavar="recipe", help=_("a recipe file (recipe.yaml) or the name of a run"))
    add_common(parser)


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="key=value",
        help=_("change a setting of the recipe, for example train.epochs=2"),
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar=_("folder"), help=_("where runs are kept (default: runs)")
    )
    parser.add_argument("--json", action="store_true", help=_("print the result as JSON on standard output"))


def load_target(args: argparse.Namespace) -> Recipe:
    """The recipe that ``args.target`` names, with its overrides."""
    from afina.recipe.recipe import Recipe  # pydantic: not needed for help

    target = Path(args.target)
    if target.suffix.lower() in _EXAMPLES and target.is_file():
        raise RecipeError(
            _("{path} holds examples, and a recipe is wanted here").format(path=target),
            fix=_("write one with: afina new {name}").format(name=f"my-model {shlex.quote(str(target))}"),
        )
    kept: Path = args.runs / args.target / "recipe.yaml"
    if target.suffix in (".yaml", ".yml") or target.is_file():
        return Recipe.load(target, tuple(args.set))
    if target.is_dir() and (target / "recipe.yaml").is_file() and not kept.is_file():
        return Recipe.load(target / "recipe.yaml", tuple(args.set))
    if kept.is_file():
        return Recipe.load(kept, tuple(args.set))
    runs = sorted(path.parent.name for path in args.runs.glob("*/recipe.yaml"))
    close = difflib.get_close_matches(args.target, runs, n=1)
    what = _("there is neither a recipe file nor a run named {target}").format(target=args.target)
    if close:
        what += _("; did you mean '{name}'?").format(name=close[0])
    elif runs:
        what += _("; the runs in {folder} are: {names}").format(folder=args.runs, names=", ".join(runs))
    raise RecipeError(what, fix=_("write a recipe with: afina new NAME; or try: afina demo"))


def open_run(args: argparse.Namespace) -> tuple[Recipe, RunFolder]:
    """The recipe and the run's folder, for commands that only read it."""
    recipe = load_target(args)
    return recipe, RunFolder(args.runs / recipe.name)
