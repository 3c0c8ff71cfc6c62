"""How a command runs one stage: recipe, run folder, events on the terminal, then what to type next."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from afina.cli.target import load_target
from afina.cli.terminal import shown_events
from afina.core.translation import _

if TYPE_CHECKING:
    from afina.core.events import Events
    from afina.core.run import RunFolder
    from afina.recipe.recipe import Recipe


def run_one(
    args: argparse.Namespace, stage: Callable[[Recipe, RunFolder, Events], Any], next_command: str, *, leads: bool = True
) -> int:
    """Runs ``stage`` on the command's target; its result goes to standard output with ``--json``.

    One of several processes that does not lead runs it in silence.
    """
    from afina.stages.workspace import working_in

    recipe = load_target(args)
    if not leads:
        with working_in(recipe, args.runs, leads=False) as (run, events):
            stage(recipe, run, events)
        return 0
    with shown_events() as listener, working_in(recipe, args.runs, (listener,)) as (run, events):
        result = stage(recipe, run, events)
    if args.json:
        print_json(asdict(result))
    say_next(next_command.format(name=recipe.name), args)
    return 0


def say_next(command: str, args: argparse.Namespace) -> None:
    """The command to type next, with the same folder of runs."""
    where = "" if str(args.runs) == "runs" else f" --runs {shlex.quote(str(args.runs))}"
    print(f"{_('next')}: {command}{where}", file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))
