"""`afina prepare`: the first stage of a run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.text import Text

from afina.cli.stage import run_one
from afina.cli.target import add_target, load_target
from afina.core.errors import RecipeError
from afina.core.translation import _

if TYPE_CHECKING:
    from afina.report.prepared import ShownRow

NAME = "prepare"
HELP = "read, check and tokenize the examples"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument(
        "--show", type=int, default=0, metavar=_("rows"), help=_("print so many rendered rows; what is learned is marked")
    )
    parser.add_argument("--force", action="store_true", help=_("go on with fewer than 50 examples"))


def run(args: argparse.Namespace) -> int:
    from afina.stages.prepare import prepare  # libraries of data: not needed for help

    if args.show < 0:
        raise RecipeError(
            _("--show {count}: there are no {count} rows").format(count=args.show), fix=_("write for example: --show 3")
        )
    if args.force:
        args.set = [*args.set, "data.checks.few-examples=warn"]
    code = run_one(args, prepare, "afina train {name}")
    if args.show > 0:
        from afina.stages.prepare_summary import rendered_rows

        show(rendered_rows(load_target(args), args.runs, args.show), sys.stderr if args.json else sys.stdout)
    return code


def show(rows: Sequence[ShownRow], stream: TextIO) -> None:
    """Prints rows: what is learned stands between ⟦ and ⟧, and in colour where there is one."""
    console = Console(file=stream, highlight=False, soft_wrap=True)
    for row in rows:
        console.print(Text(f"\n── {row.place} ──", style="bold"))
        text = Text()
        for words, trained in row.segments:
            text.append(f"⟦{words}⟧" if trained else words, style="green" if trained else "dim")
        console.print(text)
