"""The work of the stage ``prepare``, from its first file to its page."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina import __version__
from afina.core.collector import seldom_collected
from afina.core.errors import DataError
from afina.core.events import Events, Progress
from afina.core.files import write_atomic
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.core.units import Displayed, format_count, format_share
from afina.data.clean.checks import actions, checks
from afina.data.clean.row import Cleaner
from afina.data.conversation import Conversation, Done, Finding, Message, Preference
from afina.data.documents.chunks import chunk
from afina.data.documents.find import passed_over
from afina.data.documents.read import read_document
from afina.data.findings import Findings
from afina.data.flow import Earlier, Flow
from afina.data.kinds import Finder, kinds
from afina.data.read.examples import FileReading, Reader
from afina.data.render import Limits, Renderer
from afina.data.split import split
from afina.data.store import SIDES, Store, Traits, Writer, save_sides
from afina.data.survey import Limits as SetLimits
from afina.data.survey import Survey, survey
from afina.data.work import Steps
from afina.model.base import Base
from afina.model.head import twins
from afina.recipe.recipe import FileList, Recipe
from afina.report import prepared
from afina.report.drawing import load as load_drawing
from afina.report.prepare_page import draw
from afina.stages import fingerprint
from afina.stages.prepare import CHUNKS, NAME, PAGE, PREFERENCES, REPORT, TEMPLATE
from afina.stages.prepare_summary import Material, page
from afina.stages.stage import Outcome

_SHOWN = 5  # dropped rows that an error names


class Preparation:
    """One preparation from start to end; the steps are in ``work``, in their order."""

    def __init__(
        self,
        recipe: Recipe,
        base: Base,
        renderer: Renderer,
        documents: list[Path],
        folder: Path,
        run: RunFolder,
        events: Events,
        processes: int,
    ) -> None:
        self._recipe, self._base, self._renderer, self._documents = recipe, base, renderer, documents
        self._folder, self._run, self._events = folder, run, events
        self._processes = processes
        self._chosen = actions(recipe.data.checks, recipe.data.redact)
        self._cleaner = Cleaner(self._chosen, recipe.data.split.seed)
        self._files: list[FileReading] = []
        self._preferences = 0

    def work(self) -> Outcome:
        start = time.monotonic()
        data = self._recipe.data
        _tell_of_the_end(self._renderer, self._base, self._events)
        if self._renderer.rewrites_turns:
            text = _(
                "the template '{name}' rewrites earlier turns: each answer is trained behind the prompt that it will be given"
            )
            self._events.info(NAME, text.format(name=self._renderer.template.name))
        chunks, problems = self._chunks()
        with Findings(self._folder) as findings, seldom_collected():
            steps = self._steps()
            with Writer(self._folder) as writer, Flow(steps, writer, findings, self._earlier(), self._processes) as flow:
                for side, entries in enumerate((data.examples, data.val, data.test)):
                    flow.take(self._conversations(entries), side, self._tell_progress)
            self._require_enough_kept(findings)
            with Finder() if self._processes else nullcontext() as finder:
                store = Store(self._folder)
                traits = store.traits
                surveyed = survey(traits, store, self._chosen, self._set_limits())
                findings.add(*surveyed.findings)
                self._tell_of_leaks(surveyed)
                sides = self._sides(surveyed, traits)
                save_sides(self._folder, sides)
                loading = Thread(target=load_drawing)  # while the kinds are waited for
                loading.start()
                report = page(
                    Material(
                        self._recipe,
                        self._base,
                        self._renderer,
                        self._files,
                        chunks,
                        problems,
                        findings,
                        store,
                        surveyed,
                        sides,
                        traits.source,
                        time.monotonic() - start,
                        finder.kinds if finder is not None else kinds,
                    )
                )
                loading.join()
        self._tell(findings, report)
        prepared.save(self._folder / REPORT, report)
        write_atomic(self._folder / PAGE, draw(report))
        write_atomic(self._folder / TEMPLATE, self._renderer.template.source)
        result = self._result(store, surveyed, sides, findings, sum(chunks.values())) | {
            "worked": flow.worked,
            "taken_over": flow.taken_over,
        }
        outputs = sorted(path for path in self._folder.iterdir() if path.is_file() and path.suffix != ".part")
        return Outcome(result, [path for path in outputs if path.name != "started.json"], _summary(result))

    # ── one row at a time ─────────────────────────────────────────────────────────────────────────────────────────────

    def _steps(self) -> Steps:
        data = self._recipe.data
        wanted = self._recipe.train.max_tokens
        limit = self._base.context if wanted == "auto" or data.long == "keep" else min(wanted, self._base.context)
        limits = Limits(limit, split=data.long == "split", last_only=data.turns == "last")
        known = checks()
        depends_on = fingerprint.of_settings(
            __version__,
            self._renderer.template.source,
            json.dumps(self._renderer.template.tokens),
            fingerprint.of_tokenizer(self._base),
            json.dumps({name: action for name, action in self._chosen.items() if known[name].scope in ("text", "tokens")}),
            self._chosen["rare-language"],
            repr(limits),
            data.split.seed,
        )
        return Steps(data.split.seed, self._renderer, limits, self._chosen, depends_on)

    def _conversations(self, entries: FileList) -> Iterator[Conversation | Finding]:
        """The conversations of some files and what was found in the other rows; preferences are kept apart."""
        reader = Reader(entries, self._recipe.data, self._recipe.system, self._events)
        with (self._folder / PREFERENCES).open("a", encoding="utf-8") as preferences:
            for item in reader.items():
                if isinstance(item, Preference):
                    preferences.write(_preference_line(self._cleaned(item)))
                    yield Finding(item.source, "preference", _("kept in {file}").format(file=PREFERENCES))
                    self._preferences += 1
                else:
                    yield item
        self._files += reader.files
        if not self._preferences:
            (self._folder / PREFERENCES).unlink()

    def _cleaned(self, preference: Preference) -> Preference:
        """The preference with its texts mended, and personal data replaced, as the recipe says."""

        def clean(answer: str) -> tuple[Message, ...]:
            talk = Conversation((*preference.prompt, Message("assistant", answer)), preference.source)
            cleaned, _found = self._cleaner.clean(talk)
            return (cleaned or talk).messages

        *prompt, chosen = clean(preference.chosen)
        return replace(preference, prompt=tuple(prompt), chosen=chosen.content, rejected=clean(preference.rejected)[-1].content)

    def _earlier(self) -> Earlier | None:
        """What the preparation before this one kept, where there was one and its files can be read."""
        aside = self._run.latest_aside(NAME)
        if aside is None:
            return None
        try:
            return Earlier(Store(aside))
        except DataError:
            return None  # of another version: then everything is done anew

    def _chunks(self) -> tuple[dict[str, int], dict[str, str]]:
        """Writes the documents' chunks; how many each document gave, and what is wrong with the others."""
        counts: dict[str, int] = {}
        problems: dict[str, str] = {}
        lines: list[str] = []
        for number, path in enumerate(self._documents, 1):
            try:
                document = read_document(path)
                found = list(chunk(document, self._recipe.data.chunk_characters))
            except DataError as error:
                problems[str(path)] = error.what
                if len(self._documents) == 1:
                    raise
                self._events.warn(NAME, f"{error.what}; {_('what to do')}: {error.fix}")
                continue
            counts[str(path)] = len(found)
            for notice in document.notices:
                self._events.info(NAME, f"{path}: {notice}")
            lines += [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in found]
            self._events.emit(Progress(NAME, _("documents"), number, len(self._documents), _("files")))
        for path in passed_over(self._recipe.data.documents):
            problems[str(path)] = _("not a document that is read")
        if self._documents:
            write_atomic(self._folder / CHUNKS, "".join(lines))
        return counts, problems

    def _tell_progress(self, done: int) -> None:
        self._events.emit(Progress(NAME, _("examples"), done, 0, _("conversations")))

    # ── all rows together ─────────────────────────────────────────────────────────────────────────────────────────────

    def _set_limits(self) -> SetLimits:
        wanted = self._recipe.train.max_tokens
        data = self._recipe.data
        return SetLimits(
            None if wanted == "auto" or data.long == "keep" else wanted,
            self._base.context,
            data.long != "drop",
            data.limit,
            data.split.seed,
        )

    def _require_enough_kept(self, findings: Findings) -> None:
        """Raises DataError where more rows than allowed could not be read or used."""
        known = checks()
        broken = {
            check: count
            for check, count in findings.dropped().items()
            if known[check].scope in ("reading", "tokens") and known[check].severity != "info"
        }
        count, rows = sum(broken.values()), sum(file.rows for file in self._files)
        share, limit = count / max(1, rows), self._recipe.data.max_broken
        usable = rows - sum(findings.dropped().values())
        if not any(file.conversations for file in self._files):
            usable = 0  # texts are found once a file
        if usable > 0 and share <= limit:
            return
        shown = [
            f"  {finding.source}: {finding.reason} ({finding.check})"
            for check in (broken or findings.dropped())
            for finding in findings.first[check]
            if finding.done == "dropped"
        ]
        dropped = broken or findings.dropped()
        if (total := sum(dropped.values())) > _SHOWN:
            by_check = ", ".join(f"{check} {number}" for check, number in sorted(dropped.items(), key=lambda item: -item[1]))
            shown[_SHOWN:] = [_("  … and {count} more; all by check: {checks}").format(count=total - _SHOWN, checks=by_check)]
        refused = total if usable > 0 else max(total, rows)
        what = _("{refused} of {rows} rows cannot be used ({share}; data.max_broken allows {limit})").format(
            refused=refused, rows=rows, share=_percent(refused / max(1, rows)), limit=_percent(limit)
        )
        worst = max(dropped, key=dropped.__getitem__)
        if usable <= 0:
            raise DataError(
                "\n".join([what, *shown]), fix=_remedy(worst) or _("mend the rows named above: not one can be learned from")
            )
        enough = math.ceil(share * 100) / 100
        fix = _("mend the rows named above, or go on without them: --set data.max_broken={enough:g}")
        if remedy := _remedy(worst):
            fix = remedy + _("; or go on without these rows: --set data.max_broken={enough:g}")
        fix = fix.format(enough=enough)
        raise DataError("\n".join([what, *shown]), fix=fix)

    def _sides(self, surveyed: Survey, traits: Traits) -> dict[str, NDArray[np.int64]]:
        """The numbers of the conversations on each side: of the files that were given for it, else by the split."""
        data, left = self._recipe.data, surveyed.left()
        examples = left[traits.side[left] == 0]
        settings = data.split.model_copy(
            update={"val": 0 if data.val else data.split.val, "test": 0 if data.test else data.split.test}
        )
        parted = split(traits.prompt[examples], surveyed.groups[examples], settings)
        sides = {side: examples[numbers] for side, numbers in parted.items()}
        for number, (side, entries) in enumerate((("val", data.val), ("test", data.test)), 1):
            if entries:
                sides[side] = left[traits.side[left] == number]
                if not len(sides[side]):
                    raise DataError(
                        _("no row of data.{side} is left").format(side=side),
                        fix=_("give files with examples that can be used, or take data.{side} out of the recipe").format(
                            side=side
                        ),
                    )
        return sides

    # ── what is told ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell_of_leaks(self, surveyed: Survey) -> None:
        for leaked in surveyed.leaked:
            text = _(
                "{count} of {all} rows of data.{side} are asked in rows to learn from too, {same} of them the same to the letter"
            ).format(count=leaked.rows, all=leaked.all, side=leaked.side, same=leaked.same)
            self._events.warn(NAME, text)

    def _tell(self, findings: Findings, report: prepared.PreparePage) -> None:
        """One line a check that found something worth a look, the worst first; then the verdict."""
        for found in report.found:
            if found.severity != "info":
                first = found.rows[0]
                text = _("{check}: {count} × {reason} ({done}); the first is {place}").format(
                    check=found.check,
                    count=found.count,
                    reason=found.reason,
                    done=_done_words(findings, found.check),
                    place=first.place,
                )
                if first.reason != found.reason:
                    text += f": {first.reason}"
                self._events.warn(NAME, text)
        self._events.info(NAME, report.verdict)
        self._events.info(NAME, _("the page: {path}").format(path=self._folder / PAGE))

    def _result(
        self, store: Store, surveyed: Survey, sides: Mapping[str, NDArray[np.int64]], findings: Findings, chunks: int
    ) -> dict[str, Any]:
        tokens, trained, rows_of = store.lengths(), store.trained(), store.rows_of()
        result: dict[str, Any] = {"conversations": {}, "tokens": {}, "trained_tokens": {}}
        kept = np.zeros(len(store), np.bool_)
        for side in SIDES:
            on_side = np.zeros(len(store), np.bool_)
            on_side[sides[side]] = True
            kept |= on_side
            result["conversations"][side] = len(sides[side])
            result["tokens"][side] = int(tokens[on_side[rows_of]].sum())
            result["trained_tokens"][side] = int(trained[on_side[rows_of]].sum())
        return result | {
            "dropped": findings.dropped(),
            "changed": findings.changed(),
            "longest": int(tokens[kept[rows_of]].max()),
            "max_tokens": surveyed.max_tokens,
            "template": self._renderer.template.name,
            "end_of_turn": self._renderer.end_of_turn,
            "chunks": chunks,
        }


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


