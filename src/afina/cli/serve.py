"""`afina serve`: OpenAI's interface and Ollama's on 127.0.0.1, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from afina.cli.target import add_target, open_run
from afina.core.errors import RecipeError
from afina.core.translation import _

if TYPE_CHECKING:
    from afina.stages.serve import Served

NAME = "serve"
HELP = "serve the exported model to programs, as OpenAI's API and as Ollama's on 127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument(
        "--port", type=int, metavar=_("number"), help=_("port on 127.0.0.1 (default: deploy.port; 0 takes a free one)")
    )


def run(args: argparse.Namespace) -> int:
    from afina.stages.serve import serve  # heavy: not needed for help

    if args.port is not None and not 0 <= args.port <= 65535:
        raise RecipeError(
            _("--port {port}: ports go from 0 to 65535").format(port=args.port), fix=_("take for example --port 8090")
        )
    recipe, folder = open_run(args)

    def on_ready(served: Served) -> None:
        if args.json:
            print(json.dumps(asdict(served), ensure_ascii=False), flush=True)
            return
        print(served.address, flush=True)
        print(
            _("{model} answers at {api}, {context} tokens of context; Ctrl-C stops it. Try:\n{example}").format(**asdict(served)),
            file=sys.stderr,
            flush=True,
        )

    try:
        serve(recipe, folder, args.port, on_ready)
    except KeyboardInterrupt:
        print("\n" + _("stopped"), file=sys.stderr)
    return 0
