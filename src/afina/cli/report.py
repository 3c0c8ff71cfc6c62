"""`afina report`: one page about a run."""

from __future__ import annotations

import argparse

from afina.cli.stage import run_one
from afina.cli.target import add_target

NAME = "report"
HELP = "write the run's page, report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    from afina.stages.report import report  # torch and the like: not needed for help

    return run_one(args, report, "afina chat {name}")
