"""`afina plan`: what a training needs and which choices fit, known before it starts."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from afina.cli.stage import print_json, say_next
from afina.cli.target import add_common, load_target
from afina.core.errors import RecipeError, ResourceError
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.core.units import format_bytes, format_duration, grouped

if TYPE_CHECKING:
    from afina.recipe.recipe import Recipe
    from afina.stages.plan import PlanResult, Step

NAME = "plan"
HELP = "what a training needs: memory, choices, time; known before it starts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", metavar="recipe", help=_("a recipe file (recipe.yaml) or the name of a run"))
    parser.add_argument(
        "--base", metavar=_("base"), help=_("without a recipe: a shape (llama-3.1-8b), a folder with a config.json, or a hub id")
    )
    parser.add_argument("--tokens", type=int, default=2048, metavar="N", help=_("with --base: tokens of the longest row (2048)"))
    device = parser.add_mutually_exclusive_group()
    device.add_argument("--gpu", metavar=_("card"), help=_("plan for this card (rtx3060) or this much memory (12GiB)"))
    device.add_argument("--cpu", action="store_true", help=_("plan for this machine's CPU"))
    parser.add_argument("--table", action="store_true", help=_("the longest context of known shapes on cards of 8 to 80 GiB"))
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """0 where the training fits, else 4, the code of ResourceError."""
    if args.table:
        return _print_table(args)
    from afina.stages.plan import assumed_sizes, plan, prepared_sizes, prepared_steps

    if (args.target is None) == (args.base is None):
        raise RecipeError(
            _("plan needs either a recipe or --base"),
            fix=_("afina plan recipe.yaml, or: afina plan --base llama-3.1-8b --gpu 12GiB"),
        )
    steps = None
    if args.base is not None:
        if args.tokens < 2:
            raise RecipeError(_("--tokens {count}: at least 2").format(count=args.tokens), fix=_("write --tokens 2048"))
        recipe = _recipe_around(args.base, args.set)
        rows = assumed_sizes(args.tokens, recipe.train)
    else:
        recipe = load_target(args)
        folder = RunFolder(args.runs / recipe.name)
        rows, steps = prepared_sizes(recipe, folder), prepared_steps(recipe, folder)
    result = plan(recipe, rows, args.gpu, args.cpu, steps)
    if args.json:
        print_json(asdict(result))
    else:
        _print(result)
    if args.target is not None and result.fits and args.gpu is None:
        say_next(f"afina train {recipe.name}", args)
    return 0 if result.fits else ResourceError.exit_code


def _recipe_around(base: str, overrides: list[str]) -> Recipe:
    """A recipe without data, for what only depends on the base and the settings."""
    from afina.recipe.load import apply_overrides, validate

    tree = {"name": "plan", "base": base, "data": {"examples": ["examples.jsonl"]}, "adapter": {}, "train": {}}
    apply_overrides(tree, overrides)
    return validate(tree, "--set")


def _print(result: PlanResult) -> None:
    """Needs, by category; the ladder; what it comes to."""
    print(
        _("needs {needed}, {free} are free on {target} ({dtype})").format(
            needed=format_bytes(result.peak_bytes), free=format_bytes(result.free_bytes), target=result.target, dtype=result.dtype
        )
    )
    for name, size in sorted(result.by_category.items(), key=lambda pair: -pair[1]):
        print(f"  {_category(name):<28} {format_bytes(size):>10}")
    if result.ram_bytes:
        print(f"  {_('moved to RAM'):<28} {format_bytes(result.ram_bytes):>10}")
    print(_("the way there, fastest first:"))
    for step in result.ladder:
        print(f"  {_step_words(step)}")
    if not result.fits:
        print(_("it does not fit: {missing} too much").format(missing=format_bytes(result.peak_bytes - result.free_bytes)))
        print(_("try one of: {ways}").format(ways=", ".join(result.ways_to_fit)))
    a_step = format_duration(result.seconds_per_step)
    if result.steps is None:
        time = _("{time} a step").format(time=a_step)
    else:
        time = _("{steps} steps of {time}: {all}, evaluations not counted").format(
            steps=grouped(result.steps), time=a_step, all=format_duration(result.steps * result.seconds_per_step)
        )
    print(_("{time}; {disk} on disk").format(time=time, disk=format_bytes(result.disk_bytes)))
    print(_("merging and rounding afterwards: {size} of RAM for each process").format(size=format_bytes(result.merge_bytes)))
    print(
        _("longest row {longest}, at most {most} tokens fit (the base was made for {base})").format(
            longest=grouped(result.longest_row),
            most=grouped(result.max_context_tokens),
            base=grouped(result.base_context_tokens),
        )
    )


def _step_words(step: Step) -> str:
    ways = {
        "none": _("nothing computed again"),
        "selective": _("norms and MLP again"),
        "full": _("every layer again"),
        "offload": _("every layer again, its input in RAM"),
    }
    tile = _(", MLP {count} tokens at a time").format(count=step.mlp_tile) if step.mlp_tile else ""
    at_once = _("{count} tokens at once").format(count=step.micro_tokens)
    if step.lanes > 1:
        at_once = _("{lanes} × {count} tokens side by side").format(lanes=step.lanes, count=step.micro_tokens)
    words = f"{at_once}, {ways[step.checkpointing]}{tile}"
    verdict = _("fits") if step.fits else _("too much")
    extra = round(step.extra, 2) + 0.0  # no -0 %
    return f"{format_bytes(step.needed_bytes):>10}  {extra:+4.0%} {_('arithmetic')}  {verdict:<9} {words}"


def _category(name: str) -> str:
    return {
        "weights": _("frozen weights"),
        "trained weights": _("trained weights"),
        "adapter": _("adapter"),
        "gradients": _("gradients"),
        "optimizer": _("optimizer"),
        "activations": _("activations"),
        "loss": _("loss"),
        "quantization": _("decoded weights"),
        "allocator": _("allocator (modelled)"),
        "cuda context": _("CUDA context (modelled)"),
        "program": _("this program"),
    }.get(name, name)


def _print_table(args: argparse.Namespace) -> int:
    """Markdown on standard output: a row a shape and way, a column a size of card."""
    from afina.stages.plan import CARD_SIZES, context_row, known_shapes

    table: dict[str, dict[str, tuple[int, ...]]] = {}
    for shape in [args.base] if args.base else known_shapes():
        for quantize in ("none", "nf4"):
            print(f"{shape}, {quantize} …", file=sys.stderr)
            recipe = _recipe_around(shape, ["adapter.rank=32", *args.set, f"adapter.quantize={quantize}"])
            table.setdefault(shape, {})["LoRA" if quantize == "none" else "QLoRA"] = context_row(shape, recipe)
    if args.json:
        print_json({"card_gib": CARD_SIZES, "longest_context_tokens": table})
        return 0
    print(f"| {_('base')} | | " + " | ".join(f"{size} GiB" for size in CARD_SIZES) + " |")
    print("|---|---|" + "---:|" * len(CARD_SIZES))
    for shape, ways in table.items():
        for way, found in ways.items():
            print(f"| {shape} | {way} | " + " | ".join(grouped(count) if count else "–" for count in found) + " |")
    return 0
