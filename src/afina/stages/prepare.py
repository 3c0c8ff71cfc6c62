"""Prepare: from files of examples to conversations, their split, and token rows with the mask ``trained``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from afina import __version__
from afina.core.errors import DataError
from afina.core.events import Events, Progress
from afina.core.files import write_atomic
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.data.conversation import Conversation, Finding
from afina.data.read.examples import read_examples
from afina.data.read.files import find_files
from afina.data.render import Renderer, Row, preview
from afina.data.rows import save_rows
from afina.data.split import split
from afina.data.store import save_conversations
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.model.base import Base, describe, resolve_base
from afina.model.head import twins
from afina.recipe.recipe import Recipe
from afina.stages import fingerprint
from afina.stages.stage import Outcome, StageWork, run_stage

NAME = "prepare"
SPLITS = ("train", "val", "test")
TEMPLATE = "template.jinja"


@dataclass(frozen=True)
class Prepared:
    """Counts a split: conversations and tokens; refused rows a check; the longest row."""

    conversations: dict[str, int]
    tokens: dict[str, int]
    trained_tokens: dict[str, int]
    refused: dict[str, int]
    longest: int
    max_tokens: int
    template: str
    end_of_turn: str
    folder: Path


def prepare(recipe: Recipe, run: RunFolder, events: Events) -> Prepared:
    """Prepares the recipe's examples. Raises DataError, with file and line, for files and bases that cannot be used."""
    base = resolve_base(recipe.base, recipe.revision)
    renderer = build_renderer(recipe, base)
    files = find_files(recipe.data.examples)
    limit = max_tokens(recipe, base)

    def work(folder: Path) -> Outcome:
        _tell_of_the_end(renderer, base, events)
        reading = read_examples(recipe.data, recipe.system, events)
        kept, rows, refused = _render(reading.conversations, renderer, limit, events)
        refusals = [*reading.refusals, *refused]
        _require_enough_kept(len(kept), refusals, recipe.data.max_broken)
        sides = split(kept, recipe.data.split)
        outputs = [folder / "refused.jsonl", folder / TEMPLATE, folder / "preview.txt"]
        write_atomic(outputs[0], "".join(json.dumps(_refusal_record(r), ensure_ascii=False) + "\n" for r in refusals))
        write_atomic(outputs[1], renderer.template.source)
        result: dict[str, Any] = {"conversations": {}, "tokens": {}, "trained_tokens": {}}
        for side in SPLITS:
            conversations = sides[side]
            side_rows = [row for conversation in conversations for row in rows[conversation.source]]
            save_conversations(folder / f"{side}.jsonl", conversations)
            save_rows(folder / f"{side}.safetensors", side_rows, conversations)
            outputs += [folder / f"{side}.jsonl", folder / f"{side}.safetensors"]
            result["conversations"][side] = len(conversations)
            result["tokens"][side] = sum(len(row.ids) for row in side_rows)
            result["trained_tokens"][side] = sum(row.trained_tokens for row in side_rows)
        shown = [row for conversation in sides["train"][:3] for row in rows[conversation.source]]
        write_atomic(outputs[2], "\n\n".join(f"{row.source}\n{preview(row, renderer.tokenizer)}" for row in shown) + "\n")
        result |= {
            "refused": dict(Counter(refusal.check for refusal in refusals)),
            "longest": max(len(row.ids) for conversation in kept for row in rows[conversation.source]),
            "max_tokens": limit,
            "template": renderer.template.name,
            "end_of_turn": renderer.end_of_turn,
        }
        return Outcome(result, outputs, _summary(result))

    manifest = run_stage(
        run,
        events,
        StageWork(
            name=NAME,
            inputs={
                "afina": __version__,
                "examples": fingerprint.of_files(files),
                "recipe": fingerprint.of_settings(recipe.data, recipe.system, renderer.template.source, limit),
                "tokenizer": fingerprint.of_tokenizer(base),
            },
            plan=_("{files} files of examples for {base}; chat template: {template}").format(
                files=len(files), base=describe(base), template=renderer.template.name
            ),
            work=work,
        ),
    )
    return Prepared(**manifest.result, folder=run.stage(NAME))


