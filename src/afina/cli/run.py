"""`afina run`: all stages of a recipe, one after the other; goes on where it stopped."""

from __future__ import annotations

import argparse

from afina.cli.stage import print_json, say_next
from afina.cli.target import add_target, load_target
from afina.cli.terminal import shown_events
from afina.core.translation import _

NAME = "run"
HELP = "all stages: prepare, train, compare, export, deploy, report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    from afina.stages.run import run as run_all
    from afina.stages.summary import summary

    recipe = load_target(args)
    with shown_events() as listener:
        result = run_all(recipe, args.runs, (listener,))
    found = summary(result.run)
    if args.json:
        print_json(found.as_json())
    else:
        print(found.as_text())
    say_next(f"afina chat {recipe.name}", args)
    print(f"{_('report')}: {result.report}")
    return 0
