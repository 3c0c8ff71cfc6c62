"""`afina deploy`: the exported model to Ollama, or to the embedded llama.cpp."""

from __future__ import annotations

import argparse

from afina.cli.stage import run_one
from afina.cli.target import add_target

NAME = "deploy"
HELP = "put the exported model where people use it: Ollama, or the embedded llama.cpp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    from afina.stages.deploy import deploy  # heavy: not needed for help

    return run_one(args, deploy, "afina chat {name}")