def _preference_line(preference: Preference) -> str:
    record = {
        "prompt": [{"role": message.role, "content": message.content} for message in preference.prompt],
        "chosen": preference.chosen,
        "rejected": preference.rejected,
        "source": str(preference.source),
    }
    return json.dumps(record, ensure_ascii=False) + "\n"


def _done_words(findings: Findings, check: str) -> str:
    """What became of the rows that a check found: ``left out``, or ``12 left out, 3 kept``."""
    words: dict[Done, str] = {"dropped": _("left out"), "changed": _("changed"), "kept": _("kept")}
    counts = {done: findings.counts[check, done] for done in words if findings.counts[check, done]}
    if len(counts) == 1:
        return words[next(iter(counts))]
    return ", ".join(f"{count} {words[done]}" for done, count in counts.items())


def _remedy(check: str) -> str:
    """What to do where a check leaves out most rows; empty where they are to be mended one by one."""
    remedies = {
        "preference": _("give examples with one answer each: nothing trains on pairs of answers yet"),
        "plain-text": _("give texts as data.documents, and examples with questions and answers; afina draft proposes some"),
        "template": _("take a base or a chat_template that can write such messages, or change them"),
        "too-long": _("raise train.max_tokens, take a base that can hold more, or part them: --set data.long=split"),
        "lost-characters": _("take a base whose tokenizer knows these characters"),
    }
    return remedies.get(check, "")


def _percent(share: float) -> str:
    return f"{Displayed(share * 100):.3g} %"


def _summary(result: Mapping[str, Any]) -> str:
    counts, tokens, trained = result["conversations"], result["tokens"]["train"], result["trained_tokens"]["train"]
    text = _("{train} to train on, {val} to choose by, {test} held out; {tokens} tokens, {share} of them trained").format(
        **{side: format_count(count) for side, count in counts.items()},
        tokens=format_count(tokens),
        share=format_share(trained / max(1, tokens)),
    )
    if dropped := sum(result["dropped"].values()):
        text += _("; rows left out: {count}").format(count=format_count(dropped))
    if result["changed"]:
        text += _("; rows changed: {count}").format(count=format_count(result["changed"]))
    if result["taken_over"]:
        text += _("; rows taken over from before: {count}, worked on: {worked}").format(
            count=format_count(result["taken_over"]), worked=format_count(result["worked"])
        )
    return text
