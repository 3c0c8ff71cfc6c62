"""Report: one page about a run, ``report.html``, from what the run's folder holds. Cheap, so it is written anew each time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from afina import __version__
from afina.compare.comparison import ANSWERS, Comparison, in_a_row, load_comparison, title
from afina.core.events import Events, Metric, StageFinished, StageStarted, read_events
from afina.core.files import write_atomic
from afina.core.run import STAGES, Manifest, RunFolder
from afina.core.translation import _, catalogue, language
from afina.core.units import Displayed, format_bytes, format_count, format_duration, format_share, grouped
from afina.export.rungs import Cell, Marks, Rung, heads
from afina.export.served import Served
from afina.recipe.load import to_yaml
from afina.recipe.recipe import Recipe
from afina.report import plots
from afina.report.page import KEPT_SHOWN, Page, Side, Stage, Step, draw
from afina.stages.compared import (
    FORGETTING,
    costs_of,
    exchanges_of,
    interval_text,
    mark_of,
    measures_of,
    notes_of,
    prices_of,
    records_of,
    verdict_of,
)

NAME = "report"
FILE = "report.html"
PREPARE, TRAIN, COMPARE, EXPORT, DEPLOY = STAGES  # not from the stages themselves: a page needs no torch


@dataclass(frozen=True)
class ReportResult:
    path: Path


def report(recipe: Recipe, run: RunFolder, events: Events) -> ReportResult:
    """Writes the run's page. Stages that were not run are named there with the command that runs them."""
    run.require(PREPARE)
    start = time.monotonic()
    path = run.root / FILE
    events.emit(StageStarted(NAME, _("one page about the run, from its folder")))
    write_atomic(path, draw(gather(recipe, run)))
    events.emit(StageFinished(NAME, time.monotonic() - start, f"{path} ({format_bytes(path.stat().st_size)})"))
    return ReportResult(path)


def gather(recipe: Recipe, run: RunFolder) -> Page:
    """What the page says, read from the run's folder."""
    manifests = {stage: found for stage in STAGES if (found := run.manifest(stage))}
    prepared, trained = manifests[PREPARE], manifests.get(TRAIN)
    comparison = load_comparison(run.stage(COMPARE)) if COMPARE in manifests else None
    verdict = verdict_of(comparison, run) if comparison else None
    is_pilot = comparison is not None and any(name.startswith("pilot") for name in comparison.contenders)
    finished = "".join(sorted(manifest.finished for manifest in manifests.values())[-1:])
    return Page(
        language=language() if catalogue(language()) else "en",
        name=recipe.name,
        headline=verdict.headline if verdict else _headline(trained),
        facts=_facts(recipe, manifests, comparison),
        contenders=tuple((mark_of(name), title(name)) for name in comparison.contenders) if comparison else (),
        measures=measures_of(comparison) if comparison else (),
        costs=costs_of(comparison, prices_of(recipe)) if comparison else (),
        comparison_notes=(*verdict.notes, *notes_of(comparison)) if comparison and verdict else (),
        exchanges=tuple(exchanges_of(run.stage(COMPARE) / ANSWERS)) if comparison else (),
        curve=_curve(run.events_path, trained) if trained else None,
        training=_training(trained) if trained else (),
        ladder_heads=tuple(heads(_marks(manifests.get(EXPORT)))),
        ladder=(*_ladder(manifests[EXPORT]), *_rung_of_ollama(manifests)) if EXPORT in manifests else (),
        ladder_notes=(*_ladder_notes(recipe, manifests[EXPORT]), *_notes_of_ollama(manifests)) if EXPORT in manifests else (),
        sides=_sides(prepared),
        refused=_refused(run.stage(PREPARE) / "findings.jsonl"),
        recipe=run.recipe_path.read_text(encoding="utf-8") if run.recipe_path.is_file() else to_yaml(recipe),
        files=tuple(
            (f"{stage}/{path}", size) for stage, manifest in manifests.items() for path, size in sorted(manifest.outputs.items())
        ),
        folder=str(run.root),
        stages=_stages(manifests, run.events_path),
        versions=manifests[max(manifests, key=STAGES.index)].versions,
        commands=_after_a_pilot(recipe.name) if is_pilot else _commands(recipe.name, manifests),
        written=_("afina {version}; last stage finished {when}").format(version=__version__, when=_moment_text(finished)),
    )


