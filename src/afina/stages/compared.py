"""A comparison as pages show it: measures, costs, notes and answers, from the files that the stage left."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afina import __version__
from afina.compare.checks import told
from afina.compare.comparison import ANSWERS, Comparison, Typical, load_comparison, pairs_of, title
from afina.compare.endpoint import called
from afina.compare.forgetting import load_forgetting
from afina.compare.forgetting import words as forgetting_words
from afina.compare.standing import load_standing
from afina.compare.standing import words as standing_words
from afina.core.files import write_atomic
from afina.core.run import RunFolder
from afina.core.translation import _, catalogue, language
from afina.core.units import Displayed, format_count, format_duration, format_share, grouped
from afina.data.clean.personal import mask
from afina.infer.answer import BATCH_ROWS
from afina.measure.choice import main_metric
from afina.measure.intervals import Interval, share_range
from afina.measure.metrics import Metric, metric_of
from afina.recipe.recipe import Check, Recipe
from afina.report import plots
from afina.report.compare_page import Answered, ComparePage, Kind, Over, RowOfAnswers, Rule, draw
from afina.report.page import Against, Cost, Exchange, Given, Measure, headline, headline_of_several

_MARKS = {"prompt": "base", "prompt+": "plus", "few_shot": "few", "rag": "rag", "tuned": "tuned", "tuned+rag": "tuned-rag"}
_MARKS |= {"pilot": "tuned", "pilot+rag": "tuned-rag"}
_MANY = 1000  # answers whose time and money are told

COMPARE, FORGETTING = "compare", "forgetting"
PAGE = "report.html"

Prices = Mapping[str, tuple[float, float]]


def mark_of(contender: str) -> str:
    """Its shape in drawings; models elsewhere share one."""
    return _MARKS.get(contender, "other")


def prices_of(recipe: Recipe) -> dict[str, tuple[float, float]]:
    """Money for a million tokens, read and written, of the models for which the recipe tells it."""
    models = recipe.compare.models
    return {name: model.prices for name, model in zip(called(models), models, strict=True) if model.prices is not None}


def measures_of(comparison: Comparison, kind: str = "", metrics: Sequence[Metric] = ()) -> tuple[Measure, ...]:
    """The comparison's measures, over one kind of question where one is named."""
    differences = {(cell.metric, cell.contender): cell for cell in comparison.differences if cell.kind == kind}
    measures = []
    for metric in metrics or comparison.metrics:
        in_nats = metric.name == "loss"
        intervals = comparison.intervals(metric.name, kind)
        high = plots.ticks(0, max(_finite_high(interval) for interval in intervals.values()), 4)[-1] if in_nats else 1.0
        texts = {name: interval_text(interval, in_nats) for name, interval in intervals.items()}
        others = [differences.get((metric.name, name)) for name in comparison.contenders[1:]]
        measures.append(
            Measure(
                title=metric.title,
                explanation=metric.explanation,
                estimates=tuple(
                    plots.Estimate(
                        f"{title(name)} {' '.join(texts[name])}", interval.value, interval.low, interval.high, mark_of(name)
                    )
                    for name, interval in intervals.items()
                ),
                values=tuple(texts.get(name, ("–", "")) for name in comparison.contenders),
                low=0.0,
                high=high,
                grid=tuple(plots.ticks(0, high, 4)) if in_nats else (0, 0.25, 0.5, 0.75, 1),
                ends=("0", plots.number(high)) if in_nats else (format_share(0), format_share(1)),
                against=tuple(
                    Against(*_difference_text(other.interval, in_nats), other.verdict) if other else None for other in others
                ),
            )
        )
    return tuple(measures)


def costs_of(comparison: Comparison, prices: Prices) -> tuple[Cost, ...]:
    """What an answer takes; money where the recipe tells prices."""
    typical = comparison.typical
    many = format_count(_MANY)
    costs = [
        Cost(
            _("tokens a prompt"),
            _("median of what is read before an answer"),
            tuple(grouped(medians.prompt_tokens) for medians in typical),
        ),
        Cost(
            _("seconds an answer"),
            _("median, as one of a batch, or of a few asked at once elsewhere"),
            tuple(f"{Displayed(medians.seconds):.2f}" for medians in typical),
        ),
        Cost(
            _("time of {count} answers").format(count=many),
            _("as they were made here, in batches; elsewhere as if one after the other"),
            tuple(format_duration(_MANY * medians.mean_seconds) for medians in typical),
        ),
    ]
    if prices:
        costs.append(
            Cost(
                _("price of {count} answers").format(count=many),
                _("by the prices in the recipe and the tokens that were counted"),
                tuple(_money(medians, prices) for medians in typical),
            )
        )
    return tuple(costs)


