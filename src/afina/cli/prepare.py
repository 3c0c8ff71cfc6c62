"""`afina prepare`: the first stage of a run."""

from __future__ import annotations

import argparse

from afina.cli.stage import run_one
from afina.cli.target import add_target

NAME = "prepare"
HELP = "read, check and tokenize the examples"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    from afina.stages.prepare import prepare  # torch and the like: not needed for help

    return run_one(args, prepare, "afina train {name}")