def _headline(trained: Manifest | None) -> str:
    if trained:
        return _("The adapter is trained; nothing has been compared yet.")
    return _("The examples are prepared; nothing has been trained yet.")


def _facts(recipe: Recipe, manifests: dict[str, Manifest], comparison: Comparison | None) -> tuple[tuple[str, str], ...]:
    prepared = manifests[PREPARE].result
    facts = [
        (_("base"), recipe.base),
        (_("examples"), format_count(sum(prepared["conversations"].values()))),
        (_("rows left out"), format_count(sum(prepared["dropped"].values()))),
    ]
    if comparison:
        losses = {name: f"{Displayed(interval.value):.2f}" for name, interval in comparison.intervals("loss").items()}
        if losses:
            facts.append((_("held-out loss"), _from_to(losses)))
        if comparison.pattern is not None:
            shares = {name: format_share(interval.value) for name, interval in comparison.intervals("pattern").items()}
            facts.append((_("style obeyed"), _from_to(shares)))
    facts.append((_("time"), format_duration(sum(manifest.seconds for manifest in manifests.values()))))
    return tuple(facts)


def _from_to(values: Mapping[str, str]) -> str:
    """``7.31 → 0.53``: of many contenders the first one's and the tuned one's; all of them stand in the table below."""
    ends = {name: value for name, value in values.items() if name in (next(iter(values)), "tuned")}
    return in_a_row(ends if len(ends) == 2 else values)


def _curve(path: Path, trained: Manifest) -> plots.Curve | None:
    """The losses of the last training. Steps that a resumed run did again count once; those of earlier trainings do not."""
    training: dict[int, float] = {}
    validation: dict[int, float] = {}
    starting = False
    for _moment, event in read_events(path) if path.is_file() else ():
        if isinstance(event, StageStarted) and event.stage == TRAIN:
            starting = True
        if not (isinstance(event, Metric) and event.stage == TRAIN):
            continue
        from_the_beginning = starting and event.step <= 1
        starting = False
        for name, points in (("loss", training), ("val_loss", validation)):
            for step in [step for step in points if from_the_beginning or step > event.step]:
                del points[step]
            if name in event.values:
                points[event.step] = event.values[name]
    if not training and not validation:
        return None
    return plots.Curve(tuple(training.items()), tuple(validation.items()), trained.result["best_step"] if validation else None)


def _training(trained: Manifest) -> tuple[tuple[str, str], ...]:
    result = trained.result
    steps = grouped(result["steps"])
    if result["early_stop"]:
        steps += _(" of {planned} (stopped early)").format(planned=grouped(result["planned_steps"]))
    facts = [(_("steps"), steps)]
    if result["first_loss"] is not None and result["best_loss"] is not None:
        losses = f"{Displayed(result['first_loss']):.3f} → {Displayed(result['best_loss']):.3f}"
        facts += [(_("validation loss"), losses), (_("best step"), grouped(result["best_step"]))]
    facts += [
        (_("trained parameters"), format_count(result["trained_parameters"])),
        (_("speed"), _("{rate} tokens/s").format(rate=grouped(result["tokens_per_second"]))),
        (_("peak memory"), format_bytes(result["peak_bytes"])),
        (_("computed in"), f"{result['dtype']}, {result['device']}"),
    ]
    return tuple(facts)


def _marks(exported: Manifest | None) -> Marks:
    """What the marks of its rungs are; nothing where it was exported before there were any."""
    return Marks(**(exported.result.get("marks") or {})) if exported else Marks()


def _ladder(exported: Manifest) -> tuple[Step, ...]:
    steps = []
    for record in exported.result["ladder"]:
        rung = Rung.from_record(record)
        kept = None
        if rung.kept is not None:
            text = f"{rung.title} {' '.join(interval_text(rung.kept, in_nats=False))}"
            low, value, high = (min(max(end, 0.0), KEPT_SHOWN) for end in (rung.kept.low, rung.kept.value, rung.kept.high))
            kept = plots.Estimate(text, value, low, high, "tuned")
        steps.append(Step(rung.title, tuple(rung.cells()), kept, rung.step == exported.result["chosen"]))
    return tuple(steps)