def _money(typical: Typical, prices: Prices) -> str:
    if typical.contender not in prices:
        return "–"
    read, written = prices[typical.contender]
    return f"{Displayed(_MANY * (typical.prompt_tokens * read + typical.tokens * written) / 1e6):,.2f}"


def notes_of(comparison: Comparison) -> tuple[str, ...]:
    typical = "; ".join(
        _("{contender}: {characters} characters, {tokens} tokens").format(
            contender=title(medians.contender), characters=grouped(medians.characters), tokens=grouped(medians.tokens)
        )
        for medians in comparison.typical
    )
    notes = [
        _("Loss over {count} held-out examples ({tokens} trained tokens); {examples} of them were answered, greedily.").format(
            count=grouped(comparison.held_out),
            tokens=format_count(comparison.trained_tokens),
            examples=grouped(comparison.examples),
        )
        + " "
        + _(
            "Intervals: the farthest of {resamples} bootstrap samples over examples, Student's and Hall's; shares by Wilson, "
            "their differences by Bonett and Price."
        ).format(resamples=grouped(comparison.resamples))
        + " "
        + _("A difference counts where its 95 % interval leaves out zero.")
        + _widened(len(comparison.contenders)),
        _("Typical answers (medians): {contenders}; expected: {characters} characters.").format(
            contenders=typical, characters=grouped(comparison.expected_characters)
        ),
        _(
            "Models of this machine are asked through torch, up to {rows} questions in a batch, on the very weights that the "
            "loss is measured on; the embedded llama.cpp needs a file for each of them, and was about as fast where both were "
            "timed."
        ).format(rows=BATCH_ROWS),
    ]
    notes += [
        _("{contender} is left out: {reason}.").format(contender=name, reason=why) for name, why in comparison.left_out.items()
    ]
    notes += _judge_notes(comparison)
    if comparison.undecided:
        notes.append(
            _("The pattern takes too long: {count} answers are not decided and count as not obeying it.").format(
                count=comparison.undecided
            )
        )
    return tuple(notes)


def _widened(contenders: int) -> str:
    if contenders <= 2:
        return ""
    text = _("Of several contenders one is always the luckiest: intervals of differences are widened for all {pairs} pairs.")
    return " " + text.format(pairs=pairs_of(contenders))


def _judge_notes(comparison: Comparison) -> list[str]:
    """What the judge's points rest on, or why there are none."""
    judge = comparison.judgement
    if judge is None:
        return []
    if judge.left_out:
        return [_("The judge {model} is left out: {reason}.").format(model=judge.model, reason=judge.left_out)]
    tallies = "; ".join(
        _("{contender} {wins} wins, {ties} ties, {losses} losses").format(
            contender=title(name), wins=tally.wins, ties=tally.ties, losses=tally.losses
        )
        for name, tally in judge.tallies.items()
    )
    text = _("Judge {model} against {first}, each pair in both orders: {tallies}.")
    parts = [text.format(model=judge.model, first=title(judge.against), tallies=tallies)]
    if judge.first_shown is not None:
        text = _(
            "It chose the answer shown first in {share} of its {count} verdicts; both orders count the same, so this cancels."
        )
        parts.append(text.format(share=format_share(judge.first_shown), count=judge.verdicts))
    if judge.unreadable:
        parts.append(_("{count} verdicts could not be read and do not count.").format(count=judge.unreadable))
    if judge.agreement is not None:
        text = _("With your own ratings it agrees in {share} ({range}) of {count} pairs.")
        share, interval = interval_text(judge.agreement, in_nats=False)
        parts.append(text.format(share=share, range=interval, count=judge.rated))
    return [" ".join(parts)]


