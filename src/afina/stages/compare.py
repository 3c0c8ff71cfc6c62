"""Compare: the base as it is, the base with an instruction, examples or passages before the question, the tuned model, and models
elsewhere, on held-out examples.

Models of this machine run in the type in which the tuned one will be served (16 or 32 bits, the adapter beside the base), never
in NF4.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from afina import __version__
from afina.compare.checks import as_yaml, learn_checks, obeyed, told
from afina.compare.comparison import (
    EVERY,
    Comparison,
    Kinds,
    Performance,
    Scored,
    Scoring,
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
    LeftOut,
    Task,
    Way,
    as_pilot,
    choose_contenders,
    give,
    names_of,
    perform_all,
    perform_elsewhere,
)
from afina.compare.embedding import Hybrid, Meaning, Told, embedder
from afina.compare.endpoint import Endpoint, open_endpoint, open_endpoints
from afina.compare.figure import Example
from afina.compare.instruction import write_instruction
from afina.compare.judge import Judgement, judge_answers
from afina.compare.kept import Kept
from afina.compare.knowledge import kinds_of
from afina.compare.prompts import MakeSearch, Passage, Room, asked_in
from afina.compare.retrieval import Index
from afina.compare.standing import save_standing, scores_of, stand
from afina.compare.standing import words as standing_words
from afina.core.errors import DataError, RecipeError
from afina.core.events import Events, Progress
from afina.core.files import write_atomic
from afina.core.run import Manifest, RunFolder
from afina.core.translation import _
from afina.core.units import Displayed, format_bytes, format_count, format_duration, format_share, grouped, grouped_exactly
from afina.data.conversation import Conversation
from afina.data.documents.document import Chunk
from afina.data.render import Renderer, Row
from afina.data.store import load_conversations, load_rows
from afina.measure.choice import Reason, choose_metrics
from afina.measure.intervals import Interval, share_range
from afina.measure.metrics import metric_of
from afina.model.base import resolve_base
from afina.model.load import choose_device, choose_dtype
from afina.recipe.recipe import Check, Recipe
from afina.stages import fingerprint
from afina.stages.compared import main_of, write_page
from afina.stages.prepare import CHUNKS
from afina.stages.prepare import NAME as PREPARE
from afina.stages.renderer import build_renderer
from afina.stages.stage import Outcome, StageWork, run_stage
from afina.stages.tuned import tuned_model
from afina.train.loop import STAGE as TRAIN

NAME = STAGE
VECTORS = "vectors"  # below the run's folder: of embedded texts, by their content
KEPT = "kept/answers.jsonl"  # below the run's folder: what was answered, by content
CHECKS = "checks.yaml"
_LOOKED_AT = 2000  # training answers that say what answers are like
_EXCEPTIONS = 0.1  # share of the expected answers that may break a rule before it is told
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
    contenders = [
        replace(one, identity=fingerprint.of_model(one.base, one.adapter))
        for one in choose_contenders(names, base, tuned.base, tuned.adapter)
    ]
    if pilot:
        contenders = [as_pilot(contender) for contender in contenders]
    endpoints = open_endpoints(settings.models)
    judge = open_endpoint(settings.judge) if settings.judge is not None else None

    def work(folder: Path) -> Outcome:
        if len(questions) < _FEW:
            text = (
                _("only {count} of {all} held-out examples are asked: wide intervals; a larger compare.examples narrows them")
                if len(questions) < len(held_out)
                else _("only {count} held-out examples: wide intervals; more examples or a larger data.split.test narrow them")
            )
            events.warn(NAME, text.format(count=len(questions), all=grouped(len(held_out))))
        rows = load_rows(run.stage(PREPARE), "test")
        asked = HeldOut(held_out, chosen, rows, recipe.data.turns == "last")
        room = Room(renderer, base.context, settings.max_new_tokens)
        ways = [contender.way for contender in contenders]
        knowledge = _knowledge(recipe, run.stage(PREPARE), with_passages="passages" in ways)
        scoring = scoring_of(recipe, renderer, knowledge.examples, questions, run, events)
        kinds = _kinds(recipe, run.stage(PREPARE), held_out, chosen, rows)
        with searching(settings.embeddings, run.root / VECTORS, {"examples", "passages"} & set(ways), events) as make:
            given = give(["plain", *ways], asked, replace(knowledge, make=make), room)
        _tell_of_prompts(given, contenders, knowledge, events)
        task = Task(renderer, given, settings.max_new_tokens, dtype, device, Kept(run.root / KEPT))
        performances, left_out = _perform(contenders, endpoints, task, events)
        scored = score_answers(performances, questions, scoring)
        comparison = compare_performances(
            performances,
            scored,
            questions,
            scoring=scoring,
            resamples=settings.resamples,
            seed=seed,
            kinds=kinds,
            left_out=left_out,
            judgement=_judged(judge, scored, questions, held_out, task.kept, settings.resamples, seed, events),
        )
        if comparison.undecided:
            text = _("compare.pattern takes too long: {count} answers are not decided and count as not obeying it")
            events.warn(NAME, text.format(count=comparison.undecided))
        outputs = save_comparison(folder, comparison, questions, scored, kinds.questions)
        if scoring.checks:
            write_atomic(folder / CHECKS, as_yaml(scoring.checks))
            outputs.append(folder / CHECKS)
        main = main_of(comparison)
        if len(scored) > 1 and main in scored[0][0].scores:
            standing = stand(scores_of(scored, main), metric_of(main), resamples=settings.resamples, seed=seed)
            outputs.append(save_standing(folder, standing))
            events.info(NAME, standing_words(standing))
        result = {"examples": comparison.examples, "held_out": comparison.held_out, "left_out": _unfinished(comparison)}
        return Outcome(result, outputs, summary(comparison))

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
            plan=lambda: _(
                "{contenders} on {held_out} held-out examples, {questions} of them answered; {dtype} on {device}"
            ).format(
                contenders=_against([*(title(one.name) for one in contenders), *(one.name for one in endpoints)]),
                held_out=grouped(len(held_out)),
                questions=grouped(len(questions)),
                dtype=dtype_name,
                device=device.type,
            ),
            work=work,
            is_whole=_is_whole,
        ),
    )
    write_page(recipe, run)
    return CompareResult(load_comparison(run.stage(NAME)), run.stage(NAME))


@contextmanager
def searching(embeddings: str | None, folder: Path, ways: Collection[str], events: Events) -> Iterator[MakeSearch]:
    """The search by words; where the recipe names an embedding model and something is searched, fused with one by meaning."""
    if embeddings is None or not ways:
        yield Index
        return
    told = Told()
    with embedder(embeddings, vectors_of(embeddings, folder), told) as embed:
        yield lambda texts, name: Hybrid(texts, name, embed)
    _tell_of_vectors(embeddings, told, events)


def vectors_of(embeddings: str, folder: Path) -> Path:
    """The file in ``folder`` that keeps the vectors of the embedding model."""
    return folder / f"{fingerprint.of_settings(embeddings)}.safetensors"


def _tell_of_vectors(embeddings: str, told: Told, events: Events) -> None:
    text = _("{model}: {made} texts embedded in {time} ({kept} kept from before); {width} numbers each, {size}")
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


def _is_whole(finished: Manifest) -> bool:
    """Whether everybody finished: who did not is asked again when the command is given again."""
    return not finished.result["left_out"]


def _unfinished(comparison: Comparison) -> list[str]:
    judge = comparison.judgement
    return [*comparison.left_out, *([judge.model] if judge is not None and judge.left_out else [])]


def _perform(
    contenders: Sequence[Contender], endpoints: Sequence[Endpoint], task: Task, events: Events
) -> tuple[list[Performance], dict[str, str]]:
    """What everybody did, those of this machine first; and why some did not finish."""
    elsewhere = [perform_elsewhere(endpoint, task, events) for endpoint in endpoints]
    left_out = {one.contender: one.reason for one in elsewhere if isinstance(one, LeftOut)}
    for name, reason in left_out.items():
        text = _("{contender} is left out: {reason}. What it answered is kept; the same command goes on from there")
        events.warn(NAME, text.format(contender=name, reason=reason))
    finished = [one for one in elsewhere if isinstance(one, Performance)]
    return [*perform_all(contenders, task, events), *finished], left_out


def _judged(
    judge: Endpoint | None,
    scored: Sequence[Sequence[Scored]],
    questions: Sequence[Conversation],
    held_out: Sequence[Conversation],
    kept: Kept | None,
    resamples: int,
    seed: int,
    events: Events,
) -> Judgement | None:
    """What the recipe's judge says; a judge that fails is told and left out."""
    if judge is None or len(scored) < 2:
        return None
    pairs = (len(scored) - 1) * len(questions)
    task = _("{model}: verdicts").format(model=judge.name)
    judgement = judge_answers(
        judge,
        questions,
        {answers[0].contender: [one.answer.text for one in answers] for answers in scored},
        held_out,
        kept=kept,
        resamples=resamples,
        seed=seed,
        on_progress=lambda done: events.emit(Progress(NAME, task, done, pairs, _("pairs"))),
    )
    if judgement.left_out:
        text = _("the judge {model} is left out: {reason}. Its verdicts are kept; the same command goes on from there")
        events.warn(NAME, text.format(model=judge.name, reason=judgement.left_out))
    elif judgement.unreadable:
        text = _("{count} of {all} verdicts of {model} could not be read; those pairs do not count")
        events.warn(NAME, text.format(count=judgement.unreadable, all=judgement.verdicts, model=judge.name))
    return judgement


