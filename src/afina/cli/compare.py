"""`afina compare`: the third stage of a run, or a pilot before there is a training."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from afina.cli.stage import print_json, say_next
from afina.cli.target import add_target, load_target
from afina.cli.terminal import shown_events
from afina.core.translation import _

if TYPE_CHECKING:
    from afina.stages.pilot import Compared

NAME = "compare"
HELP = "measure base and tuned model on the held-out examples"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument(
        "--pilot", action="store_true", help=_("before there is a training: a few minutes on a part of the examples, compared")
    )


def run(args: argparse.Namespace) -> int:
    from afina.stages.pilot import compare_pilot, compare_trained  # torch and the like: not needed for help
    from afina.stages.workspace import working_in

    recipe = load_target(args)
    with shown_events() as listener, working_in(recipe, args.runs, (listener,)) as (folder, events):
        result = (compare_pilot if args.pilot else compare_trained)(recipe, folder, events)
    if args.json:
        print_json(_record(result))
    elif result.page:
        print(result.page)
    say_next(f"afina run {args.target}" if result.page else f"afina export {recipe.name}", args)
    return 0


def _record(result: Compared) -> dict[str, Any]:
    return {**asdict(result), "is_pilot": result.page is not None}
