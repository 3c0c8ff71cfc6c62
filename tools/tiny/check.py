"""What the tiny model can do with words, names, places and numbers that training never saw, in each language.

    python -m tools.tiny.check src/afina/model/tiny --each 100

A table of the shares of right greedy answers with their 95 % intervals, by ability; with ``--json`` the same for a program, with
``--wrong`` wrong answers to read, with ``--talk`` what it says to a few questions that nobody prepared.
"""

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from afina.measure.intervals import Interval, proportion_interval
from tools.tiny.dialogues import Dialogue
from tools.tiny.grammar import Language, World
from tools.tiny.kinds import KINDS
from tools.tiny.patterns import few_shot
from tools.tiny.reading import reading

Score = Callable[[str, str], bool]
LANGUAGES: tuple[Language, ...] = ("es", "en")
_SPANISH = set("el la los las es un una de en y con por para qué hola más son te puedo ayudarte capital encantado".split())
_ENGLISH = set("the is a an of in and with for what hello plus you i can help how capital it nice meet".split())


def same(answer: str, wanted: str) -> bool:
    return answer == wanted


def same_last_word(answer: str, wanted: str) -> bool:
    """The value of the answer is its last word, whatever sentence leads to it."""
    return answer.split()[-1:] == wanted.split()[-1:]


def same_case(answer: str, wanted: str) -> bool:
    """All upper case or all lower case, as it was asked for."""
    return bool(answer) and (answer.isupper(), answer.islower()) == (wanted.isupper(), wanted.islower())


def one_word(answer: str, _wanted: str) -> bool:
    return len(answer.split()) == 1


def same_edge(answer: str, wanted: str) -> bool:
    """The demanded first or last word is there; one of both is the demanded one."""
    return answer.split()[:1] == wanted.split()[:1] or answer.split()[-1:] == wanted.split()[-1:]


def same_language(answer: str, wanted: str) -> bool:
    """More small words of the wanted answer's language than of the other one."""
    return (_spanish(answer) > 0) == (_spanish(wanted) > 0) and _spanish(answer) != 0


def _spanish(text: str) -> int:
    words = re.findall(r"\w+", text.lower())
    return sum(word in _SPANISH for word in words) - sum(word in _ENGLISH for word in words)


@dataclass(frozen=True)
class Ability:
    """What is asked, and when an answer is right. ``goal``: the share that was aimed at, if any."""

    title: str
    make: Callable[[World], Dialogue]
    right: Score
    goal: float | None = None


def _first_turn(dialogue: Dialogue) -> Dialogue:
    return Dialogue(dialogue.turns[:1], dialogue.system)


def _kind(name: str) -> Callable[[World], Dialogue]:
    return KINDS[name][0]


ABILITIES: dict[str, Ability] = {
    "reading": Ability("reads: the sentence that answers", lambda w: _first_turn(reading(w, absent=False)), same, 0.9),
    "value": Ability("reads: the value alone", lambda w: _first_turn(reading(w, bare=True, absent=False)), same, 0.9),
    "absent": Ability("says that it is not there", lambda w: _first_turn(reading(w, absent=True)), same, 0.85),
    "few_shot": Ability("goes on with a pattern of examples", few_shot, same, 0.7),
    "language": Ability("obeys: language", _kind("language"), same_language, 0.9),
    "upper": Ability("obeys: upper or lower case", _kind("upper"), same_case, 0.9),
    "one_word": Ability("obeys: one word", _kind("one_word"), one_word, 0.9),
    "list": Ability("obeys: a list of the given things", _kind("list"), same, 0.9),
    "prefix": Ability("obeys: first or last word", _kind("prefix"), same_edge, 0.9),
    "entries": Ability("looks up an entry of a list", _kind("entries"), same),
    "copied": Ability("says words again", _kind("copied"), same),
    "order": Ability("takes who, what and where out of a sentence", _kind("order"), same),
    "name": Ability("remembers the user's name", _kind("name"), same_last_word),
    "mood": Ability("positive or negative", _kind("mood"), same),
    "topic": Ability("topic of a sentence", _kind("topic"), same),
    "capital": Ability("capital it was taught", _kind("capital"), same_last_word),
    "opposite": Ability("opposite it was taught", _kind("opposite"), same_last_word),
    "translate": Ability("translates a word it was taught", _kind("translate"), same_last_word),
    "arithmetic": Ability("sums up to 20 + 20", _kind("arithmetic"), same_last_word),
}
QUESTIONS = (
    "Hola, ¿qué tal?",
    "Hello!",
    "¿Quién eres?",
    "¿Cómo arreglo un grifo que gotea?",
    "How do I hang a picture?",
    "Mi puerta chirría, ¿qué hago?",
    "Cuéntame una historia sobre un gato.",
    "What is a hammer?",
    "El martillo grande cuesta 12,40 euros y el pequeño 7,10. ¿Cuánto cuesta el martillo grande?",
    "The shop in Mill Lane closes at 6:30 on Fridays. When does it close on Fridays?",
)