def _finite_high(interval: Interval) -> float:
    return interval.high if math.isfinite(interval.high) else interval.value


def interval_text(interval: Interval, in_nats: bool) -> tuple[str, str]:
    """``0.84`` and ``0.79–0.90``; ``97 %`` and ``83–99 %``."""
    value = f"{Displayed(interval.value):.3f}" if in_nats else format_share(interval.value)
    if not math.isfinite(interval.high):
        return value, _("one example")
    if in_nats:
        return value, f"{Displayed(interval.low):.3f}–{Displayed(interval.high):.3f}"
    return value, share_range(interval)


def _difference_text(interval: Interval, in_nats: bool) -> tuple[str, str]:
    """``−2.370`` and ``−2.60 to −2.14``; for shares in percentage points."""
    scale, form = (1, "+.3f") if in_nats else (100, "+.0f")
    value, low, high = (
        f"{Displayed(scale * end):{form}}".replace("-", "−") if end else "0"
        for end in (interval.value, interval.low, interval.high)
    )
    unit = "" if in_nats else " " + _("points")
    if not math.isfinite(interval.high):
        return value + unit, _("one example")
    return value + unit, _("{low} to {high}").format(low=low, high=high)


def exchanges_of(path: Path) -> Iterable[Exchange]:
    """The questions with their answers."""
    for record in records_of(path):
        *earlier, question = record["prompt"]
        yield Exchange(
            source=record["source"],
            earlier=_turns(earlier),
            question=mask(question["content"]),
            expected=mask(record["expected"]),
            given=tuple(_given(name, answer) for name, answer in record["answers"].items()),
        )