def scoring_of(
    recipe: Recipe,
    renderer: Renderer,
    examples: Sequence[Conversation],
    questions: Sequence[Conversation],
    run: RunFolder,
    events: Events,
) -> Scoring:
    """What is measured, as ``choose_scoring`` has it; tells the rules, and which of them the examples themselves break.

    An embedding model that does not answer is known here, before any model works.
    """
    scoring = choose_scoring(recipe, renderer, examples, questions, run)
    _check_patterns(scoring.pattern, scoring.checks, questions, events)
    if scoring.checks and recipe.compare.checks == "auto":
        text = _("rules of form, learned from the training answers: {rules} (compare/{file} has them for the recipe)")
        events.info(NAME, text.format(rules="; ".join(map(told, scoring.checks)), file=CHECKS))
    return _with_unrelated_texts(scoring, questions, events)


def _with_unrelated_texts(scoring: Scoring, questions: Sequence[Conversation], events: Events) -> Scoring:
    """The scoring whose reason for similarity says what it is of answers to different questions: no model begins at 0."""
    if scoring.meaning is None or not scoring.measures("similarity"):
        return scoring
    cost = Told()
    apart = scoring.meaning.apart([question.answer for question in questions], cost)
    _tell_of_vectors(scoring.meaning.model, cost, events)
    reason = Reason("similarity", "apart", {"apart": round(100 * apart)})
    return replace(scoring, reasons=tuple(reason if one.metric == "similarity" else one for one in scoring.reasons))