@torch.no_grad()
def answers(model: Any, tokenizer: Any, conversations: list[list[dict[str, Any]]], longest: int = 100) -> list[str]:
    """The greedy answer to every conversation, which ends with a user's message."""
    texts = [tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) for messages in conversations]
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found = [""] * len(texts)
    for start in range(0, len(order), 32):
        part = order[start : start + 32]
        batch = tokenizer(
            [texts[index] for index in part], return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
        )
        made = model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=longest)
        for index, row in zip(part, made[:, batch["input_ids"].shape[1] :], strict=True):
            found[index] = tokenizer.decode(row, skip_special_tokens=True)
    return found


@dataclass(frozen=True)
class Outcome:
    """An ability in one language: the share of right answers, and (answer, expected) of the wrong ones."""

    share: Interval
    wrong: list[tuple[str, str]]


def outcome(model: Any, tokenizer: Any, name: str, language: Language, count: int, seed: int) -> Outcome:
    ability = ABILITIES[name]
    rng = random.Random(f"{seed} {name} {language}")
    asked = [ability.make(World(rng, language, held_out=True)).messages() for _ in range(count)]
    wanted = [messages[-1]["content"] for messages in asked]
    found = answers(model, tokenizer, [messages[:-1] for messages in asked])
    verdicts = [ability.right(text, want) for text, want in zip(found, wanted, strict=True)]
    wrong = [(text, want) for text, want, right in zip(found, wanted, verdicts, strict=True) if not right]
    return Outcome(proportion_interval([float(right) for right in verdicts]), wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=100, help="questions of each ability in each language")
    parser.add_argument("--only", nargs="*", default=list(ABILITIES))
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wrong", type=int, default=0, help="show so many wrong answers of each")
    parser.add_argument("--talk", action="store_true")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model = LlamaForCausalLM.from_pretrained(chosen.folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(chosen.folder)
    record: dict[str, dict[str, list[float]]] = {}
    for name in chosen.only:
        begun = time.monotonic()
        of = {language: outcome(model, tokenizer, name, language, chosen.each, chosen.seed) for language in LANGUAGES}
        record[name] = {language: [made.share.value, made.share.low, made.share.high] for language, made in of.items()}
        cells = [
            f"{language} {made.share.value:4.0%} ({made.share.low:.0%}–{made.share.high:.0%})" for language, made in of.items()
        ]
        goal = ABILITIES[name].goal
        aimed = f"goal {goal:.0%}" if goal else ""
        print(
            f"{name:10} {'  '.join(cells):42} {aimed:9} {ABILITIES[name].title} ({time.monotonic() - begun:.0f} s)",
            file=sys.stderr,
            flush=True,
        )
        for language, made in of.items():
            for text, want in made.wrong[: chosen.wrong]:
                print(f"    {language}: {text!r} instead of {want!r}", file=sys.stderr)
    if chosen.talk:
        said = answers(model, tokenizer, [[{"role": "user", "content": question}] for question in QUESTIONS])
        for question, text in zip(QUESTIONS, said, strict=True):
            print(f"{question}\n    {text}", file=sys.stderr)
    if chosen.json:
        print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
