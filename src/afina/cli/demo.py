"""`afina demo`: what fine-tuning, documents and a prompt are each good for, measured before your eyes on a small shop."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from afina.cli.new import copy_example
from afina.cli.stage import print_json, say_next
from afina.cli.target import add_common
from afina.cli.terminal import shown_events
from afina.core.translation import _, language
from afina.core.units import Displayed, format_bytes, format_duration

if TYPE_CHECKING:
    from afina.core.events import Events
    from afina.core.run import RunFolder
    from afina.recipe.recipe import Recipe
    from afina.stages.demo import ByKind

NAME = "demo"
HELP = "train, prove and deploy a small model before your eyes, in minutes, without a GPU"
LANGUAGES = ("es", "en")
LARGE, CARD = "mistral-7b", "12GiB"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("--lang", choices=LANGUAGES, help=_("the shop's language (default: yours)"))
    parser.add_argument(
        "--keep",
        type=Path,
        metavar=_("folder"),
        help=_("put the shop's files into this folder too, to change and run them again"),
    )


def run(args: argparse.Namespace) -> int:
    from afina.recipe.recipe import Recipe
    from afina.stages.demo import by_kind
    from afina.stages.run import require_possible
    from afina.stages.summary import summary
    from afina.stages.workspace import working_in

    start = time.monotonic()
    lang = args.lang or (language() if language() in LANGUAGES else "en")
    _say(
        _(
            "A hardware store wants its answers in one fixed form, with prices from its own documents. afina trains the\n"
            "embedded model 'tiny' on its examples and asks who does what best: a prompt, examples in the prompt, the\n"
            "documents (RAG), the tuned model, or the tuned model with the documents. Nothing is scripted.\n"
            "Look at form and facts: for good advice the model is far too small."
        )
    )
    if args.keep:
        copy_example(lang, args.keep, NAME)
    with as_file(files("afina.recipe") / "presets" / "shop" / lang) as shop, shown_events() as listener:
        recipe = Recipe.load(shop / "recipe.yaml", tuple(args.set))
        with working_in(recipe, args.runs, (listener,)) as (folder, events):
            require_possible(recipe, folder)
            report = _stages(recipe, folder, events)
        found = summary(folder)
        kinds = by_kind(folder, shop / "questions.jsonl")
    if args.json:
        print_json({**found.as_json(), "by_kind": asdict(kinds)})
    else:
        print(found.as_text())
        _print_kinds(kinds)
        print(f"{_('report')}: {report}")
    _say(_("the demo took {time}").format(time=format_duration(time.monotonic() - start)))
    say_next(f"afina chat {recipe.name}", args)
    _say(f"{_('into Ollama')}: afina deploy {recipe.name} --to ollama")
    _say(f"{_('with your own data')}: afina new {'mi-tienda' if lang == 'es' else 'my-shop'} --example {lang}")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _stages(recipe: Recipe, folder: RunFolder, events: Events) -> Path:
    """All stages in their order, with what there is to see between them; returns the page's path."""
    from afina.stages.compare import compare
    from afina.stages.deploy import deploy
    from afina.stages.export import export
    from afina.stages.prepare import prepare
    from afina.stages.report import report
    from afina.stages.train import train

    prepare(recipe, folder, events)
    _show_problem(folder)
    _show_plan(recipe, folder)
    train(recipe, folder, events)
    _show_curve(folder)
    compare(recipe, folder, events)
    export(recipe, folder, events)
    deploy(recipe, folder, events)
    return report(recipe, folder, events).path


def _show_problem(folder: RunFolder) -> None:
    from afina.stages.demo import problems

    for found in problems(folder)[:2]:
        _say(f"  {_('found in the data')}: {found.place}: {found.reason} ({found.check}, {found.done})")


def _show_plan(recipe: Recipe, folder: RunFolder) -> None:
    """This training's memory and time, beside those of a 7B model on a 12 GiB card with the same data in their usual length."""
    from afina.stages.plan import assumed_sizes, prepared_sizes, way_of

    small = way_of(recipe, prepared_sizes(recipe, folder))
    adapter = recipe.adapter.model_copy(update={"quantize": "nf4"})
    large = way_of(recipe.model_copy(update={"base": LARGE, "adapter": adapter}), assumed_sizes(1024, recipe.train), gpu=CARD)
    for name, (_setup, found) in (("tiny", small), (f"{LARGE}, QLoRA", large)):
        _say(
            "  "
            + _("plan for {base}: needs {needed} of {free} on {target}, {seconds} a step").format(
                base=name,
                needed=format_bytes(found.chosen.needed_bytes),
                free=format_bytes(found.target.free_bytes),
                target=found.target.name,
                seconds=format_duration(found.seconds_per_step),
            )
        )


def _show_curve(folder: RunFolder) -> None:
    from afina.stages.demo import curve, losses

    training, held_out = losses(folder)
    if training:
        _say(f"  {_('loss')} {Displayed(training[0]):.2f} {curve(training)} {Displayed(training[-1]):.2f}")
    if held_out:
        _say(f"  {_('on validation')} {' → '.join(f'{Displayed(loss):.2f}' for loss in held_out)}")


def _print_kinds(found: ByKind) -> None:
    """The table of right answers by kind of question, and what of the demo's claims the numbers show."""
    from afina.stages.demo import claims, table

    rows = table(found)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()
    for claim in claims(found):
        print(f"  {_('shown') if claim.holds else _('not shown this time')}: {claim.text}")
    print()
