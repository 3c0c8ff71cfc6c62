"""`afina advise`: whether to fine-tune at all, from the user's own examples, in seconds."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from afina.cli.stage import print_json, say_next
from afina.cli.target import add_target, open_run
from afina.cli.terminal import shown_events
from afina.core.translation import _
from afina.core.units import format_bytes, format_count, format_duration, format_share

if TYPE_CHECKING:
    from afina.compare.advice import Advice, Reason
    from afina.compare.figure import Figure
    from afina.core.run import RunFolder
    from afina.recipe.recipe import Recipe
    from afina.stages.advise import Seen
    from afina.stages.needs import Needs

NAME = "advise"
HELP = "whether to fine-tune at all: a verdict from your examples, in seconds"

_KEYS = 100  # characters of the keys of a JSON answer
_SIDES = ("wait", "tune", "rag", "prompt", "note")  # as they are told


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    from afina.core.events import Events
    from afina.stages import advise

    recipe, folder = open_run(args)
    with shown_events() as listener:
        seen = advise.look(recipe, folder, Events(listeners=(listener,)))
    answers = advise.answers_of(recipe)
    if sys.stdin.isatty() and not args.json:
        answers |= _ask(advise.unanswered(answers))
    advice = advise.conclude(seen, answers)
    is_trained = folder.manifest("train") is not None
    next_command = _next(advice, args.target, recipe.name, is_trained)
    to_train = not is_trained and advice.verdict != "too-few"
    needs = _needs(recipe, folder, seen) if to_train else None
    if args.json:
        print_json({**_record(advice, seen, next_command), "needs": needs and asdict(needs)})
    else:
        _print(advice)
        if to_train:
            print(_needs_words(needs))
    say_next(next_command, args)
    return 0


def _needs(recipe: Recipe, folder: RunFolder, seen: Seen) -> Needs | None:
    from afina.stages.needs import needs_of

    return needs_of(recipe, folder, seen.longest, seen.characters, prepared=seen.prepared)


def _needs_words(needs: Needs | None) -> str:
    """What a pilot and the training take."""
    if needs is None:
        return _("What the training needs is known after: afina prepare, then afina plan.")
    if not needs.fits:
        return _(
            "Training this base hardly fits here: by a rough estimate the leanest way needs {needed}, {free} are free. "
            "Exactly: afina plan."
        ).format(needed=format_bytes(needs.least_bytes), free=format_bytes(needs.free_bytes))
    memory = format_bytes(needs.needed_bytes)
    if needs.needed_bytes > needs.free_bytes:
        memory = _("{least} to {most}").format(least=format_bytes(needs.least_bytes), most=format_bytes(needs.free_bytes))
    told = _(
        "A pilot (afina compare --pilot) trains about {pilot}, {pilot_steps} steps, and then answers; the whole training takes "
        "about {whole}, {steps} steps. Either needs about {memory} of memory. These are estimates from {source}; both commands "
        "tell their exact plan before they start."
    )
    return told.format(
        pilot=format_duration(needs.pilot_seconds),
        pilot_steps=needs.pilot_steps,
        whole=format_duration(needs.seconds),
        steps=needs.steps,
        memory=memory,
        source=_("the tokens of the rows") if needs.is_tokenized else _("the length of the texts"),
    )


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ask(keys: Sequence[str]) -> dict[str, str]:
    """The answers given in the terminal; a question that is passed over stays unknown."""
    answers = {}
    for key in keys:
        question, choices = _question(key)
        numbered = "   ".join(f"{number} {words}" for number, words in enumerate(choices.values(), 1))
        print(f"{question}\n  {numbered}   {_('Enter: I do not know')}\n> ", end="", file=sys.stderr, flush=True)
        typed = sys.stdin.readline().strip()
        if typed.isdecimal() and 1 <= int(typed) <= len(choices):
            answers[key] = list(choices)[int(typed) - 1]
        else:
            print((_("{typed!r} is none of these; ").format(typed=typed) if typed else "") + _("left open"), file=sys.stderr)
    return answers


def _question(key: str) -> tuple[str, dict[str, str]]:
    """A question that data cannot answer, and what one may answer."""
    return {
        "facts_change": (
            _("How often do facts in the answers stop being true (prices, opening hours, names)?"),
            {"never": _("never"), "sometimes": _("sometimes"), "often": _("often")},
        ),
        "prompt_budget": (
            _("How long may the prompt be that goes along with each question?"),
            {
                "short": _("short: each request must be cheap or quick"),
                "long": _("long: instructions and examples may go along"),
            },
        ),
        "runs_on": (
            _("Where must the model run?"),
            {"own": _("on machines of mine"), "anywhere": _("anywhere: a large hosted model may answer too")},
        ),
    }[key]


# ── the advice in words ───────────────────────────────────────────────────────────────────────────────────────────────


def _print(advice: Advice) -> None:
    """The verdict; the reasons by what they speak for, with their rows; what would change it; what settles it."""
    folder = _common_folder(advice.reasons)
    print(_verdict_words(advice))
    for side in _SIDES:
        reasons = [reason for reason in advice.reasons if reason.speaks == side]
        if reasons:
            print(f"\n{_side_words(side)}")
        for reason in reasons:
            print(f"  - {_reason_words(reason)}")
            if reason.figure is not None:
                _print_rows(reason.figure, 1 if side == "note" else 2, folder)
    print("\n" + _("What would change this"))
    for change in advice.changes:
        print(f"  - {_change_words(change.when)} → {_short_verdict(change.verdict)}")
    if not advice.changes:
        print("  - " + _("nothing that could be answered or added here"))
    for key in advice.unanswered:
        setting = _("not answered yet: {question} (in the recipe: advise.{key})")
        print("  - " + setting.format(question=_question(key)[0], key=key))
    print(
        "\n" + _("What no rule can know: whether the base does it already with a good prompt, and whether what is said is right.")
    )
    print(_("A comparison on held-out examples settles it."))
    if folder:
        print("\n" + _("The rows are in {folder}").format(folder=folder))


def _print_rows(figure: Figure, most: int, folder: str) -> None:
    rows = [("", row) for row in figure.rows[:most]]
    if figure.name in ("moved", "contradictions"):
        rows = [("", row) for row in figure.rows[:2]]  # the two that differ
    others = {"examples": _("left out") + ": ", "length": ""}.get(figure.name, _("not so") + ": ")
    rows += [(others, row) for row in figure.others[:2]]
    for label, row in rows:
        line = f"{row.place}  {row.text}"
        print(f"      {label}{line.replace(folder + os.sep, '') if folder else line}")


def _common_folder(reasons: Sequence[Reason]) -> str:
    """The folder in which all the rows lie that are shown; "" where there is none to speak of."""
    places = {row.place for reason in reasons if reason.figure for row in (*reason.figure.rows, *reason.figure.others)}
    folders = {os.path.dirname(place) for place in places}  # noqa: PTH120 -- a place is a path and a line
    if not folders or not all(map(os.path.isabs, folders)):
        return ""
    return os.path.commonpath(folders)


def _record(advice: Advice, seen: Seen, next_command: str) -> dict[str, Any]:
    """The advice as data, each part with its sentence."""
    record = asdict(advice)
    record["text"] = _verdict_words(advice)
    for told, reason in zip(record["reasons"], advice.reasons, strict=True):
        told["text"] = _reason_words(reason)
    for told, change in zip(record["changes"], advice.changes, strict=True):
        told["text"] = f"{_change_words(change.when)} → {_short_verdict(change.verdict)}"
    counted = {figure.name: figure.count for figure in seen.figures}
    return {**record, "counted": counted, "prepared": seen.prepared, "next": next_command}


def _next(advice: Advice, target: str, name: str, is_trained: bool) -> str:
    """The measurement that settles it."""
    if is_trained:
        return f"afina compare {name}"
    if advice.verdict == "too-few":
        return _("write more examples, then: {command}").format(command=f"afina advise {target}")
    return f"afina compare --pilot {target}"


def _verdict_words(advice: Advice) -> str:
    return {
        "tune": _("Fine-tune: the answers have a form of their own, and little in them has to be looked up."),
        "tune-and-rag": _("Fine-tune for the form, and look the facts up (RAG)."),
        "rag": _("Do not fine-tune for this: look the facts up (RAG). The answers show no form of their own."),
        "prompt": _("Try a prompt first: the answers have a form, and a long prompt to a large model may bring it too."),
        "too-few": _("Not yet: {count} good examples are too few. Try a prompt with the best of them in it."),
        "contradicting": _("Not yet: the same questions have different answers. Decide first which are right."),
        "measure": _("These data do not decide it: they show neither a form of their own nor facts to look up. Measure it."),
    }[advice.verdict].format(count=format_count(advice.good))


def _short_verdict(verdict: str) -> str:
    return {
        "tune": _("fine-tune"),
        "tune-and-rag": _("fine-tune for the form, and RAG for the facts"),
        "rag": _("RAG, without fine-tuning"),
        "prompt": _("a prompt first"),
        "too-few": _("not yet"),
        "contradicting": _("not yet, for the answers contradict each other"),
        "measure": _("the data would not decide it"),
    }[verdict]


def _side_words(side: str) -> str:
    return {
        "wait": _("First"),
        "tune": _("For fine-tuning"),
        "rag": _("For looking facts up (RAG)"),
        "prompt": _("For a prompt alone"),
        "note": _("Also seen; it decides nothing by itself"),
    }[side]


def _change_words(when: Mapping[str, str]) -> str:
    words = {
        "facts_change=never": _("if the facts never change"),
        "facts_change=sometimes": _("if the facts change sometimes"),
        "facts_change=often": _("if the facts change often"),
        "prompt_budget=short": _("if the prompt must be short"),
        "prompt_budget=long": _("if the prompt may be long"),
        "runs_on=own": _("if it must run on machines of yours"),
        "runs_on=anywhere": _("if a large hosted model may answer"),
    }
    told = []
    for key, value in when.items():
        if key == "examples":
            told.append(_("with {count} good examples of this kind").format(count=value))
        elif key == "contradictions":
            told.append(_("once each question has one answer"))
        elif key == "form":
            told.append(_("if most answers had one form (a structure, an opening, an ending)"))
        elif key == "documents":
            told.append(_("if most answers stood in documents of yours (data.documents names none)"))
        else:
            told.append(words[f"{key}={value}"])
    return _(" and ").join(told)


def _reason_words(reason: Reason) -> str:
    if reason.figure is not None:
        return _figure_words(reason.figure)
    return {
        "facts_change=never": _("you say that the facts never change"),
        "facts_change=sometimes": _("you say that the facts change sometimes"),
        "facts_change=often": _("you say that the facts change often"),
        "prompt_budget=short": _("you say that the prompt must be short; what is trained needs no words in it"),
        "prompt_budget=long": _("you say that the prompt may be long; instructions and examples fit into it"),
        "runs_on=own": _("you say that it must run on machines of yours; small models follow a form better when trained on it"),
        "runs_on=anywhere": _("you say that a large hosted model may answer; those follow instructions well"),
    }[reason.name]


def _figure_words(figure: Figure) -> str:
    """The sentence of a figure."""
    share, count = _share_words(figure), format_count(figure.count)
    kinds = {
        "price": _("prices"),
        "date": _("dates"),
        "time": _("times of day"),
        "contact": _("telephones, e-mail addresses or links"),
        "number": _("numbers"),
        "name": _("names"),
    }
    if figure.name in kinds:
        text = _("{share} of the answers carry {things} that their question does not bring along ({distinct} different)")
        return text.format(share=share, things=kinds[figure.name], distinct=format_count(int(figure.values["distinct"])))
    sentence = {
        "examples": _examples_words,
        "structure": _structure_words,
    }.get(figure.name)
    if sentence is not None:
        return sentence(figure)
    text = {
        "labels": _("the answers are {distinct} labels, again and again; the commonest is “{most}”"),
        "opening": _("{share} of the answers begin with “{phrase}”"),
        "closing": _("{share} of the answers end with “{phrase}”"),
        "register": _("{share} of the answers that speak to the reader say “{register}”"),
        "length": _("{share} of the answers are about {median} words long, none under {shortest} or over {longest}"),
        "documents": _("{share} of the answers stand in your documents, most of their words in the same order"),
        "prompt": _("{share} of the answers are made of what their question says: that is reading, not knowing"),
        "moved": _("{count} examples repeat a question with other numbers in the answer: something changed in the meantime"),
        "contradictions": _("{count} examples ask {groups} questions that have different answers"),
    }[figure.name]
    words = text.format(share=share, count=count, **figure.values)
    return words + (_(" (‹n›: any number)") if "‹n›" in words else "")


def _share_words(figure: Figure) -> str:
    """``81 %``; a few, or all but a few, by their number."""
    left = figure.of - figure.count
    if 0 < left < 0.005 * figure.of:
        return _("all but {count}").format(count=left)
    return format_count(figure.count) if 0 < figure.count < 0.005 * figure.of else format_share(figure.share)


def _examples_words(figure: Figure) -> str:
    from afina.data.enough import FEW, GOOD, MANY  # not needed for help

    text = _("{count} good examples of {rows} rows").format(count=format_count(figure.count), rows=format_count(figure.of))
    if figure.values["dropped"]:
        text += _("; left out: {checks}").format(checks=figure.values["dropped"])
    if int(figure.values["looked_at"]) < figure.count:
        text += _("; what follows was counted in {count} of them").format(count=format_count(int(figure.values["looked_at"])))
    if figure.count < FEW:
        text += _("; below about {few} a good prompt usually does as well").format(few=FEW)
    else:
        text += _("; {good} to {many} are usually enough for a style or a form").format(good=GOOD, many=MANY)
    return text


def _structure_words(figure: Figure) -> str:
    structure, share = str(figure.values["structure"]), _share_words(figure)
    if structure.startswith("json: "):
        keys = structure.removeprefix("json: ")
        keys = keys if len(keys) <= _KEYS else keys[: _KEYS - 1] + "…"
        return _("{share} of the answers are JSON with the keys {keys}").format(share=share, keys=keys)
    if structure in ("text", "lines"):
        plain = _("{share} of the answers are one plain paragraph, without a structure")
        return (plain if structure == "text" else _("{share} of the answers are several plain lines")).format(share=share)
    names = {
        "json": _("a JSON object without keys"),
        "code": _("code"),
        "heading": _("headings"),
        "table": _("a table"),
        "list": _("a list"),
        "steps": _("numbered steps in running text"),
        "bold": _("bold words"),
    }
    words = _("a JSON list") if structure == "json list" else " + ".join(names[name] for name in structure.split())
    return _("{share} of the answers have one structure: {structure}").format(share=share, structure=words)