def _turns(messages: Sequence[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    roles = {"system": _("system"), "user": _("user"), "assistant": _("assistant"), "tool": _("tool")}
    return tuple((roles[turn["role"]], mask(turn["content"])) for turn in messages)


def _given(contender: str, answer: dict[str, Any]) -> Given:
    scores = answer["scores"]
    return Given(
        contender=title(contender),
        mark=mark_of(contender),
        text=mask(answer["text"]),
        obeyed=scores["pattern"] == 1 if "pattern" in scores else None,
        exact=scores["exact"] == 1,
        ended=scores["ended"] == 1,
        asked=_turns(answer.get("prompt", ())),
    )


def records_of(path: Path) -> Sequence[dict[str, Any]]:
    """The lines of a JSONL file; none where it is not there."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line] if path.is_file() else []


# ── the comparison's own page ─────────────────────────────────────────────────────────────────────────────────────────


def write_page(recipe: Recipe, run: RunFolder) -> Path:
    """Writes ``compare/report.html`` from what the run's folder holds."""
    folder = run.stage(COMPARE)
    comparison = load_comparison(folder)
    page = gather_comparison(comparison, recipe.name, folder / ANSWERS, prices_of(recipe), verdict_of(comparison, run))
    write_atomic(folder / PAGE, draw(page))
    return folder / PAGE


@dataclass(frozen=True)
class Verdict:
    """What the comparison comes to in a sentence, and what is said below the numbers first."""

    headline: str
    notes: tuple[str, ...] = ()


def verdict_of(comparison: Comparison, run: RunFolder) -> Verdict:
    """Of several contenders, who is shown to be ahead is the verdict; of two, in how many measures the second is better. Then the
    other of both, and what the training made the model forget.
    """
    standing, forgotten = load_standing(run.stage(COMPARE)), load_forgetting(run.stage(FORGETTING))
    counted = headline_of(comparison)
    forgetting = (forgetting_words(forgotten),) if forgotten else ()
    if standing is None:
        return Verdict(counted, forgetting)
    ahead = standing_words(standing)
    if len(comparison.contenders) == 2:
        return Verdict(counted, (ahead + ".", *forgetting))
    headline = _("On {count} held-out examples, {ahead}.").format(count=grouped(comparison.held_out), ahead=ahead)
    return Verdict(headline, (counted, *forgetting))


def gather_comparison(comparison: Comparison, name: str, answers: Path, prices: Prices, verdict: Verdict) -> ComparePage:
    """What ``compare/report.html`` says."""
    main = main_of(comparison)
    return ComparePage(
        language=language() if catalogue(language()) else "en",
        name=name,
        headline=verdict.headline,
        facts=_facts(comparison),
        contenders=tuple((mark_of(one), title(one)) for one in comparison.contenders),
        measures=measures_of(comparison),
        kinds=tuple(
            Kind(kind_title(kind), count, measures_of(comparison, kind, _of_kinds(comparison, main)))
            for kind, count in comparison.kinds.items()
            if len(comparison.kinds) > 1
        ),
        costs=costs_of(comparison, prices),
        notes=(*verdict.notes, *notes_of(comparison)),
        over=_over(comparison, main),
        rules=tuple(
            Rule(mask(told(Check(**kept.rule))), tuple(format_share(kept.shares[one]) for one in comparison.contenders))
            for kept in comparison.rules
        ),
        sorted_by=metric_of(main).title,
        rows=tuple(_row(record, comparison.contenders, main) for record in records_of(answers)),
        reasons=tuple((metric_of(reason.metric).title, reason.text) for reason in comparison.reasons),
        written=_("afina {version}").format(version=__version__),
    )


def headline_of(comparison: Comparison) -> str:
    """What the comparison counts, in a sentence."""
    if not comparison.differences:
        return _("One contender was measured on {count} held-out examples.").format(count=grouped(comparison.held_out))
    first, *others = comparison.contenders
    verdicts = {
        title(name): [one.verdict for one in comparison.differences if one.contender == name and not one.kind] for name in others
    }
    if comparison.contenders == ("prompt", "tuned"):
        return headline(verdicts[title("tuned")], comparison.held_out)
    return headline_of_several(verdicts, title(first), comparison.held_out)


def kind_title(kind: str) -> str:
    """A kind of question for the user; one that the data name themselves is its own word."""
    return {
        "knowledge": _("knowledge questions"),
        "style": _("style questions"),
        "unanswerable": _("questions without an answer"),
        "": _("questions without a kind"),
    }.get(kind, kind)


def main_of(comparison: Comparison) -> str:
    """The metric that the comparison is told by."""
    names = [metric.name for metric in comparison.metrics if metric.name not in ("judge", "loss")]
    return main_metric(names or ["loss"])


def _of_kinds(comparison: Comparison, main: str) -> list[Metric]:
    """What is shown of each kind: loss, the main metric, and whether contenders say that an answer is not there."""
    return [metric for metric in comparison.metrics if metric.name in ("loss", main, "abstention")]


def _facts(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    kinds = [(kind_title(kind), grouped(count)) for kind, count in comparison.kinds.items() if len(comparison.kinds) > 1]
    return ((_("held-out examples"), grouped(comparison.held_out)), (_("answered"), grouped(comparison.examples)), *kinds)


def _over(comparison: Comparison, main: str) -> tuple[Over, ...]:
    """Quality over the tokens of a prompt and over the seconds of an answer."""
    in_nats = main == "loss"
    intervals = comparison.intervals(main)
    dots = {
        name: plots.Estimate(
            f"{title(name)} {' '.join(interval_text(interval, in_nats))}",
            interval.value,
            interval.low,
            interval.high,
            mark_of(name),
        )
        for name, interval in intervals.items()
    }
    typical = {medians.contender: medians for medians in comparison.typical}
    high = plots.ticks(0, max(map(_finite_high, intervals.values())), 4)[-1] if in_nats else 1.0
    costs = {
        _("tokens a prompt"): {name: medians.prompt_tokens for name, medians in typical.items()},
        _("seconds an answer"): {name: medians.seconds for name, medians in typical.items()},
    }
    return tuple(
        Over(axis, metric_of(main).title, high, tuple((cost[name], dot) for name, dot in dots.items()))
        for axis, cost in costs.items()
    )


def _row(record: Mapping[str, Any], contenders: Sequence[str], main: str) -> RowOfAnswers:
    *earlier, question = record["prompt"]
    return RowOfAnswers(
        source=record["source"],
        kind=kind_title(record["kind"]) if record["kind"] else "",
        earlier=_turns(earlier),
        question=mask(question["content"]),
        expected=mask(record["expected"]),
        answers=tuple(
            Answered(_given(name, record["answers"][name]), record["answers"][name]["scores"].get(main, 0.0))
            for name in contenders
        ),
    )