def choose_scoring(
    recipe: Recipe,
    renderer: Renderer,
    examples: Sequence[Conversation],
    questions: Sequence[Conversation],
    run: RunFolder,
) -> Scoring:
    """What is measured: what the recipe names, else what fits the training answers."""
    settings = recipe.compare
    answers = [renderer.written(example).answer for example in examples[:_LOOKED_AT]]
    expected = [question.answer for question in questions]
    learned = settings.checks == "auto"
    checks = learn_checks(answers) if settings.checks == "auto" else settings.checks
    reasons = choose_metrics(
        answers or expected,
        expected,
        named=() if settings.metrics == "auto" else settings.metrics,
        with_pattern=settings.pattern is not None,
        checks=len(checks),
        learned=learned,
        with_embeddings=settings.embeddings is not None,
    )
    meaning = None
    if settings.embeddings is not None:
        meaning = Meaning(settings.embeddings, vectors_of(settings.embeddings, run.root / VECTORS))
    return Scoring(reasons, settings.pattern, checks, meaning)


def _kinds(
    recipe: Recipe, folder: Path, held_out: Sequence[Conversation], chosen: Sequence[Conversation], rows: Sequence[Row]
) -> Kinds:
    """The kind of each held-out conversation, in the order of its rows, and of each question: by its own word, else by rule."""
    chunks = _chunks(folder) if recipe.data.documents and (folder / CHUNKS).is_file() else []
    by_rule = kinds_of([Example.of(talk) for talk in held_out], chunks)
    kinds = {talk.source: _kind_named(talk.kind) or rule for talk, rule in zip(held_out, by_rule, strict=True)}
    found = [kinds[source] for source in dict.fromkeys(row.source for row in rows)]
    return Kinds(found, [kinds[question.source] for question in chosen]) if len(set(kinds.values())) > 1 else EVERY