def build_renderer(recipe: Recipe, base: Base) -> Renderer:
    """The recipe's template on the base's tokenizer; every problem between the two is an error here, before any work."""
    tokenizer = Tokenizer.load(base.folder)
    vocabulary = int(base.config["vocab_size"])
    if tokenizer.vocab_size > vocabulary:
        raise DataError(
            _("{folder}: the tokenizer has {tokens} tokens, the model's vocabulary {size}").format(
                folder=base.folder, tokens=tokenizer.vocab_size, size=vocabulary
            ),
            fix=_("take tokenizer and weights of the same model"),
        )
    renderer = Renderer.build(choose_template(recipe.chat_template, tokenizer), tokenizer)
    unlearned_end = renderer.template.name == "plain" and twins(base, renderer.end_of_turn_id)
    if unlearned_end and tokenizer.bos_id is not None and not twins(base, tokenizer.bos_id):
        return Renderer.build(choose_template(recipe.chat_template, tokenizer, ends_with_bos=True), tokenizer)
    return renderer


def _tell_of_the_end(renderer: Renderer, base: Base, events: Events) -> None:
    """Says where the base never learned the token that closes an answer: nothing would teach the model to stop."""
    tokenizer = renderer.tokenizer
    if renderer.template.name == "plain" and renderer.end_of_turn != tokenizer.eos_token:
        text = _("{base} never learned its end token {eos}; answers end with {end} instead").format(
            base=base.name, eos=tokenizer.eos_token, end=renderer.end_of_turn
        )
        events.info(NAME, text)
    elif count := twins(base, renderer.end_of_turn_id):
        text = _(
            "{base} never learned {end}, which ends an answer: {count} other tokens have the same weights, so it may not stop"
        ).format(base=base.name, end=renderer.end_of_turn, count=count)
        events.warn(NAME, text)


def max_tokens(recipe: Recipe, base: Base) -> int:
    """The longest row allowed: the recipe's, at most what the base was made for."""
    wanted = recipe.train.max_tokens
    return base.context if wanted == "auto" else min(wanted, base.context)


def _render(
    conversations: Sequence[Conversation], renderer: Renderer, limit: int, events: Events
) -> tuple[list[Conversation], dict[Any, list[Row]], list[Finding]]:
    kept: list[Conversation] = []
    rows: dict[Any, list[Row]] = {}
    refused: list[Finding] = []
    every = max(1, len(conversations) // 50)
    for number, conversation in enumerate(conversations, 1):
        result = renderer.rows(conversation, limit)
        if isinstance(result, Finding):
            refused.append(result)
        else:
            kept.append(conversation)
            rows[conversation.source] = result
        if number % every == 0 or number == len(conversations):
            events.emit(Progress(NAME, _("tokens"), number, len(conversations), _("conversations")))
    return kept, rows, refused


def _require_enough_kept(kept: int, refusals: Sequence[Finding], max_broken: float) -> None:
    share = len(refusals) / max(1, kept + len(refusals))
    if share <= max_broken and kept:
        return
    first = "\n".join(f"  {refusal.source}: {refusal.reason} [{refusal.check}]" for refusal in refusals[:5])
    raise DataError(
        _("{count} of {all} rows cannot be used ({share:.0%}; data.max_broken is {limit:.0%}):\n{first}").format(
            count=len(refusals), all=kept + len(refusals), share=share, limit=max_broken, first=first
        ),
        fix=_("mend these rows, or allow it with --set data.max_broken={share:.2f}").format(share=min(1.0, share + 0.01)),
    )


def _refusal_record(refusal: Finding) -> dict[str, Any]:
    return {**asdict(refusal), "source": str(refusal.source)}


def _summary(result: dict[str, Any]) -> str:
    counts, tokens, trained = result["conversations"], result["tokens"]["train"], result["trained_tokens"]["train"]
    refused = sum(result["refused"].values())
    text = _("{train} to train on, {val} to choose by, {test} held out; {tokens:,} tokens, {share:.0%} of them trained").format(
        **counts, tokens=tokens, share=trained / max(1, tokens)
    )
    return text + (_("; {count} rows refused (listed in refused.jsonl)").format(count=refused) if refused else "")
