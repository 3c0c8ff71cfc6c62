"""`afina train`: the second stage of a run; a stopped training goes on. The one command that torchrun may start several times."""

from __future__ import annotations

import argparse

from afina.cli.stage import run_one
from afina.cli.target import add_target

NAME = "train"
HELP = "train the adapter on the prepared examples"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    from afina.stages.train import one_of_several, train  # torch and the like: not needed for help

    with one_of_several() as leads:
        return run_one(args, train, "afina compare {name}", leads=leads)
