"""`afina deploy`: the exported model to Ollama, or to the embedded llama.cpp; and the versions that are there."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from afina.cli.stage import print_json, run_one
from afina.cli.target import add_target, open_run
from afina.core.translation import _
from afina.core.units import format_bytes

NAME = "deploy"
HELP = "put the exported model where people use it: Ollama, or the embedded llama.cpp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument(
        "--to", metavar=_("place"), help=_("ollama, embedded, or the address of an Ollama: the same as --set deploy.to=…")
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help=_("show the versions that Ollama has"))
    instead.add_argument("--rollback", action="store_true", help=_("make the version before the latest again"))
    instead.add_argument("--remove", metavar=_("version"), help=_("delete a version, such as v2, from Ollama"))


def run(args: argparse.Namespace) -> int:
    from afina.stages import deploy  # heavy: not needed for help

    if args.to is not None:
        args.set.append(f"deploy.to={args.to}")
    if args.list:
        found = deploy.list_versions(open_run(args)[0])
        if args.json:
            print_json([asdict(version) for version in found])
        elif not found:
            print(_("no version is there yet; make one with: afina deploy {name}").format(name=args.target), file=sys.stderr)
        for version in [] if args.json else found:
            print(
                f"{version.name:<24} {format_bytes(version.size_bytes):>10}  {version.modified[:19]}  {' '.join(version.names)}"
            )
        return 0
    if args.rollback:
        recipe, folder = open_run(args)
        print(_("{name} is {version} now").format(name=recipe.deploy.name or recipe.name, version=deploy.go_back(recipe, folder)))
        return 0
    if args.remove is not None:
        deploy.remove_version(open_run(args)[0], args.remove)
        print(_("{version} is deleted").format(version=args.remove))
        return 0
    return run_one(args, deploy.deploy, "afina chat {name}")