def _ladder_notes(recipe: Recipe, exported: Manifest) -> tuple[str, ...]:
    notes = [
        _(
            "Each step is asked how likely every token is at the same places of held-out examples: torch up to the merged "
            "model, llama.cpp for the files. Divergence (Kullback–Leibler, nats) and same choice are against the merged model. "
            "Gain: the base's loss less the tuned model's; kept of it: what remains against the base, or against the base "
            "rounded in the same way, whichever is less."
        ),
        _("Deployed is the smallest file that keeps {share} of the gain (export.keep_gain).").format(
            share=format_share(recipe.export.keep_gain)
        ),
    ]
    notes += _marks(exported).words()
    if exported.result["merged_onto"] == "nf4":
        notes.append(
            _("The adapter was merged into the NF4 weights that it was trained on, which cost less than the 16-bit ones.")
        )
    return tuple(notes)


def _rung_of_ollama(manifests: dict[str, Manifest]) -> tuple[Step, ...]:
    """What is known of the model where it is served, if that is Ollama; what it was not asked stays empty."""
    deployed, marks = manifests.get(DEPLOY), _marks(manifests[EXPORT])
    if deployed is None or not deployed.result.get("inside"):
        return ()
    served = Served.from_record(deployed.result["inside"])
    mark = served.mark if served.metric == marks.metric else None
    rung = Rung("ollama", 0.0, mark=mark, tokens_per_second=deployed.result["tokens_per_second"])
    return (Step(_("inside Ollama"), (Cell(""), *rung.cells()[1:]), None, is_chosen=False),)


def _notes_of_ollama(manifests: dict[str, Manifest]) -> tuple[str, ...]:
    deployed = manifests.get(DEPLOY)
    if deployed is None or not deployed.result.get("inside"):
        return ()
    lines = Served.from_record(deployed.result["inside"]).words()
    return tuple(_("Inside Ollama ({model}): {found}.").format(model=deployed.result["version"], found=line) for line in lines)


def _sides(prepared: Manifest) -> tuple[Side, ...]:
    result = prepared.result
    titles = {
        "train": (_("training"), _("what the adapter learns from")),
        "val": (_("validation"), _("chooses the best checkpoint")),
        "test": (_("held out"), _("never seen in training; the comparison is made on it")),
    }
    return tuple(
        Side(*titles[side], result["conversations"][side], result["tokens"][side], result["trained_tokens"][side])
        for side in titles
    )


def _refused(path: Path) -> dict[str, tuple[tuple[str, str], ...]]:
    """Rows left out by the check that dropped them, the most frequent check first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for record in records_of(path):
        if record["done"] == "dropped":
            found.setdefault(record["check"], []).append((record["source"], record["reason"]))
    return {check: tuple(rows) for check, rows in sorted(found.items(), key=lambda item: -len(item[1]))}


def _stages(manifests: dict[str, Manifest], events: Path) -> tuple[Stage, ...]:
    said = {}
    for _moment, event in read_events(events) if events.is_file() else ():
        if isinstance(event, StageFinished):
            said[event.stage] = event.summary
    titles = {FORGETTING: _("forgetting")}  # the other stages are called as their commands
    return tuple(
        Stage(titles.get(name, name), manifest.seconds, _moment_text(manifest.finished), said.get(name, ""))
        for name, manifest in manifests.items()
    )


def _moment_text(finished: str) -> str:
    return finished.replace("T", " ").removesuffix("Z")


def _commands(name: str, manifests: dict[str, Manifest]) -> tuple[tuple[str, str], ...]:
    """What is left to do for this run, then what can be done with it."""
    purposes = {
        "train": _("train the adapter"),
        "compare": _("measure base and tuned model on the held-out examples"),
        "export": _("write the GGUF files and prove them"),
        "deploy": _("hand the model to Ollama or to the embedded server"),
    }
    commands = [(f"afina {stage} {name}", purpose) for stage, purpose in purposes.items() if stage not in manifests]
    if EXPORT in manifests:
        commands += [
            (f"afina chat {name}", _("talk with the tuned model in the terminal")),
            (f"afina serve {name}", _("answer other programs on this machine (OpenAI's interface)")),
        ]
    return tuple(commands)


def _after_a_pilot(name: str) -> tuple[tuple[str, str], ...]:
    return ((f"afina run {name}", _("train on all examples, and do everything after that")),)
