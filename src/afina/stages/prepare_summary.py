"""What the page about the data says: numbers of the survey and rows of the store, with personal data masked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afina import __version__
from afina.core.run import RunFolder
from afina.core.translation import _, catalogue, language
from afina.core.units import format_count, format_share
from afina.data.clean.checks import PERSONAL, Action, checks
from afina.data.clean.personal import mask
from afina.data.conversation import Conversation, Done
from afina.data.enough import FEW, FEWEST, GOOD, MANY
from afina.data.findings import Findings
from afina.data.kinds import KindOfQuestion, kinds
from afina.data.read.examples import FileReading
from afina.data.render import Renderer, segments
from afina.data.store import SIDES, Store, load_side
from afina.data.survey import Pair, Survey
from afina.model.base import Base, resolve_base
from afina.recipe.recipe import Recipe
from afina.report import prepared
from afina.report.prepared import DocumentFlow, FileFlow, Found, FoundRow, Kind, PreparePage, ShownRow, Side, Step, Twins
from afina.stages.prepare import NAME
from afina.stages.renderer import build_renderer

_SHOWN_ROWS = 10
_SHOWN_TWINS = 12
_SHOWN_EXAMPLES = 3
_EXCERPT = 700  # characters of a conversation that stand beside those of its twin
_SEGMENT = 4000  # characters of a stretch of a rendered row
_FOR_KINDS = 2000  # questions that are grouped
_HEAVY = 0.6  # share of one kind of question from which on more of the others are wanted
_SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Material:
    """What a preparation came to. ``chunks`` and ``problems`` are by document; ``kinds_of`` finds the kinds of questions, by a
    seed.
    """

    recipe: Recipe
    base: Base
    renderer: Renderer
    files: Sequence[FileReading]
    chunks: Mapping[str, int]
    problems: Mapping[str, str]
    findings: Findings
    store: Store
    survey: Survey
    sides: Mapping[str, NDArray[np.int64]]
    sources: NDArray[np.uint64]
    seconds: float
    kinds_of: Callable[[Sequence[str], int], list[KindOfQuestion]] = kinds


def page(material: Material) -> PreparePage:
    """The values of ``report.json``."""
    kept = np.sort(np.concatenate([material.sides[side] for side in SIDES]))
    count = len(np.unique(material.sources[kept]))  # the parts of one row are one example
    groups = _kinds(material, kept)
    found = tuple(_found(material.findings))
    data = material.recipe.data
    return PreparePage(
        language=language() if catalogue(language()) else "en",
        name=material.recipe.name,
        base=material.base.name,
        template=material.renderer.template.name,
        verdict=verdict(count),
        next_steps=tuple(_next_steps(material.recipe.name, count, found, groups)),
        files=tuple(_file(file) for file in material.files),
        documents=(
            *(DocumentFlow(name, count, "") for name, count in material.chunks.items()),
            *(DocumentFlow(name, 0, problem) for name, problem in material.problems.items()),
        ),
        flow=tuple(_flow(material)),
        sides=tuple(_side(material, side) for side in SIDES),
        lengths=prepared.measure_lengths(material.store.lengths(), material.survey.max_tokens),
        languages=material.survey.languages,
        kinds=groups,
        found=found,
        findings_path=str(material.findings.path),
        duplicates=_twins(material.store, material.survey.duplicates),
        contradictions=_twins(material.store, material.survey.contradictions),
        leaks=_twins(material.store, material.survey.leaks),
        shown=tuple(shown_rows(material.store, material.sides, material.renderer, _SHOWN_ROWS)),
        settings=(
            (_("system message"), mask(material.recipe.system or "") or _("none")),
            (_("answers that are learned"), _("all") if data.turns == "all" else _("the last of each conversation")),
            (
                _("rows that are too long"),
                {"drop": _("left out"), "split": _("parted between turns"), "keep": _("kept")}[data.long],
            ),
            (_("longest row"), _("{count} tokens").format(count=format_count(material.survey.max_tokens))),
            (_("personal data"), _("replaced") if data.redact else _("kept, and masked on this page")),
            *((_("check {name}").format(name=name), action) for name, action in data.checks.items()),
        ),
        finished=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        seconds=round(material.seconds, 1),
        version=__version__,
    )


def verdict(count: int) -> str:
    """What so many good examples are good for."""
    told = format_count(count)
    if count < FEWEST:
        return _("{count} good examples: too few to learn from").format(count=told)
    if count < FEW:
        text = _(
            "{count} good examples: few. Below about {few} a good prompt usually does as well; compare before you train on more"
        )
        return text.format(count=told, few=FEW)
    if count < GOOD:
        return _("{count} good examples: enough to try; {good} to {many} are usually enough for a style or a form").format(
            count=told, good=GOOD, many=MANY
        )
    if count <= MANY:
        return _("{count} good examples: usually enough for a style or a form").format(count=told)
    return _("{count} good examples: plenty for a style or a form; better ones now help more than further ones").format(
        count=told
    )


def rendered_rows(recipe: Recipe, runs: Path, count: int) -> tuple[ShownRow, ...]:
    """The first rows that the run prepared to train on, personal data masked."""
    folder = RunFolder(runs / recipe.name).stage(NAME)
    renderer = build_renderer(recipe, resolve_base(recipe.base, recipe.revision))
    sides = {side: load_side(folder, side) for side in SIDES}
    return tuple(shown_rows(Store(folder), sides, renderer, count))


def shown_rows(store: Store, sides: Mapping[str, NDArray[np.int64]], renderer: Renderer, count: int) -> Iterator[ShownRow]:
    """The first rows to train on, as the model will read them, personal data masked."""
    numbers = (row for conversation in sides["train"].tolist() for row in store.row_numbers(conversation))
    for _nth, number in zip(range(count), numbers, strict=False):
        row = store.row(number)
        pieces = tuple((_cut(mask(text), _SEGMENT), trained) for text, trained in segments(row, renderer.tokenizer))
        yield ShownRow(str(row.source), "train", pieces)


def _file(file: FileReading) -> FileFlow:
    return FileFlow(
        file.name,
        file.kind,
        file.shape,
        mask(file.reason),
        file.encoding,
        file.rows,
        file.conversations,
        file.dropped,
        mask(file.sample),
    )


def _flow(material: Material) -> Iterator[Step]:
    """How many rows each kind of check left over."""
    known = checks()
    late = Counter(material.survey.dropped_rows)
    left = sum(file.rows for file in material.files)
    yield Step("read", left)
    for scope in ("reading", "text", "tokens", "set"):
        dropped = {
            check: late[check] if scope == "set" else count - late[check]
            for check, count in material.findings.dropped().items()
            if known[check].scope == scope or (scope == "set" and late[check])
        }
        left -= sum(dropped.values())
        told = tuple((check, count) for check, count in dropped.items() if count)
        yield Step(scope, left, told, material.findings.changed(scope))
    if material.survey.over_limit:
        yield Step("limit", left - material.survey.over_limit)


def _side(material: Material, side: str) -> Side:
    store, numbers = material.store, material.sides[side]
    on_side = np.zeros(len(store), np.bool_)
    on_side[numbers] = True
    rows = on_side[store.rows_of()]
    return Side(side, len(numbers), int(rows.sum()), int(store.lengths()[rows].sum()), int(store.trained()[rows].sum()))


def _kinds(material: Material, kept: NDArray[np.int64]) -> tuple[Kind, ...]:
    """Groups of like questions among at most ``_FOR_KINDS`` of the conversations, evenly taken."""
    chosen = kept[np.linspace(0, len(kept) - 1, min(len(kept), _FOR_KINDS)).astype(np.int64)] if len(kept) else kept
    questions = [mask(_question(material.store.conversation(number))) for number in chosen.tolist()]
    return tuple(
        Kind(
            kind.words,
            kind.share,
            kind.count,
            tuple(_cut(text, _EXCERPT) for text in kind.examples[:_SHOWN_EXAMPLES]),
        )
        for kind in material.kinds_of(questions, material.recipe.data.split.seed)
    )


def _question(conversation: Conversation) -> str:
    """The first thing that the user says."""
    return next((message.content for message in conversation.messages if message.role == "user"), "")


def _done(findings: Findings, check: str) -> Action:
    """What was done about most of the rows that a check found."""
    words: dict[Done, Action] = {"dropped": "drop", "changed": "fix", "kept": "warn"}
    return words[max(words, key=lambda done: findings.counts[check, done])]


def _found(findings: Findings) -> Iterator[Found]:
    """What each check found, the worst first."""
    known = checks()
    for check in sorted(findings.first, key=lambda name: _SEVERITIES.index(known[name].severity)):
        rows = tuple(FoundRow(str(one.source), one.reason, one.excerpt) for one in findings.first[check])
        count = sum(number for (name, _how), number in findings.counts.items() if name == check)
        yield Found(check, known[check].severity, _done(findings, check), known[check].reason, count, rows)


def _twins(store: Store, pairs: Iterable[Pair]) -> tuple[Twins, ...]:
    """The least alike first: of those a person wants to see what differs."""
    chosen = sorted(pairs, key=lambda pair: pair.similarity)[:_SHOWN_TWINS]
    return tuple(
        Twins(
            str(store.source(pair.first)),
            str(store.source(pair.second)),
            _excerpt(store.conversation(pair.first)),
            _excerpt(store.conversation(pair.second)),
            round(pair.similarity, 3),
        )
        for pair in chosen
    )


def _excerpt(conversation: Conversation) -> str:
    text = "\n".join(f"{message.role}: {message.content}" for message in conversation.messages if message.role != "system")
    return _cut(mask(text), _EXCERPT)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _next_steps(name: str, count: int, found: Sequence[Found], groups: Sequence[Kind]) -> Iterator[str]:
    """What a person would do now, the most urgent first."""
    names = {one.check: one for one in found}
    errors = [one for one in found if one.severity == "error"]
    if kept := [one.check for one in errors if one.action not in ("fix", "drop")]:
        yield _("look at the rows under {checks}: they can harm a model or a person").format(checks=", ".join(kept))
    if left_out := [one.check for one in errors if one.action == "drop"]:
        yield _("look at the rows under {checks}, which were left out: mend those that you need").format(
            checks=", ".join(left_out)
        )
    if any(check in names and names[check].action == "warn" for check in PERSONAL):
        yield _("replace personal data and keys: {setting}").format(setting="`--set data.redact=true`")
    if "contradiction" in names:
        yield _("decide which answer is right where the same question has several")
    if count < GOOD:
        yield _("write more examples: {good} to {many} good ones are usually enough").format(good=GOOD, many=MANY)
    if groups and groups[0].share >= _HEAVY and len(groups) > 1:
        yield _("add examples of other kinds: {share} of the questions are about {words}").format(
            share=format_share(groups[0].share), words=", ".join(groups[0].words[:3])
        )
    yield _("read the rendered rows below once: what is marked is what the model learns to write")
    yield _("train: {command}").format(command=f"`afina train {name}`")
