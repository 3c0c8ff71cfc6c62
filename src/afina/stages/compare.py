"""Compare: the base as it is, the base with examples or passages before the question, and the tuned model, on held-out examples.

All run in the type in which the model will be served (16 or 32 bits, the adapter beside the base), never in NF4.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from afina import __version__
from afina.compare.comparison import (
    Comparison,
    choose_questions,
    compare_performances,
    in_a_row,
    load_comparison,
    save_comparison,
    score_answers,
    title,
)
from afina.compare.contenders import (
    STAGE,
    Contender,
    Given,
    HeldOut,
    Knowledge,
    Task,
    Way,
    as_pilot,
    choose_contenders,
    give,
    names_of,
    perform_all,
)
from afina.compare.embedding import Hybrid, Told, embedder
from afina.compare.prompts import MakeSearch, Passage, Room, asked_in
from afina.compare.retrieval import Index
from afina.compare.standing import main_metric, save_standing, scores_of, stand
from afina.compare.standing import words as standing_words
from afina.core.errors import DataError, RecipeError
from afina.core.events import Events
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.core.units import format_bytes, format_count, format_duration, format_share
from afina.data.conversation import Conversation
from afina.data.documents.document import Chunk
from afina.data.store import load_conversations, load_rows
from afina.measure.intervals import Interval
from afina.measure.pattern import obeys
from afina.model.base import resolve_base
from afina.model.load import choose_device, choose_dtype
from afina.recipe.recipe import Recipe
from afina.stages import fingerprint
from afina.stages.prepare import CHUNKS, build_renderer
from afina.stages.prepare import NAME as PREPARE
from afina.stages.stage import Outcome, StageWork, run_stage
from afina.stages.tuned import tuned_model
from afina.train.loop import STAGE as TRAIN

NAME = STAGE
VECTORS = "vectors"  # below the run's folder: of embedded texts, by their content
_FEW = 20  # below this many examples an interval is wider than most differences


@dataclass(frozen=True)
class CompareResult:
    comparison: Comparison
    folder: Path


def compare(recipe: Recipe, run: RunFolder, events: Events, *, pilot: bool = False) -> CompareResult:
    """Compares the recipe's contenders on the run's held-out examples. What is trained is called a ``pilot`` where it is one."""
    run.require(PREPARE)
    trained = run.require(TRAIN)
    base = resolve_base(recipe.base, recipe.revision)
    renderer = build_renderer(recipe, base)
    device = choose_device(recipe.train.device)
    dtype, _why = choose_dtype(recipe.train.dtype, device, base.weight_bytes // 2)
    dtype_name = str(dtype).removeprefix("torch.")
    settings = recipe.compare
    seed = recipe.data.split.seed
    held_out = load_conversations(run.stage(PREPARE), "test")
    if not held_out:
        raise DataError(
            _("{folder} holds no held-out example: there is nothing to compare on").format(folder=run.stage(PREPARE)),
            fix=_("raise data.split.test, or add examples"),
        )
    chosen = choose_questions(held_out, settings.examples, seed)
    questions = [renderer.written(question) for question in chosen]
    tuned = tuned_model(base, run)
    names = names_of(settings.contenders, documents=bool(recipe.data.documents))
    contenders = choose_contenders(names, base, tuned.base, tuned.adapter)
    if pilot:
        contenders = [as_pilot(contender) for contender in contenders]

    def work(folder: Path) -> Outcome:
        _check_pattern(settings.pattern, questions, events)
        if len(questions) < _FEW:
            text = _("only {count} held-out examples: wide intervals; more examples or a larger data.split.test narrow them")
            events.warn(NAME, text.format(count=len(questions)))
        asked = HeldOut(held_out, chosen, load_rows(run.stage(PREPARE), "test"), recipe.data.turns == "last")
        room = Room(renderer, base.context, settings.max_new_tokens)
        ways = [contender.way for contender in contenders]
        knowledge = _knowledge(recipe, run.stage(PREPARE), with_passages="passages" in ways)
        with searching(settings.embeddings, run.root / VECTORS, {"examples", "passages"} & set(ways), events) as make:
            given = give(ways, asked, replace(knowledge, make=make), room)
        _tell_of_prompts(given, contenders, events)
        task = Task(renderer, given, settings.max_new_tokens, dtype, device)
        performances = perform_all(contenders, task, events)
        scored = score_answers(performances, questions, settings.pattern)
        comparison = compare_performances(
            performances, scored, questions, pattern=settings.pattern, resamples=settings.resamples, seed=seed
        )
        if comparison.undecided:
            text = _("compare.pattern takes too long: {count} answers are not decided and count as not obeying it")
            events.warn(NAME, text.format(count=comparison.undecided))
        outputs = save_comparison(folder, comparison, questions, scored)
        if len(contenders) > 1:
            metric = main_metric(comparison)
            standing = stand(scores_of(scored, metric), metric, resamples=settings.resamples, seed=seed)
            outputs.append(save_standing(folder, standing))
            events.info(NAME, standing_words(standing, metric))
        return Outcome({"examples": comparison.examples, "held_out": comparison.held_out}, outputs, summary(comparison))

    run_stage(
        run,
        events,
        StageWork(
            name=NAME,
            inputs={
                "afina": __version__,
                "train": fingerprint.of_stage(trained),
                "recipe": fingerprint.of_settings(settings, seed, names, bool(recipe.data.documents), pilot),
                "hardware": f"{device.type} {dtype_name}",
            },
            plan=_("{contenders} on {held_out} held-out examples, {questions} of them answered; {dtype} on {device}").format(
                contenders=_against(contenders),
                held_out=len(held_out),
                questions=len(questions),
                dtype=dtype_name,
                device=device.type,
            ),
            work=work,
        ),
    )
    return CompareResult(load_comparison(run.stage(NAME)), run.stage(NAME))


@contextmanager
def searching(embeddings: str | None, folder: Path, ways: Collection[str], events: Events) -> Iterator[MakeSearch]:
    """The search by words; where the recipe names an embedding model and something is searched, fused with one by meaning."""
    if embeddings is None or not ways:
        yield Index
        return
    told = Told()
    path = folder / f"{fingerprint.of_settings(embeddings)}.safetensors"
    with embedder(embeddings, path, told) as embed:
        yield lambda texts, name: Hybrid(texts, name, embed)
    text = _("{model}: {made} texts embedded in {time}, {kept} were kept; {width} numbers each, {size}")
    events.info(
        NAME,
        text.format(
            model=embeddings,
            made=format_count(told.made),
            time=format_duration(told.seconds),
            kept=format_count(told.kept),
            width=told.width,
            size=format_bytes(told.bytes),
        ),
    )


def _knowledge(recipe: Recipe, folder: Path, *, with_passages: bool) -> Knowledge:
    """The training side, and the chunks of the documents; without documents its questions and answers as passages."""
    examples = load_conversations(folder, "train")
    if not with_passages:
        return Knowledge(examples, (), "")
    if not recipe.data.documents:
        pairs = [Passage(f"{asked_in(example.messages)}\n{example.answer}", str(example.source)) for example in examples]
        return Knowledge(examples, pairs, _("training examples"))
    if not (folder / CHUNKS).is_file():
        raise DataError(
            _("{path} is not there: data.documents were not read when the examples were prepared").format(path=folder / CHUNKS),
            fix=f"afina run {recipe.name}",
        )
    lines = (folder / CHUNKS).read_text(encoding="utf-8").split("\n")
    chunks = [Chunk(**json.loads(line)) for line in lines if line]
    passages = [Passage(chunk.text, f"{Path(chunk.document).name}, {chunk.place}") for chunk in chunks]
    return Knowledge(examples, passages, str(folder / CHUNKS))


def _against(contenders: Sequence[Contender]) -> str:
    """``base against few-shot, tuned``."""
    first, *others = (title(contender.name) for contender in contenders)
    return first + (_(" against ") + ", ".join(others) if others else "")


def _tell_of_prompts(given: Mapping[Way, Given], contenders: Sequence[Contender], events: Events) -> None:
    """What stands before the questions, and where nothing does although something was found."""
    for contender in contenders:
        asked = given[contender.way].asked
        if contender.way == "plain":
            continue
        what = _("examples") if contender.way == "examples" else _("passages")
        text = _("{contender}: {shown:g} {what} before a question, {tokens:g} tokens a prompt (medians)")
        shown, tokens = median(len(one.shown) for one in asked), median(one.prompt_tokens for one in asked)
        events.info(NAME, text.format(contender=title(contender.name), shown=shown, what=what, tokens=tokens))
        if without := sum(not one.shown and one.left_out > 0 for one in asked):
            text = _("{contender}: before {count} of {all} questions there is no room for what was found; {fix}")
            fix = _("lower compare.max_new_tokens or data.chunk_characters, or take a base with a longer context")
            events.warn(NAME, text.format(contender=title(contender.name), count=without, all=len(asked), fix=fix))


def summary(comparison: Comparison) -> str:
    """``held-out loss 3.21 → 0.84; style obeyed 0 % → 97 % (93–99 %)``; one number each where one contender stands alone, and
    with names where there are more than two.
    """
    told = {metric.name: metric.title for metric in comparison.metrics}
    main = main_metric(comparison).name
    losses = {name: f"{comparison.interval('loss', name).value:.2f}" for name in comparison.contenders}
    shares = {name: format_share(comparison.interval(main, name).value) for name in comparison.contenders}
    last = _range(comparison.interval(main, comparison.contenders[-1]))
    return f"{told['loss']} {in_a_row(losses)}; {told[main]} {in_a_row(shares)} ({last})"


def _range(interval: Interval) -> str:
    """``93–99 %``; one example alone gives no interval."""
    if interval.high > 1:
        return _("one example, no interval")
    return f"{format_share(interval.low).removesuffix(' %')}–{format_share(interval.high)}"


def _check_pattern(pattern: str | None, questions: Sequence[Conversation], events: Events) -> None:
    """What can be known of the pattern before any model works: whether it ends, and whether the examples themselves obey it."""
    if pattern is None:
        return
    verdicts = obeys(pattern, [question.answer for question in questions], patience=1)
    if None in verdicts:
        raise RecipeError(
            _("compare.pattern takes too long on the expected answer of {source}").format(
                source=questions[verdicts.index(None)].source
            ),
            fix=_("write it without a repeat inside a repeat, such as (a+)+"),
        )
    broken = [question.source for question, obeyed in zip(questions, verdicts, strict=True) if not obeyed]
    if broken:
        text = _("{count} of {all} expected answers do not match compare.pattern themselves, the first at {source}")
        events.warn(NAME, text.format(count=len(broken), all=len(questions), source=broken[0]))
