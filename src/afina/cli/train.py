"""`afina train`: the second stage of a run; a stopped training goes on."""

from __future__ import annotations

import argparse

from afina.cli.stage import run_one
from afina.cli.target import add_target

NAME = "train"
HELP = "train the adapter on the prepared examples"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    from afina.stages.train import train  # torch and the like: not needed for help

    return run_one(args, train, "afina compare {name}")
