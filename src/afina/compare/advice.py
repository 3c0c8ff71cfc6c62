"""Whether to fine-tune: a verdict from what examples show and what only their owner knows, its reasons, what would change it.

The rules, in their order:

- fewer than about 100 good examples: not yet; a prompt with examples in it first
- many questions with several answers: not yet; decide first which is right
- a steady form speaks for fine-tuning; facts to look up, and facts that change, for retrieval (RAG); both, for both
- where a long prompt is no trouble and a large model may be used, a form is first tried in a prompt
- where the data show neither a form nor facts, they do not decide: measure

They are rules of thumb. Each can be wrong for one set of examples, which is why an advice ends with a measurement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal

from afina.compare.figure import Example, Figure
from afina.compare.form import form_figures
from afina.compare.knowledge import knowledge_figures
from afina.data.documents.document import Chunk
from afina.data.enough import FEW

Verdict = Literal["tune", "tune-and-rag", "rag", "prompt", "too-few", "contradicting", "measure"]
Side = Literal["tune", "rag", "prompt", "wait", "note"]

QUESTIONS = {  # what data cannot tell, and what one may say about it
    "facts_change": ("never", "sometimes", "often"),
    "prompt_budget": ("short", "long"),
    "runs_on": ("own", "anywhere"),
}
UNKNOWN = "unknown"

_STEADY = 0.8  # share of the answers from which on a structure, an opening or a closing is the form of all
_IN_DOCUMENTS, _PARTLY = 0.5, 0.2  # share of the answers found in the documents: mostly, and partly
_CARRY = 0.2  # share of the answers with values that may change, from which on they count
_MOVED = 0.02  # share of the examples whose question has other numbers in another row
_TOLD = 0.01  # share from which on a few rows are worth a line
_TOO_MANY = 0.2  # share of the examples that contradict each other, from which on nothing can be learned from them
_READING = 0.5  # share of the answers made of their prompt


@dataclass(frozen=True)
class Reason:
    """``speaks``: for fine-tuning, for RAG, for a prompt, for waiting, or for nothing (``note``).

    ``figure`` is what was counted; None where the reason is an answer of the examples' owner: then ``name`` is ``key=answer``.
    """

    speaks: Side
    name: str
    figure: Figure | None = None


@dataclass(frozen=True)
class Change:
    """With these answers, or so many examples, the verdict would be another."""

    when: Mapping[str, str]
    verdict: Verdict


@dataclass(frozen=True)
class Advice:
    """``good``: examples that can be learned from; ``unanswered``: questions that were not answered and on which it depends."""

    verdict: Verdict
    good: int
    reasons: tuple[Reason, ...]
    changes: tuple[Change, ...]
    answers: Mapping[str, str]
    unanswered: tuple[str, ...]


def observe(examples: Sequence[Example], chunks: Sequence[Chunk] = ()) -> tuple[Figure, ...]:
    """Everything that is counted in the examples; at least one is needed."""
    return (*form_figures(examples), *knowledge_figures(examples, chunks))


def advise(figures: Sequence[Figure], good: int, answers: Mapping[str, str]) -> Advice:
    """The verdict on ``good`` examples with these ``figures``; ``answers`` to QUESTIONS, unknown where one is left out."""
    seen = {figure.name: figure for figure in figures}
    said = {key: answers.get(key, UNKNOWN) for key in QUESTIONS}
    verdict = decide(seen, good, said)
    changes = tuple(_changes(seen, good, said, verdict))
    depends = {key for change in changes for key in change.when}  # beside questions, "examples" and the like
    unanswered = tuple(key for key, answer in said.items() if answer == UNKNOWN and key in depends)
    reasons = (*_reasons(seen), *_said(said))
    return Advice(verdict, good, reasons, changes, said, unanswered)


def decide(seen: Mapping[str, Figure], good: int, said: Mapping[str, str]) -> Verdict:
    """The rules at the top of this file."""
    if good < FEW:
        return "too-few"
    if _share(seen, "contradictions") >= _TOO_MANY:
        return "contradicting"
    form = any(_is_steady(figure) for figure in seen.values())
    facts = _needs_facts(seen, said)
    if form and facts:
        return "tune-and-rag"
    if form:
        return "prompt" if said["prompt_budget"] == "long" and said["runs_on"] == "anywhere" else "tune"
    return "rag" if facts else "measure"


def _is_steady(figure: Figure) -> bool:
    """Whether the figure alone shows a form. Plain text of any length and tú or usted are too little for that."""
    if figure.name == "labels":
        return True
    if figure.name == "structure" and figure.values["structure"] in ("text", "lines"):
        return False
    return figure.name in ("structure", "opening", "closing") and figure.share >= _STEADY


def _needs_facts(seen: Mapping[str, Figure], said: Mapping[str, str]) -> bool:
    """Whether the answers say what is better looked up: it stands in the documents, or it does not stay true."""
    if _share(seen, "documents") >= _IN_DOCUMENTS:
        return True
    if said["facts_change"] == "never":
        return False
    if _share(seen, "moved") >= _MOVED:
        return True
    may_change = _share(seen, "changing") >= _CARRY or _share(seen, "documents") >= _PARTLY
    if said["facts_change"] == "often":  # names and numbers too; labels and mere phrases say nothing that could change
        return may_change or max(_share(seen, "number"), _share(seen, "name")) >= _CARRY
    return said["facts_change"] == "sometimes" and may_change


def _share(seen: Mapping[str, Figure], name: str) -> float:
    return seen[name].share if name in seen else 0.0


# ── reasons ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _reasons(seen: Mapping[str, Figure]) -> Iterator[Reason]:
    for name, figure in seen.items():
        if side := _side(figure):
            yield Reason(side, name, figure)


def _side(figure: Figure) -> Side | None:
    """What a figure speaks for; None where it is not worth a line."""
    share = figure.share
    match figure.name:
        case "examples":
            return "wait" if figure.count < FEW else "tune"
        case "labels":
            return "tune"
        case "structure" | "opening" | "closing":
            return "tune" if _is_steady(figure) else "note"
        case "documents":
            return "rag" if share >= _PARTLY else "note"
        case "moved":
            return "rag" if share >= _MOVED else "note" if figure.count else None
        case "contradictions":
            return "wait" if share >= _TOLD else "note" if figure.count else None
        case "prompt":
            return "note" if share >= _READING else None
        case "price" | "date" | "time" | "contact" | "number" | "name" if share < _TOLD:
            return None
        case "price" | "date" | "time" | "contact":
            return "rag" if share >= _CARRY else "note"
        case "changing":  # prices, dates, times and contacts together
            return None
        case _:
            return "note"


def _said(said: Mapping[str, str]) -> Iterator[Reason]:
    sides: dict[tuple[str, str], Side] = {
        ("facts_change", "often"): "rag",
        ("facts_change", "sometimes"): "note",
        ("facts_change", "never"): "tune",
        ("prompt_budget", "short"): "tune",
        ("prompt_budget", "long"): "prompt",
        ("runs_on", "own"): "tune",
        ("runs_on", "anywhere"): "prompt",
    }
    for item in said.items():
        if item in sides:
            yield Reason(sides[item], "=".join(item))


# ── what would change it ──────────────────────────────────────────────────────────────────────────────────────────────


def _changes(seen: Mapping[str, Figure], good: int, said: Mapping[str, str], verdict: Verdict) -> Iterator[Change]:
    """The fewest other answers that lead to another verdict, and what other examples or documents would lead to."""
    if verdict == "too-few":
        yield Change({"examples": str(FEW)}, decide(seen, FEW, said))
        return
    found: list[Change] = []
    for count in (1, 2):
        for keys in combinations(QUESTIONS, count):
            for choice in product(*(QUESTIONS[key] for key in keys)):
                when = dict(zip(keys, choice, strict=True))
                other = decide(seen, good, {**said, **when})
                if other != verdict and not any(change.when.items() <= when.items() for change in found):
                    found.append(Change(when, other))
    yield from found
    if verdict == "contradicting":
        without = {name: figure for name, figure in seen.items() if name != "contradictions"}
        yield Change({"contradictions": "none"}, decide(without, good, said))
        return
    if verdict in ("rag", "measure"):
        yield Change({"form": "steady"}, decide({**seen, "labels": Figure("labels", 1, 1)}, good, said))
    if not {"documents", "labels"} & seen.keys() and verdict in ("tune", "prompt", "measure"):
        yield Change({"documents": "mostly"}, decide({**seen, "documents": Figure("documents", 1, 1)}, good, said))
