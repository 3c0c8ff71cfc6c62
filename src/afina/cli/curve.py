"""`afina curve`: would more examples help?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from afina.cli.stage import print_json, say_next
from afina.cli.target import add_target, load_target
from afina.cli.terminal import shown_events
from afina.core.files import read_json

if TYPE_CHECKING:
    from afina.report.curve_page import Table

NAME = "curve"
HELP = "whether more examples would help: small trainings on parts of them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    from afina.stages.curve import curve  # torch and the like: not needed for help
    from afina.stages.curve_words import kind_table, size_table, verdict_words
    from afina.stages.workspace import working_in

    recipe = load_target(args)
    with shown_events() as listener, working_in(recipe, args.runs, (listener,)) as (folder, events):
        result = curve(recipe, folder, events)
    if args.json:
        print_json({**read_json(result.folder / "result.json"), "text": verdict_words(result.curve), "page": str(result.page)})
    else:
        _print(size_table(result.curve))
        if kinds := kind_table(result.curve):
            _print(kinds)
        print(verdict_words(result.curve))
        print(result.page)
    say_next(f"afina run {args.target}", args)
    return 0


def _print(table: Table) -> None:
    """A table on standard output: names on the left, figures below each other."""
    lines = [table.heads, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for name, *cells in lines:
        figures = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print("  ".join([name.ljust(widths[0]), *figures]).rstrip())
    print()
