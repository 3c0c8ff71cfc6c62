"""`afina export`: the fourth stage of a run."""

from __future__ import annotations

import argparse

from afina.cli.stage import run_one
from afina.cli.target import add_target

NAME = "export"
HELP = "write GGUF files and prove them equal to the trained model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    from afina.stages.export import export  # torch and the like: not needed for help

    return run_one(args, export, "afina deploy {name}")