def _kind_named(word: str) -> str:
    """A kind as the data name it; the Spanish words for ours are ours."""
    ours = {"conocimiento": "knowledge", "estilo": "style", "sin respuesta": "unanswerable"}
    return ours.get(word.casefold(), word.casefold() if word.casefold() in ours.values() else word)


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
    passages = [Passage(chunk.text, f"{Path(chunk.document).name}, {chunk.place}") for chunk in _chunks(folder)]
    return Knowledge(examples, passages, str(folder / CHUNKS))


def _chunks(folder: Path) -> list[Chunk]:
    lines = (folder / CHUNKS).read_text(encoding="utf-8").split("\n")
    return [Chunk(**json.loads(line)) for line in lines if line]


def _against(titles: Sequence[str]) -> str:
    """``base against few-shot, tuned``."""
    first, *others = titles
    return first + (_(" against ") + ", ".join(others) if others else "")


def _tell_of_prompts(given: Mapping[Way, Given], contenders: Sequence[Contender], knowledge: Knowledge, events: Events) -> None:
    """What stands before the questions, and where nothing does although something was found."""
    for contender in contenders:
        asked = given[contender.way].asked
        if contender.way == "plain":
            continue
        if contender.way == "instruction":
            text = write_instruction(knowledge.examples).replace("\n", " ")
            what = text or _("nothing: the training answers have no form in common")
            events.info(NAME, _("{contender}: {what}").format(contender=title(contender.name), what=what))
            continue
        what = _("examples") if contender.way == "examples" else _("passages")
        text = _("{contender}: {shown} {what} before a question, {tokens} tokens a prompt (medians)")
        shown, tokens = median(len(one.shown) for one in asked), median(one.prompt_tokens for one in asked)
        events.info(
            NAME,
            text.format(contender=title(contender.name), shown=grouped_exactly(shown), what=what, tokens=grouped_exactly(tokens)),
        )
        if without := sum(not one.shown and one.left_out > 0 for one in asked):
            text = _("{contender}: before {count} of {all} questions there is no room for what was found; {fix}")
            fix = _("lower compare.max_new_tokens or data.chunk_characters, or take a base with a longer context")
            events.warn(NAME, text.format(contender=title(contender.name), count=without, all=len(asked), fix=fix))


def summary(comparison: Comparison) -> str:
    """``held-out loss 3.21 → 0.84; style obeyed 0 % → 97 % (93–99 %)``; one number each where one contender stands alone, and
    with names where there are more than two.
    """
    named = [metric.name for metric in comparison.metrics]
    main = main_of(comparison)
    parts = []
    for name in dict.fromkeys(name for name in ("loss", main) if name in named):
        intervals = comparison.intervals(name)
        values = {who: _value(name, interval) for who, interval in intervals.items()}
        parts.append(f"{metric_of(name).title} {in_a_row(values)}")
    last = [*comparison.intervals(main).values()][-1]
    return "; ".join(parts) + (f" ({_range(last)})" if main != "loss" else "")


def _value(metric: str, interval: Interval) -> str:
    return f"{Displayed(interval.value):.2f}" if metric == "loss" else format_share(interval.value)


def _range(interval: Interval) -> str:
    """``93–99 %``; one example alone gives no interval."""
    if interval.high > 1:
        return _("one example, no interval")
    return share_range(interval)


def _check_patterns(pattern: str | None, checks: Sequence[Check], questions: Sequence[Conversation], events: Events) -> None:
    """What can be known of patterns before any model works: whether they end, and whether the examples themselves obey them."""
    expected = [question.answer for question in questions]
    rules = {"compare.pattern": Check(matches=pattern)} if pattern is not None else {}
    rules |= {_("the rule “{rule}” of compare.checks").format(rule=told(check)): check for check in checks}
    for name, rule in rules.items():
        verdicts = obeyed(rule, expected, patience=1)
        if None in verdicts:
            raise RecipeError(
                _("{name} takes too long on the expected answer of {source}").format(
                    name=name, source=questions[verdicts.index(None)].source
                ),
                fix=_("write it without a repeat inside a repeat, such as (a+)+"),
            )
        broken = [question.source for question, keeps in zip(questions, verdicts, strict=True) if not keeps]
        if len(broken) > _EXCEPTIONS * len(questions):
            text = _("{count} of {all} expected answers do not obey {name} themselves, the first at {source}")
            events.warn(NAME, text.format(count=len(broken), all=len(questions), name=name, source=broken[0]))
