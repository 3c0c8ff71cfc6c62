"""`afina compare`: the third stage of a run."""

from __future__ import annotations

import argparse

from afina.cli.stage import run_one
from afina.cli.target import add_target

NAME = "compare"
HELP = "measure base and tuned model on the held-out examples"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    from afina.stages.compare import compare  # torch and the like: not needed for help

    return run_one(args, compare, "afina export {name}")
