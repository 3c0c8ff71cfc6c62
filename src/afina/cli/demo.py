"""`afina demo`: the whole chain on the embedded model and a small shop's examples, in minutes, on any machine."""

from __future__ import annotations

import argparse
import sys
import time
from importlib.resources import as_file, files

from afina.cli.stage import print_json, say_next
from afina.cli.target import add_common
from afina.cli.terminal import shown_events
from afina.core.translation import _
from afina.core.units import format_duration

NAME = "demo"
HELP = "train, prove and deploy a small model before your eyes, in minutes, without a GPU"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    from afina.recipe.recipe import Recipe
    from afina.stages.run import run as run_all
    from afina.stages.summary import summary

    start = time.monotonic()
    print(
        _(
            "A shop wants all its answers in one fixed form. afina trains the embedded model 'tiny' on its examples,\n"
            "compares it with the untrained base on examples that neither has seen, writes GGUF files, proves them\n"
            "equal to the trained model, and starts them.\n"
            "Look at the form of the answers: for right advice the model is far too small.\n"
            "Two to five minutes on two CPU cores."
        ),
        file=sys.stderr,
    )
    with as_file(files("afina.recipe") / "presets" / "shop") as folder, shown_events() as listener:
        recipe = Recipe.load(folder / "recipe.yaml", tuple(args.set))
        result = run_all(recipe, args.runs, (listener,))
        found = summary(result.run)
    if args.json:
        print_json(found.as_json())
    else:
        print(found.as_text())
        print(f"{_('report')}: {result.report}")
    print(_("the demo took {time}").format(time=format_duration(time.monotonic() - start)), file=sys.stderr)
    say_next(f"afina chat {recipe.name}", args)
    return 0
